package status

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/internal/deploy"
)

// serving runs Serve until the test ends or stop is called, and returns the TCP address.
func serving(t *testing.T, b *Board, l Listen) (address string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	up := make(chan net.Addr, 2)
	l.Listening = func(a net.Addr) { up <- a }
	go func() { ended <- b.Serve(ctx, l) }()
	want := 0
	for _, s := range []string{l.Address, l.Socket} {
		if s != "" {
			want++
		}
	}
	for range want {
		select {
		case a := <-up:
			if a.Network() == "tcp" {
				address = a.String()
			}
		case err := <-ended:
			t.Fatalf("serve: %v", err)
		}
	}
	stopped := false
	stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			must(t, err)
		case <-time.After(deadline):
			t.Fatal("it does not stop")
		}
	}
	t.Cleanup(stop)
	return address, stop
}

// shortDir is a directory whose path is short enough for sockets, whatever the test is called.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tl")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func client(t *testing.T, at string) *Client {
	t.Helper()
	c, err := NewClient(at)
	must(t, err)
	return c
}

func TestServe(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*deadline)
	defer cancel()
	t.Run("the socket may control, the address may only read", func(t *testing.T) {
		c := &controls{}
		socket := filepath.Join(shortDir(t), "new", "agent.sock")
		address, stop := serving(t, fullBoard(), Listen{Address: "127.0.0.1:0", Socket: socket, Controls: c})
		fi, err := os.Stat(socket)
		must(t, err)
		equal(t, "mode", os.FileMode(0o660), fi.Mode().Perm())
		must(t, client(t, socket).Reload(ctx))
		must(t, client(t, socket).Reconcile(ctx, manifests("web"), Haste{WithSource: true}))
		equal(t, "calls", []call{{Reload: true}, {Name: manifests("web"), Haste: Haste{WithSource: true}}}, c.calls)
		if err := client(t, address).Reload(ctx); !errors.Is(err, ErrReadOnly) {
			t.Errorf("reload over the address: %v", err)
		}
		s, err := client(t, address).Status(ctx)
		must(t, err)
		equal(t, "status over the address", fullBoard().Status(), s)
		stop()
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	t.Run("the address may control where that was allowed", func(t *testing.T) {
		c := &controls{}
		address, _ := serving(t, fullBoard(), Listen{Address: "127.0.0.1:0", Controls: c, AllowControl: true})
		must(t, client(t, address).Reload(ctx))
		equal(t, "calls", []call{{Reload: true}}, c.calls)
	})
	t.Run("with nothing to listen on it waits for the end", func(t *testing.T) {
		_, stop := serving(t, emptyBoard(), Listen{})
		stop()
	})
	t.Run("an address that is taken is named, and no socket is left", func(t *testing.T) {
		address, _ := serving(t, emptyBoard(), Listen{Address: "127.0.0.1:0"})
		socket := filepath.Join(shortDir(t), "agent.sock")
		err := emptyBoard().Serve(ctx, Listen{Address: address, Socket: socket})
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), address) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket was made: %v", err)
		}
	})
	t.Run("ends open streams when it stops", func(t *testing.T) {
		address, stop := serving(t, fullBoard(), Listen{Address: "127.0.0.1:0"})
		first := make(chan struct{}, 1)
		ended := make(chan error, 1)
		go func() {
			ended <- client(t, address).Watch(ctx, func(Status) error { first <- struct{}{}; return nil })
		}()
		<-first
		began := time.Now()
		stop()
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("the watcher got %v", err)
		}
		if took := time.Since(began); took >= shutdownGrace {
			t.Errorf("stopping took %s: the stream was cut off, not ended", took)
		}
	})
	t.Run("lets a running request end when it stops", func(t *testing.T) {
		slow := &slowControls{began: make(chan struct{}), goOn: make(chan struct{})}
		socket := filepath.Join(shortDir(t), "agent.sock")
		_, stop := serving(t, fullBoard(), Listen{Socket: socket, Controls: slow})
		answered := make(chan error, 1)
		go func() { answered <- client(t, socket).Reload(ctx) }()
		<-slow.began
		go func() {
			for { // Shutdown closes the listener first
				c, err := net.Dial("unix", socket)
				if err != nil {
					close(slow.goOn)
					return
				}
				_ = c.Close()
			}
		}()
		stop()
		must(t, <-answered)
	})
}

// slowControls reload when told to.
type slowControls struct{ began, goOn chan struct{} }

func (s *slowControls) Reconcile(context.Context, deploy.Name, Haste) error { return nil }

func (s *slowControls) Rollback(context.Context, deploy.Name, string) (string, error) { return "", nil }

func (s *slowControls) Reload(ctx context.Context) error {
	close(s.began)
	select {
	case <-s.goOn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestSocket(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	t.Run("replaces one that nobody answers", func(t *testing.T) {
		socket := filepath.Join(shortDir(t), "agent.sock")
		leave(t, socket)
		serving(t, emptyBoard(), Listen{Socket: socket})
		_, err := client(t, socket).Status(ctx)
		must(t, err)
	})
	t.Run("leaves one alone that is answered", func(t *testing.T) {
		socket := filepath.Join(shortDir(t), "agent.sock")
		serving(t, fullBoard(), Listen{Socket: socket})
		err := emptyBoard().Serve(ctx, Listen{Socket: socket})
		if want := "another agent listens on " + socket + ": stop it, or choose another path with --socket"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		s, err := client(t, socket).Status(ctx)
		must(t, err)
		equal(t, "targets of the first agent", 3, s.Summary.Targets.Total)
	})
	t.Run("leaves a file alone that is no socket", func(t *testing.T) {
		socket := filepath.Join(shortDir(t), "agent.sock")
		must(t, os.WriteFile(socket, []byte("mine"), 0o600))
		err := emptyBoard().Serve(ctx, Listen{Socket: socket})
		if err == nil || !strings.Contains(err.Error(), "is in the way and is not a socket") {
			t.Errorf("got %v", err)
		}
		b, err := os.ReadFile(socket)
		must(t, err)
		equal(t, "file", "mine", string(b))
	})
	t.Run("says that a path is too long", func(t *testing.T) {
		socket := filepath.Join("/tmp", strings.Repeat("x", 120), "agent.sock")
		err := emptyBoard().Serve(ctx, Listen{Socket: socket})
		if err == nil || !strings.Contains(err.Error(), "has 136 bytes and may have 103: choose a shorter one with --socket") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the longest path that is allowed works", func(t *testing.T) {
		dir := shortDir(t)
		socket := filepath.Join(dir, strings.Repeat("x", maxSocketPath-len(dir)-1))
		leave(t, socket)
		serving(t, emptyBoard(), Listen{Socket: socket})
		_, err := client(t, socket).Status(ctx)
		must(t, err)
	})
	t.Run("of several agents that start at once on a stale socket, one wins", func(t *testing.T) {
		socket := filepath.Join(shortDir(t), "agent.sock")
		leave(t, socket)
		const agents = 8
		listeners, refused := make(chan net.Listener, agents), make(chan error, agents)
		for range agents {
			go func() {
				l, err := listenUnix(ctx, socket)
				if err != nil {
					refused <- err
					return
				}
				listeners <- l
			}()
		}
		for range agents - 1 {
			<-refused
		}
		l := <-listeners
		c, err := net.Dial("unix", socket)
		must(t, err)
		must(t, c.Close())
		must(t, l.Close())
	})
}

// leave leaves a socket behind as a process does that is killed.
func leave(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	must(t, l.Close())
}

func TestStreamLimit(t *testing.T) {
	b := fullBoard()
	address, stop := serving(t, b, Listen{Address: "127.0.0.1:0"})
	hc := &http.Client{Transport: &http.Transport{}}
	defer hc.CloseIdleConnections()
	open := func() *http.Response {
		t.Helper()
		resp, err := hc.Get("http://" + address + "/api/v1/events?watch")
		must(t, err)
		return resp
	}
	t.Run("one stream too many is refused", func(t *testing.T) {
		for range maxStreams {
			resp := open()
			defer resp.Body.Close()
			equal(t, "code", http.StatusOK, resp.StatusCode)
		}
		resp := open()
		defer resp.Body.Close()
		equal(t, "code of the one too many", http.StatusServiceUnavailable, resp.StatusCode)
	})
	stop()
	equal(t, "watchers that are left", 0, len(b.watchers))
}
