package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// serviceRange is where ClusterIPs come from; firstServiceIP is what the apiserver gives to the Service kubernetes.default.
const serviceRange = "10.96.0.0/16"

var firstServiceIP = net.IPv4(10, 96, 0, 1)

// auditPolicy writes one line for every finished request, watches included (when they end), without bodies.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
`

// auditMaxSize is in megabytes: rotation would hide requests from a test that counts them.
const auditMaxSize = "100000"

func apiServerArgs(opts options, p ports, keys *pki) ([]string, error) {
	args := []string{
		"--etcd-servers=http://" + p.etcdClient.host(),
		"--bind-address=127.0.0.1",
		"--secure-port=" + p.apiServer.String(),
		"--permit-port-sharing",
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // 127.0.0.1 is not a legal endpoint address
		"--tls-cert-file=" + keys.path("serving.crt"),
		"--tls-private-key-file=" + keys.path("serving.key"),
		"--client-ca-file=" + keys.path("ca.crt"),
		"--authorization-mode=Node,RBAC",
		"--allow-privileged",
		"--service-cluster-ip-range=" + serviceRange,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + keys.path("service-account.key"),
		"--service-account-signing-key-file=" + keys.path("service-account.key"),
		"--requestheader-client-ca-file=" + keys.path("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + keys.path("front-proxy.crt"),
		"--proxy-client-key-file=" + keys.path("front-proxy.key"),
	}
	if opts.onlyAPIServer {
		// Without controllers no ServiceAccount ever appears, and Pods could not be created.
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	if opts.audit {
		policy := filepath.Join(opts.dir, "audit-policy.yaml")
		if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
			return nil, fmt.Errorf("write the audit policy: %w", err)
		}
		args = append(args,
			"--audit-policy-file="+policy,
			"--audit-log-path="+filepath.Join(opts.dir, "audit.log"),
			"--audit-log-mode=blocking", // a line is in the file before the client has the answer's end
			"--audit-log-maxsize="+auditMaxSize,
		)
	}
	return args, nil
}
