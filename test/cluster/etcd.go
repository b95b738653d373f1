package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

const (
	// etcdTick and etcdElection are a tenth of the defaults (milliseconds): a single member on the loopback elects itself sooner.
	etcdTick, etcdElection = 10, 100
	// etcdQuota is in bytes; far more than a test writes, and the default of 2 GiB would be reached by long benchmarks without compaction.
	etcdQuota = 4 << 30
)

func etcdArgs(dataDir string, p ports) []string {
	return []string{
		"--data-dir=" + dataDir,
		"--client=" + p.etcdClient.host(),
		"--peer=" + p.etcdPeer.host(),
	}
}

// runEtcd is the etcd component.
func runEtcd(args []string) int {
	flags := flag.NewFlagSet(etcdName, flag.ExitOnError)
	dataDir := flags.String("data-dir", "", "data directory")
	client := flags.String("client", "", "host:port for clients")
	peer := flags.String("peer", "", "host:port for peers")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := serveEtcd(*dataDir, *client, *peer); err != nil {
		fmt.Fprintf(os.Stderr, "etcd: %v\n", err)
		return 1
	}
	return 0
}

// serveEtcd runs one member until SIGTERM or SIGINT.
func serveEtcd(dataDir, client, peer string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)

	clientURL := []url.URL{{Scheme: "http", Host: client}}
	peerURL := []url.URL{{Scheme: "http", Host: peer}}
	config := embed.NewConfig()
	config.Name = "default"
	config.Dir = dataDir
	config.ListenClientUrls, config.AdvertiseClientUrls = clientURL, clientURL
	config.ListenPeerUrls, config.AdvertisePeerUrls = peerURL, peerURL
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.SocketOpts = transport.SocketOpts{ReusePort: true}
	config.UnsafeNoFsync = true // nothing here outlives the process, and a slow disk must not slow the tests
	config.LogLevel = "warn"
	config.LogOutputs = []string{"stderr"}
	config.TickMs, config.ElectionMs = etcdTick, etcdElection
	config.QuotaBackendBytes = etcdQuota
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer server.Close()
	select {
	case <-signals:
		return nil
	case err := <-server.Err():
		return fmt.Errorf("serve: %w", err)
	case <-server.Server.StopNotify():
		return fmt.Errorf("stopped by itself")
	}
}
