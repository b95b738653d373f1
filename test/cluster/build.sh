#!/bin/sh
# Builds the test control plane into bin/cluster at the top of the repository, or to the path that is given.
# The version is stamped because an unstamped apiserver says v0.0.0-master, which no chart's kubeVersion accepts.
set -eu
cd "$(dirname "$0")"
out=${1:-../../bin/cluster}
version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' go.mod)
major=${version#v}
minor=${major#*.}
stamp=k8s.io/component-base/version
CGO_ENABLED=0 GOWORK=off go build -trimpath -o "$out" -ldflags "-s -w \
 -X $stamp.gitVersion=$version -X $stamp.gitMajor=${major%%.*} -X $stamp.gitMinor=${minor%%.*} \
 -X $stamp.gitTreeState=clean -X $stamp.gitCommit=towline-test-cluster" .
