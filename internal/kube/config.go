package kube

import (
	"errors"
	"fmt"
	"runtime/debug"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Load finds out how to reach the cluster. A path names one kubeconfig; an empty path means the pod's own service account where there is one, else
// $KUBECONFIG and ~/.kube/config. An empty context is the kubeconfig's current one; naming one means a kubeconfig even inside a pod.
func Load(kubeconfig, context string) (*rest.Config, error) {
	if kubeconfig == "" && context == "" {
		cfg, err := rest.InClusterConfig()
		if err == nil {
			return tune(cfg), nil
		}
		if !errors.Is(err, rest.ErrNotInCluster) {
			return nil, fmt.Errorf("read the pod's service account: %w", err)
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("no cluster configured: not in a pod and no kubeconfig found; pass --kubeconfig or set KUBECONFIG")
	case err != nil:
		return nil, fmt.Errorf("load kubeconfig: %w", err)
	}
	return tune(cfg), nil
}

// tune sets what every client of the agent shares.
func tune(cfg *rest.Config) *rest.Config {
	cfg.QPS = -1 // no client-side limit: the server's priority and fairness knows better, and the engines bound their own workers
	cfg.UserAgent = "towline/" + version()
	cfg.WarningHandler = &warnings{}
	return cfg
}

// version of the running binary as the Go toolchain stamped it.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "devel"
}
