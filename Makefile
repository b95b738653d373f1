# make help lists the targets. Everything builds into bin/; nothing outside this folder is touched.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# Build tags of the agent: aws, azure, gcp or cloud (all three) add the logins of these clouds, at 1 to 4 MB.
TAGS    ?=
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# Packages that are not inlined: generated code and libraries that no hot path goes through. It takes 10 MB off the binary.
GCFLAGS := $(shell cat cmd/agent/gcflags)
BIN     := $(CURDIR)/bin
# Packages whose tests start a control plane take about 1 GiB each while they run: two at a time.
TESTFLAGS ?= -p 2 -timeout 15m

TEST_BINARIES := bin/cluster bin/cosign bin/notation bin/helm bin/gotestsum

CLUSTER_SOURCES := $(filter-out %_test.go,$(wildcard test/cluster/*.go)) test/cluster/go.mod test/cluster/go.sum test/cluster/build.sh

export CGO_ENABLED ?= 0
# test/cluster is always built with -trimpath, as by its build.sh, so that Kubernetes is compiled once.

.PHONY: help build demo test check bench clean fmt lint deadcode tidy-check generate-check race install-man

help: ## show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the agent into bin/towline
	@$(GO) run ./test/progress "the agent" $(GO) build -tags '$(TAGS)' $(GCFLAGS) -ldflags '$(LDFLAGS)' -o $(BIN)/towline ./cmd/agent

bin/cluster: $(CLUSTER_SOURCES)
	@echo "building the test control plane (the first time takes minutes: it compiles Kubernetes)"
	@$(GO) build -o $(BIN)/progress ./test/progress
	@GO="$(BIN)/progress cluster $(GO)" sh test/cluster/build.sh $(BIN)/cluster

bin/gotestsum: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o $(BIN)/gotestsum gotest.tools/gotestsum && touch $(BIN)/gotestsum

bin/golangci-lint: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o $(BIN)/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint && touch $(BIN)/golangci-lint

bin/deadcode: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o $(BIN)/deadcode golang.org/x/tools/cmd/deadcode && touch $(BIN)/deadcode

bin/benchstat: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o $(BIN)/benchstat golang.org/x/perf/cmd/benchstat && touch $(BIN)/benchstat

# The real signers, for tests only.
bin/cosign: test/signers/go.mod test/signers/go.sum
	cd test/signers && $(GO) build -ldflags '-s -w' -o $(BIN)/cosign github.com/sigstore/cosign/v3/cmd/cosign && touch $(BIN)/cosign

bin/notation: test/signers/go.mod test/signers/go.sum
	cd test/signers && $(GO) build -ldflags '-s -w' -o $(BIN)/notation github.com/notaryproject/notation/cmd/notation && touch $(BIN)/notation

# Helm's own command line, for tests only.
bin/helm: test/helm/go.mod test/helm/go.sum
	cd test/helm && $(GO) build -ldflags '-s -w' -o $(BIN)/helm helm.sh/helm/v3/cmd/helm && touch $(BIN)/helm

demo: build bin/cluster ## run the agent on a local cluster and registry (ARGS=--exit: play its own story and end)
	@$(GO) build -o $(BIN)/demo ./test/demo
	@$(BIN)/demo --agent $(BIN)/towline --cluster-binary $(BIN)/cluster $(ARGS)

test: $(TEST_BINARIES) ## run every test, on a real API server and a real registry
	$(BIN)/gotestsum --format pkgname-and-test-fails -- $(TESTFLAGS) ./...
	$(GO) test -tags cloud ./internal/artifact/login
	cd test/cluster && $(GO) test -trimpath ./...

check: fmt lint deadcode tidy-check race ## what CI holds a change against: format, lint, arrows, dead code, tidy, race

fmt:
	@out=$$(gofmt -l cmd internal test); test -z "$$out" || { echo "gofmt these files:"; echo "$$out"; exit 1; }
	@out=$$($(GO) fix -stringsbuilder=false -diff ./... 2>&1); test -z "$$out" || { echo "$$out"; echo "go fix -stringsbuilder=false ./... mends this"; exit 1; }

lint: bin/golangci-lint
	$(BIN)/golangci-lint run ./...
	$(GO) vet -tags cloud ./internal/artifact/login ./cmd/agent
	cd test/cluster && $(GO) vet -trimpath ./...

deadcode: bin/deadcode
	@out=$$($(BIN)/deadcode -test ./...); test -z "$$out" || { echo "unreachable:"; echo "$$out"; exit 1; }

tidy-check:
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff
	cd test/helm && $(GO) mod tidy -diff
	cd test/cluster && $(GO) mod tidy -diff

race: $(TEST_BINARIES)
	CGO_ENABLED=1 $(BIN)/gotestsum --format pkgname-and-test-fails -- -race -short $(TESTFLAGS) ./internal/... ./cmd/...

bench: bin/cluster ## run the benchmarks against the local control plane
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m ./...

clean: ## remove what was built
	rm -rf $(BIN) dist
