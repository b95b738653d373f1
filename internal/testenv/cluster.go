package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// startLimit is how long a control plane may take to become usable; 4–8 s is usual, a loaded machine needs more.
const startLimit = 3 * time.Minute

// stopLimit is how long it may take to stop before it is killed.
const stopLimit = 20 * time.Second

// ClusterOptions say what StartCluster starts.
type ClusterOptions struct {
	// Binary is the built test/cluster. Empty: bin/cluster of this repository.
	Binary string
	// OnlyAPIServer leaves controllers, scheduler and kubelet out: faster where no object has to become ready.
	OnlyAPIServer bool
	// Progress receives a line per stage. Nil: nothing.
	Progress io.Writer
}

// ControlPlane is a running test cluster on 127.0.0.1.
type ControlPlane struct {
	// Kubeconfig is the path of an administrator's kubeconfig.
	Kubeconfig string
	// Config is the same as a client configuration. Copy before changing it.
	Config *rest.Config
	// Dir holds everything that the cluster wrote: certificates, data, logs.
	Dir string

	process *os.Process
	done    chan struct{}
	exit    error // why the process ended; read it after done is closed
	stop    sync.Once
}

// StartCluster starts a control plane below dir and returns when it is usable. The cluster dies with this process.
func StartCluster(ctx context.Context, dir string, opts ClusterOptions) (*ControlPlane, error) {
	binary := opts.Binary
	if binary == "" {
		root, err := Root()
		if err != nil {
			return nil, err
		}
		binary = filepath.Join(root, "bin", "cluster")
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("the test control plane is not built (make bin/cluster builds it): %w", err)
	}
	args := []string{"--dir", dir, "--die-with-parent", "--audit"}
	if opts.OnlyAPIServer {
		args = append(args, "--only-apiserver")
	}
	c := &ControlPlane{Dir: dir, Kubeconfig: filepath.Join(dir, "kubeconfig"), done: make(chan struct{})}
	if err := c.start(binary, args, opts.Progress); err != nil {
		return nil, err
	}
	if err := c.awaitUsable(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// start runs the binary from a thread of its own that lives as long as the child: the kernel's signal at the parent's death goes by thread.
func (c *ControlPlane) start(binary string, args []string, progress io.Writer) error {
	var stderr bytes.Buffer
	cmd := exec.Command(binary, args...) //nolint:noctx // it outlives the call, and ends by Stop or with this process
	cmd.Stderr = &stderr
	if progress != nil {
		cmd.Stderr = io.MultiWriter(&stderr, progress)
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		c.process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		if err := cmd.Wait(); err != nil {
			c.exit = fmt.Errorf("test control plane: %w\n%s", err, tail(stderr.String()))
		}
		close(c.done)
	}()
	return <-started
}

func (c *ControlPlane) awaitUsable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(c.Kubeconfig); err == nil { // written last, at once
			c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
			if err == nil {
				c.Config.QPS = -1
			}
			return err
		}
		select {
		case <-tick.C:
		case <-c.done:
			return errors.Join(errors.New("test control plane ended before it was usable"), c.exit)
		case <-ctx.Done():
			return fmt.Errorf("test control plane was not usable in time (logs in %s): %w", filepath.Join(c.Dir, "logs"), context.Cause(ctx))
		}
	}
}

// Stop ends the cluster and waits for it. It is safe to call twice.
func (c *ControlPlane) Stop() error {
	var err error
	c.stop.Do(func() {
		_ = c.process.Signal(syscall.SIGTERM) // an error means that it is gone, which Wait tells too
		select {
		case <-c.done:
		case <-time.After(stopLimit):
			_ = c.process.Kill()
			<-c.done
			err = fmt.Errorf("test control plane did not stop within %s", stopLimit)
		}
	})
	return err
}

// Root is the top of this repository, found from the working folder upwards.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/towline/towline\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the towline repository")
		}
		dir = parent
	}
}

// tail is the end of a text, enough for an error message.
func tail(s string) string {
	const most = 2000 // bytes
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}
