package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// signals is what the service manager says to the agent and hears from it. Without systemd the notifications go nowhere.
type signals struct {
	hangup chan os.Signal
}

func newSignals() *signals {
	s := &signals{hangup: make(chan os.Signal, 1)}
	signal.Notify(s.hangup, syscall.SIGHUP)
	return s
}

func (s *signals) stop() { signal.Stop(s.hangup) }

// The notifications of sd_notify(3). A service manager that does not listen is no error of ours.

func (*signals) notifyReady()    { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) }
func (*signals) notifyStopping() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }

// notifyReloading must carry the monotonic clock in µs: sd_notify(3), RELOADING=1.
func (*signals) notifyReloading() {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return
	}
	_, _ = daemon.SdNotify(false, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, t.Nano()/1000))
}

// watchdog pats systemd's watchdog twice per period, if there is one.
func (*signals) watchdog(ctx context.Context) error {
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil || period == 0 {
		return nil //nolint:nilerr // a malformed WATCHDOG_USEC means: no watchdog
	}
	tick := time.NewTicker(period / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
	}
}
