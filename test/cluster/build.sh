#!/bin/sh
# Builds the test control plane into bin/cluster at the top of the repository, or to the path that is given.
# The version is stamped because an unstamped apiserver says v0.0.0-master, which no chart's kubeVersion accepts.
set -eu
out=${1:-$(dirname "$0")/../../bin/cluster}
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
cd "$(dirname "$0")"
version=$(sed -n 's/^[[:space:]]*k8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' go.mod)
major=${version#v}
minor=${major#*.}
stamp=k8s.io/component-base/version
# Renamed into place, so that clusters which run the former binary, or start at this moment, are not disturbed.
trap 'rm -f "$out.$$"' EXIT
CGO_ENABLED=0 GOWORK=off ${GO:-go} build -trimpath -o "$out.$$" -ldflags "-s -w \
 -X $stamp.gitVersion=$version -X $stamp.gitMajor=${major%%.*} -X $stamp.gitMinor=${minor%%.*} \
 -X $stamp.gitTreeState=clean -X $stamp.gitCommit=towline-test-cluster" .
mv "$out.$$" "$out"
