package status

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deploy"
)

func TestNewClient(t *testing.T) {
	for _, tt := range []struct{ name, in, where, base, err string }{
		{"a path is a socket", "/run/towline/agent.sock", "the socket /run/towline/agent.sock", "http://towline", ""},
		{"a relative path is a socket", "./agent.sock", "the socket ./agent.sock", "http://towline", ""},
		{"unix: may stand before it", "unix:agent.sock", "the socket agent.sock", "http://towline", ""},
		{"so may unix://", "unix:///run/agent.sock", "the socket /run/agent.sock", "http://towline", ""},
		{"host:port is an address", "127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1:8080", ""},
		{"a URL is an address, and may have a path", "https://ops.example.com/towline/", "https://ops.example.com/towline/", "https://ops.example.com/towline", ""},
		{"a password of a URL is not shown", "http://me:hunter2@a.example", "http://me:xxxxx@a.example", "http://me:hunter2@a.example", ""},
		{"anything else is refused", "agent", "", "", `"agent" is neither an address, host:port, nor the path of a socket: address agent: missing port in address`},
		{"a URL without host is refused", "http:///x", "", "", "the agent's address is not a valid URL: want http://host:port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := NewClient(tt.in)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			must(t, err)
			equal(t, "where and base", []string{tt.where, tt.base}, []string{c.where, c.base})
		})
	}
}

func TestClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	b := fullBoard()
	srv := httptest.NewServer(b.Handler(&controls{err: ErrUnknown}))
	defer srv.Close()
	c := client(t, srv.URL)

	t.Run("reads back the status", func(t *testing.T) {
		s, err := c.Status(ctx)
		must(t, err)
		equal(t, "status", b.Status(), s)
	})
	t.Run("reads back an explanation, the errors of changes included", func(t *testing.T) {
		x, err := c.Target(ctx, manifests("web"))
		must(t, err)
		want, _ := b.Explain(manifests("web"))
		equal(t, "explanation", want, x)
	})
	t.Run("an unknown target is ErrUnknown, in the agent's words", func(t *testing.T) {
		_, err := c.Target(ctx, manifests("none"))
		if !errors.Is(err, ErrUnknown) || err.Error() != "there is no target kustomization/apps/none" {
			t.Errorf("got %v", err)
		}
		if err := c.Reconcile(ctx, manifests("none"), Haste{}); !errors.Is(err, ErrUnknown) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("reads back where a rollback led", func(t *testing.T) {
		controlled := httptest.NewServer(b.Handler(&controls{}))
		defer controlled.Close()
		to, err := client(t, controlled.URL).Rollback(ctx, release("web"), "3")
		must(t, err)
		equal(t, "revision", "3", to)
	})
	t.Run("a failed rollback is told in the agent's words", func(t *testing.T) {
		bad := httptest.NewServer(b.Handler(&controls{err: errors.New("there is no revision 9")}))
		defer bad.Close()
		if _, err := client(t, bad.URL).Rollback(ctx, release("web"), "9"); err == nil || err.Error() != "roll back helmrelease/apps/web: there is no revision 9" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a refused config is told in the agent's words", func(t *testing.T) {
		bad := httptest.NewServer(b.Handler(&controls{err: errors.New("config.yaml:3: unknown key")}))
		defer bad.Close()
		if err := client(t, bad.URL).Reload(ctx); err == nil || err.Error() != "config.yaml:3: unknown key" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no agent at the socket is ErrNoAgent and says what to do", func(t *testing.T) {
		dir := shortDir(t)
		missing, stale := filepath.Join(dir, "missing.sock"), filepath.Join(dir, "stale.sock")
		leave(t, stale)
		for _, socket := range []string{missing, stale} {
			_, err := client(t, socket).Status(ctx)
			want := "the socket " + socket + ": no agent is running there: start one with \"towline run\", or say where it is with --socket PATH or --address HOST:PORT"
			if !errors.Is(err, ErrNoAgent) || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		}
	})
	t.Run("no agent at the address is ErrNoAgent", func(t *testing.T) {
		gone := httptest.NewServer(nil)
		gone.Close()
		if err := client(t, gone.URL).Watch(ctx, func(Status) error { return nil }); !errors.Is(err, ErrNoAgent) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("something else at the address is noticed", func(t *testing.T) {
		other := httptest.NewServer(http.RedirectHandler("/login", http.StatusFound))
		defer other.Close()
		_, err := client(t, other.URL).Status(ctx)
		if err == nil || !strings.Contains(err.Error(), "answered 302 Found: is it a towline agent?") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWatch(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	b := fullBoard()
	srv := httptest.NewServer(b.Handler(nil))
	defer srv.Close()
	done := errors.New("done")

	t.Run("gives the board, then each change, until it is as it should be", func(t *testing.T) {
		first := true
		var last Status
		err := client(t, srv.URL).Watch(ctx, func(s Status) error {
			if first {
				first = false
				equal(t, "the first", b.Status(), s)
				b.TargetState(readyTarget("web"))
				b.TargetState(readyTarget("a-new-one"))
				b.TargetGone(release("db"))
				b.SourceGone(source("db-chart"))
				b.SourceState(deploy.SourceState{Name: source("web"), Ready: true, Revision: "v2"})
				b.ConfigFailed(errors.New("config.yaml:3: unknown key"))
				return nil
			}
			last = s
			if s.Config.Error != "" && s.Summary.Targets.Ready == 3 && len(s.Sources) == 1 {
				return done
			}
			return nil
		})
		if !errors.Is(err, done) {
			t.Fatalf("got %v; the last was %+v", err, last)
		}
		equal(t, "the last", b.Status(), last)
	})
	t.Run("starts over when more left than is remembered", func(t *testing.T) {
		rec := httptest.NewRecorder()
		b.mu.Lock()
		b.goneFloor = b.seq
		b.mu.Unlock()
		(&server{board: b}).changesSince(0, &stream{w: rec, rc: http.NewResponseController(rec)})
		if got := rec.Body.String(); !strings.HasPrefix(got, "event: status\ndata: {") {
			t.Errorf("got %.80s", got)
		}
	})
	t.Run("ends with the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		err := client(t, srv.URL).Watch(ctx, func(Status) error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("without ?watch the stream is the board once", func(t *testing.T) {
		resp, err := srv.Client().Get(srv.URL + "/api/v1/events")
		must(t, err)
		defer resp.Body.Close()
		equal(t, "type", "text/event-stream", resp.Header.Get("Content-Type"))
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		lines := bufio.NewScanner(strings.NewReader(string(body)))
		lines.Buffer(nil, maxEvent)
		var starts []string
		for lines.Scan() {
			starts = append(starts, strings.SplitN(lines.Text(), "{", 2)[0])
		}
		equal(t, "lines", []string{"event: status", "data: ", "", ": end", ""}, starts)
	})
	t.Run("passes over events of a newer agent", func(t *testing.T) {
		var s Status
		must(t, s.fold("weather", []byte(`"sunny"`)))
	})
	t.Run("says so when an event cannot be read", func(t *testing.T) {
		bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "event: target\ndata: {\n\n")
		}))
		defer bad.Close()
		if err := client(t, bad.URL).Watch(ctx, func(Status) error { return nil }); err == nil || !strings.Contains(err.Error(), "read an event of "+bad.URL) {
			t.Errorf("got %v", err)
		}
	})
}
