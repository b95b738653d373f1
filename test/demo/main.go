// Command demo shows the agent at work: it starts a local control plane and a local registry, publishes a sample as manifests and as a chart, and
// runs the agent on them. With --exit it plays a story of its own and ends with an exit code.
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
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/towline/towline/internal/testenv"
)

type options struct {
	agent, clusterBinary string
	current              bool
	exit                 bool
	listen               string
}

func main() {
	var o options
	flag.StringVar(&o.agent, "agent", "bin/towline", "the agent's binary")
	flag.StringVar(&o.clusterBinary, "cluster-binary", "bin/cluster", "the test control plane's binary")
	flag.BoolVar(&o.current, "current", os.Getenv("CLUSTER") == "current", "use the current kubeconfig's cluster instead of a local one (also CLUSTER=current)")
	flag.BoolVar(&o.exit, "exit", false, "play the story and end")
	flag.StringVar(&o.listen, "listen", "", "address of the agent's status page (default 127.0.0.1:9797; with --exit a free port)")
	flag.Parse()
	if o.listen == "" {
		o.listen = "127.0.0.1:9797"
		if o.exit { // nobody will look: do not stand in the way of a running agent
			o.listen = "127.0.0.1:0"
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "towline-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if err == nil || errors.Is(err, context.Canceled) {
			_ = os.RemoveAll(dir) // a leftover in the temporary folder harms nobody
			return
		}
		fmt.Fprintf(os.Stderr, "\nlogs and state are kept in %s\n", dir)
	}()
	cfg, kubeconfig, stopCluster, err := cluster(ctx, o, dir)
	if err != nil {
		return err
	}
	defer stopCluster()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	registry, err := testenv.StartRegistry("127.0.0.1:0")
	if err != nil {
		return err
	}
	defer registry.Close()
	d := &demo{options: o, dir: dir, registry: registry, client: client, kubeconfig: kubeconfig}
	say("local registry on %s", registry.Host())
	if err := d.publishFirst(); err != nil {
		return err
	}
	if err := d.startAgent(ctx); err != nil {
		return err
	}
	defer d.stopAgent()
	if o.exit {
		return d.story(ctx)
	}
	return d.interact(ctx)
}

// cluster starts the local control plane, or finds the current one.
func cluster(ctx context.Context, o options, dir string) (cfg *rest.Config, kubeconfig string, stop func(), err error) {
	if o.current {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
		if err == nil {
			say("using the current kubeconfig's cluster, %s", cfg.Host)
		}
		return cfg, "", func() {}, err
	}
	say("starting a local control plane (API server, controllers, scheduler, a simulated kubelet)")
	c, err := testenv.StartCluster(ctx, filepath.Join(dir, "cluster"), testenv.ClusterOptions{Binary: o.clusterBinary, Progress: indent{os.Stderr}})
	if err != nil {
		return nil, "", nil, err
	}
	return c.Config, c.Kubeconfig, func() {
		say("stopping the control plane")
		if err := c.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}, nil
}

func say(format string, args ...any) { fmt.Printf("==> "+format+"\n", args...) }

// indent sets another program's lines off from the demo's own.
type indent struct{ w io.Writer }

func (i indent) Write(b []byte) (int, error) {
	for line := range lines(b) {
		if _, err := fmt.Fprintf(i.w, "    %s\n", line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
