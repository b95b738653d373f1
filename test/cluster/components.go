package main

import (
	_ "time/tzdata" // CronJobs name time zones; a test machine may have none

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // registers the client metrics that the components export
	_ "k8s.io/component-base/metrics/prometheus/version"  // registers the version metric
	"k8s.io/component-base/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// The names of the components: the first argument of the re-executed binary, and the names of their log files.
const (
	etcdName              = "etcd"
	apiServerName         = "kube-apiserver"
	controllerManagerName = "kube-controller-manager"
	schedulerName         = "kube-scheduler"
	kubeletName           = "kubelet"
)

// components are what this binary turns into when its first argument names one. Each needs a process of its own: the upstream commands keep feature
// gates, flag sets and signal handlers in global variables. A component runs until it is signalled and returns its exit code.
var components = map[string]func(args []string) int{
	etcdName:              runEtcd,
	apiServerName:         upstream(apiserver.NewAPIServerCommand),
	controllerManagerName: upstream(controllermanager.NewControllerManagerCommand),
	schedulerName:         upstream(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
}

func upstream(newCommand func() *cobra.Command) func([]string) int {
	return func(args []string) int {
		command := newCommand()
		command.SetArgs(args)
		return cli.Run(command)
	}
}

// kubernetesVersion is what the binary was stamped with when it was built, such as v1.37.2.
func kubernetesVersion() string { return version.Get().GitVersion }
