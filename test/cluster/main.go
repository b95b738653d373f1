// Command cluster runs a whole Kubernetes control plane for tests: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as they are
// released, and a simulated kubelet, all in one binary and all on 127.0.0.1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// startTimeout bounds the whole start. A loaded machine with two cores has needed half a minute; beyond two minutes something hangs.
const startTimeout = 2 * time.Minute

// The children ask the kernel to kill them when the thread that forked them ends, so all forks happen on the main thread, which lives as long
// as the process.
func init() { runtime.LockOSThread() }

// options are what the command line decides.
type options struct {
	dir           string        // everything is written below it
	nodes         int           // simulated nodes
	onlyAPIServer bool          // etcd and kube-apiserver, nothing else
	audit         bool          // write dir/audit.log
	dieWithParent bool          // get killed when the parent process ends
	quiet         bool          // no progress on stderr
	timeout       time.Duration // for the whole start
}

func main() {
	if len(os.Args) > 1 {
		if run, ok := components[os.Args[1]]; ok {
			watchParent()
			os.Exit(run(os.Args[2:]))
		}
	}
	os.Exit(supervise(os.Args[1:], os.Stderr))
}

// supervise parses the command line and runs a cluster until a signal arrives or a component fails. It returns the exit code: 0 after a signal,
// 1 after a failure, 2 for wrong usage.
func supervise(args []string, stderr io.Writer) int {
	opts, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "cluster: %v\n", err)
		return 2
	}
	if opts.dieWithParent {
		if err := dieWithParent(); err != nil {
			fmt.Fprintf(stderr, "cluster: %v\n", err)
			return 1
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := runCluster(ctx, opts, stderr); err != nil {
		fmt.Fprintf(stderr, "cluster: %v\n", err)
		return 1
	}
	return 0
}

// parseOptions reads the command line. The directory becomes absolute, because the components are given paths below it.
func parseOptions(args []string, output io.Writer) (options, error) {
	var opts options
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&opts.dir, "dir", "", "directory for certificates, data, logs and the kubeconfig (required)")
	flags.IntVar(&opts.nodes, "nodes", 1, "number of simulated nodes")
	flags.BoolVar(&opts.onlyAPIServer, "only-apiserver", false, "start etcd and kube-apiserver only: no controllers, no scheduler, no nodes")
	flags.BoolVar(&opts.audit, "audit", false, "write every finished request to DIR/audit.log, as JSON lines without bodies")
	flags.BoolVar(&opts.dieWithParent, "die-with-parent", false, "get killed, with everything that was started, when the parent process ends")
	flags.BoolVar(&opts.quiet, "quiet", false, "print no progress")
	flags.DurationVar(&opts.timeout, "timeout", startTimeout, "give up when the cluster is not usable by then")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	switch {
	case flags.NArg() > 0:
		return options{}, fmt.Errorf("unexpected argument %q: there are flags only (see --help)", flags.Arg(0))
	case opts.dir == "":
		return options{}, errors.New("--dir is required: the directory that the cluster writes to")
	case opts.nodes < 1 || opts.nodes > maxNodes:
		return options{}, fmt.Errorf("--nodes %d: between 1 and %d", opts.nodes, maxNodes)
	}
	dir, err := filepath.Abs(opts.dir)
	if err != nil {
		return options{}, fmt.Errorf("resolve --dir: %w", err)
	}
	opts.dir = dir
	return opts, nil
}
