// Package testenv starts the real parts that tests and the demo run against: a Kubernetes control plane and an OCI registry, both on 127.0.0.1.
package testenv
