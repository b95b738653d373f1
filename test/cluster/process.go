package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// stopGrace is how long a component may take to end after SIGTERM. What it would still write is thrown away with the cluster.
	stopGrace = 3 * time.Second
	// tailLines and tailBytes bound what is shown of the log of a component that failed.
	tailLines = 20
	tailBytes = 16 << 10
)

// process is a running component.
type process struct {
	name    string
	logFile string
	command *exec.Cmd
	done    chan struct{} // closed after err is set
	err     error         // how it ended
}

// startProcess re-executes this binary as the component, in a process group of its own, so that a Ctrl-C in a terminal reaches the supervisor only,
// which then stops the components in order. It must be called on the main goroutine (see init).
func startProcess(name, dir string, args []string, died chan<- *process) (*process, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start %s: find the own binary: %w", name, err)
	}
	logFile := filepath.Join(dir, "logs", name+".log")
	log, err := os.Create(logFile)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	command := exec.Command(executable, append([]string{name}, args...)...)
	command.Dir = dir
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = childAttributes()
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, logFile: logFile, command: command, done: make(chan struct{})}
	go func() {
		p.err = command.Wait()
		close(p.done)
		died <- p
	}()
	return p, nil
}

// stop asks the component to end, insists after stopGrace, and returns when it is gone.
func (p *process) stop() {
	if p == nil {
		return
	}
	// Signalling fails only when the process has ended already.
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(stopGrace):
	}
	_ = p.command.Process.Kill()
	<-p.done
}

// failure says how the component ended, with the end of its log.
func (p *process) failure() error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended by itself (%s); the end of %s:\n%s", p.name, how, p.logFile, tail(p.logFile))
}

// tail returns the last lines of a file, or why it can't.
func tail(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(content) > tailBytes {
		content = content[len(content)-tailBytes:]
	}
	lines := strings.Split(string(bytes.TrimSpace(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
