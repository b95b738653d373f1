package main_test

import (
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdAPIAway lets agents that start from now on look for the API server at an address where nobody answers yet.
func cmdAPIAway(ts *testscript.TestScript, _ bool, _ []string) {
	w := of(ts)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	w.front = l.Addr().String()
	ts.Check(l.Close())
	real, err := url.Parse(w.cluster.Config.Host)
	ts.Check(err)
	w.behind = real.Host
	config, err := os.ReadFile(ts.Getenv("TOWLINE_KUBECONFIG"))
	ts.Check(err)
	text := strings.ReplaceAll(string(config), w.behind, w.front)
	if text == string(config) {
		ts.Fatalf("the kubeconfig does not say %s", w.behind)
	}
	path := ts.MkAbs("away.yaml")
	ts.Check(os.WriteFile(path, []byte(text), 0o600))
	ts.Setenv("TOWLINE_KUBECONFIG", path)
}

// cmdAPIBack lets the API server be found there.
func cmdAPIBack(ts *testscript.TestScript, _ bool, _ []string) {
	w := of(ts)
	l, err := net.Listen("tcp", w.front)
	ts.Check(err)
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		open = append(open, c)
	}
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", w.behind)
			if err != nil {
				_ = in.Close()
				continue
			}
			keep(in)
			keep(out)
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				running.Go(func() {
					_, _ = io.Copy(way[0], way[1]) // either side may hang up
					_ = way[0].Close()
				})
			}
		}
	})
	ts.Defer(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
}
