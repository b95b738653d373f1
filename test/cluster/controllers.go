package main

// The default limits of 20 requests a second with bursts of 30 make Deployments crawl when a test creates many.
const (
	controllerQPS   = "300"
	controllerBurst = "600"
)

// nodeGracePeriod is how long a node may miss heartbeats. A machine that is suspended or overloaded must not look like a node failure.
const nodeGracePeriod = "10m"

func controllerManagerArgs(p ports, keys *pki, kubeconfig string) []string {
	return append(servingArgs(p.controllers, keys, kubeconfig),
		"--use-service-account-credentials",
		"--root-ca-file="+keys.path("ca.crt"),
		"--service-account-private-key-file="+keys.path("service-account.key"),
		"--cluster-signing-cert-file="+keys.path("ca.crt"),
		"--cluster-signing-key-file="+keys.path("ca.key"),
		"--node-monitor-grace-period="+nodeGracePeriod,
	)
}

func schedulerArgs(p ports, keys *pki, kubeconfig string) []string {
	return servingArgs(p.scheduler, keys, kubeconfig)
}

// servingArgs are the flags that kube-controller-manager and kube-scheduler share.
func servingArgs(listen port, keys *pki, kubeconfig string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		"--kube-api-qps=" + controllerQPS,
		"--kube-api-burst=" + controllerBurst,
		"--bind-address=127.0.0.1",
		"--secure-port=" + listen.String(),
		"--permit-port-sharing",
		"--tls-cert-file=" + keys.path("serving.crt"),
		"--tls-private-key-file=" + keys.path("serving.key"),
	}
}
