package main_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/testenv"
)

// TestSpeaksToSystemd plays the service manager's part of sd_notify(3).
func TestSpeaksToSystemd(t *testing.T) {
	agent, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cluster := testenv.Cluster(t)
	dir, err := os.MkdirTemp("", "tl-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte("namespace: "+cluster.Namespace(t)+"\nsources: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()

	cmd := exec.Command(agent, "run", "--config", config, "--kubeconfig", cluster.Kubeconfig, "--listen", "")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+manager.LocalAddr().String(), "WATCHDOG_USEC=400000", "RUNTIME_DIRECTORY="+dir, "CACHE_DIRECTORY="+filepath.Join(dir, "cache"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	awaitNotify(t, manager, "READY=1")
	awaitNotify(t, manager, "WATCHDOG=1")
	if _, err := os.Stat(filepath.Join(dir, "towline.sock")); err != nil {
		t.Errorf("no socket in the runtime directory: %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if said := awaitNotify(t, manager, "RELOADING=1"); !strings.Contains(said, "MONOTONIC_USEC=") {
		t.Errorf("the reload says no time, which Type=notify-reload wants: %q", said)
	}
	awaitNotify(t, manager, "READY=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitNotify(t, manager, "STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the agent did not end in order: %v", err)
	}
}

// awaitNotify reads messages until one begins with want.
func awaitNotify(t *testing.T, manager *net.UnixConn, want string) string {
	t.Helper()
	if err := manager.SetReadDeadline(time.Now().Add(awaitLimit)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := manager.Read(buf)
		if err != nil {
			t.Fatalf("await %s: %v", want, err)
		}
		if said := string(buf[:n]); strings.HasPrefix(said, want) {
			return said
		}
	}
}
