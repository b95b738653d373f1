package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/towline/towline/internal/testenv"
)

// demo is one run of the demo with everything it started.
type demo struct {
	options
	dir, kubeconfig string
	registry        *testenv.Registry
	signer          *signer
	unsigned        string // digest of what waits for a signature
	client          kubernetes.Interface

	agentProcess *exec.Cmd
	agentDone    chan error
}

func (d *demo) publishFirst() (err error) {
	if d.signer, err = newSigner(d.publicKey()); err != nil {
		return err
	}
	say("publishing manifests/podinfo:latest (%s), signed, and charts/podinfo:%s", firstImage, firstChart)
	publishChart(d.registry, firstChart)
	return d.publishManifests(firstImage, true)
}

func (d *demo) publicKey() string { return filepath.Join(d.dir, "cosign.pub") }

func (d *demo) socket() string  { return filepath.Join(d.dir, "towline.sock") }
func (d *demo) logFile() string { return filepath.Join(d.dir, "towline.log") }

// startAgent runs the agent as a user would, with its log in a file.
func (d *demo) startAgent(ctx context.Context) error {
	config := filepath.Join(d.dir, "config.yaml")
	if err := os.WriteFile(config, []byte(agentConfig(d.registry.Host(), d.publicKey())), 0o600); err != nil {
		return err
	}
	log, err := os.Create(d.logFile())
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	args := []string{"run", "--config", config, "--cache-dir", filepath.Join(d.dir, "cache"), "--socket", d.socket(), "--listen", d.listen, "--log-format", "console"}
	if d.kubeconfig != "" {
		args = append(args, "--kubeconfig", d.kubeconfig)
	}
	// Not bound to ctx: an interrupt reaches the agent in its own way, by stopAgent.
	d.agentProcess = exec.Command(d.agent, args...) //nolint:noctx,gosec // see above; the binary is the demo's own
	d.agentProcess.Stdout, d.agentProcess.Stderr = log, log
	d.agentProcess.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.agentProcess.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	d.agentDone = make(chan error, 1)
	go func() { d.agentDone <- d.agentProcess.Wait() }()
	say("agent started: %s %s", d.agent, strings.Join(args, " "))
	return ctx.Err()
}

// stopAgent ends the agent in order and waits for it.
func (d *demo) stopAgent() {
	const limit = 30 * time.Second // an attempt that is applying is let finish
	say("stopping the agent")
	_ = d.agentProcess.Process.Signal(syscall.SIGTERM) // an error means that it is gone already
	select {
	case err := <-d.agentDone:
		if err != nil {
			fmt.Fprintf(os.Stderr, "agent: %v\n", err)
		}
	case <-time.After(limit):
		_ = d.agentProcess.Process.Kill()
		fmt.Fprintf(os.Stderr, "agent did not stop within %s\n", limit)
	}
}

// alive is an error with the end of the log when the agent has ended by itself.
func (d *demo) alive() error {
	select {
	case err := <-d.agentDone:
		d.agentDone <- err
		b, _ := os.ReadFile(d.logFile()) // nothing to show is shown as nothing
		return fmt.Errorf("the agent ended (%w):\n%s", err, b[max(0, len(b)-2000):])
	default:
		return nil
	}
}

// towline runs a command of the agent against the running one and shows it with what it prints.
func (d *demo) towline(ctx context.Context, args ...string) error {
	fmt.Printf("\n$ towline %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.agent, append(args, "--socket", d.socket())...) //nolint:gosec // the binary is the demo's own
	cmd.Stdout, cmd.Stderr = indent{os.Stdout}, indent{os.Stderr}
	err := cmd.Run()
	fmt.Println()
	return err
}

// await calls check until it says nil. The agent's death ends it early.
func (d *demo) await(ctx context.Context, what string, check func(context.Context) error) error {
	const limit = 90 * time.Second // everything here takes seconds; a loaded machine needs more
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	started := time.Now()
	for {
		err := check(ctx)
		if err == nil {
			fmt.Printf("  ✔ %s (%.1fs)\n", what, time.Since(started).Seconds())
			return nil
		}
		if dead := d.alive(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: %w", what, err), context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// lines are the non-empty lines of a text.
func lines(b []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range bytes.Lines(b) {
			if s := strings.TrimRight(string(line), "\n"); s != "" && !yield(s) {
				return
			}
		}
	}
}

// quiet is towline without showing anything.
func (d *demo) quiet(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, d.agent, append(args, "--socket", d.socket())...).CombinedOutput() //nolint:gosec // the binary is the demo's own
	if err != nil {
		return fmt.Errorf("towline %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
