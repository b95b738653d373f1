package notify

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
)

// nobody is an address where nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestWhyNothingArrives(t *testing.T) {
	t.Run("a certificate of a private authority is named as that", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(http.NotFoundHandler())
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		t.Cleanup(srv.Close)
		n, logs := runLogged(t, Options{}, sink(deploy.SinkGeneric, srv.URL+"/"+canary))
		n.ConfigFailed(io.ErrUnexpectedEOF)
		awaitLog(t, logs, "POST to "+srv.URL+": the certificate is signed by an authority that this system does not trust")
	})
	t.Run("no TLS there", func(t *testing.T) {
		r := newReceiver(t)
		n, logs := runLogged(t, Options{}, sink(deploy.SinkGeneric, strings.Replace(r.URL, "http:", "https:", 1)+"/"+canary))
		n.ConfigFailed(io.ErrUnexpectedEOF)
		awaitLog(t, logs, "no TLS there")
	})
	t.Run("nobody listens", func(t *testing.T) {
		at := nobody(t)
		n, logs := runLogged(t, Options{}, sink(deploy.SinkGeneric, "http://user:"+canary+"@"+at+"/"+canary))
		n.ConfigFailed(io.ErrUnexpectedEOF)
		awaitLog(t, logs, "POST to http://"+at+": connection refused")
	})
	t.Run("it leads elsewhere, where the token must not go", func(t *testing.T) {
		elsewhere := newReceiver(t)
		r := newReceiver(t, answer(307, "Location", elsewhere.URL+"/"+canary))
		n, logs := runLogged(t, Options{}, sink(deploy.SinkGeneric, r.URL))
		n.ConfigFailed(io.ErrUnexpectedEOF)
		awaitLog(t, logs, "redirects are not followed")
		if len(elsewhere.faults()) > 0 {
			t.Error("it was followed")
		}
	})
	t.Run("no key to sign with", func(t *testing.T) {
		r := newReceiver(t)
		n, logs := runLogged(t, Options{}, sink(deploy.SinkGenericHMAC, r.URL))
		n.ConfigFailed(io.ErrUnexpectedEOF)
		awaitLog(t, logs, "generic-hmac needs a key")
	})
}

func TestRotation(t *testing.T) {
	t.Run("an event that the old token did not open the door for goes out with the new one", func(t *testing.T) {
		var secret atomic.Value
		secret.Store("old-" + canary)
		read := func(context.Context, string, string) (map[string][]byte, error) {
			return map[string][]byte{"token": []byte(secret.Load().(string))}, nil
		}
		r := newReceiver(t, answer(200), answer(401), answer(200))
		s := sink(deploy.SinkGeneric, r.URL)
		s.Spec.SecretRef = &deploy.LocalRef{Name: "alerts"}
		n := run(t, Options{Secret: read}, s)
		n.ConfigFailed(io.ErrUnexpectedEOF)
		r.await(t, 1)
		secret.Store("new-" + canary)
		n.ConfigLoaded()
		r.await(t, 3)
		want := []string{"Bearer old-" + canary, "Bearer old-" + canary, "Bearer new-" + canary}
		var got []string
		for _, h := range r.headers {
			got = append(got, h.Get("Authorization"))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if d := n.Dropped(); d["default/generic"] != 0 {
			t.Errorf("dropped %v", d)
		}
	})
}

// TestGuideShowsWhatIsSent compares the payload in docs/alerts.md with one that a receiver got.
func TestGuideShowsWhatIsSent(t *testing.T) {
	doc, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(blocks) != 1 {
		t.Fatalf("docs/alerts.md shows %d payloads", len(blocks))
	}
	r := newReceiver(t)
	s := sink(deploy.SinkGeneric, r.URL)
	s.Spec.EventSeverity = deploy.SeverityError
	n := run(t, Options{}, s)
	refused := bad("a", deploy.SourceUnverified, digest("b")+": no signature fits cosign key cosign.pub", 1)
	refused.Name = deploy.Name{Kind: deploy.KindSource, Namespace: "towline-system", Name: "web"}
	refused.LastPoll = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n.SourceState(refused)
	r.await(t, 1)
	var want, got any
	for text, into := range map[string]*any{string(blocks[0][1]): &want, r.bodies[0]: &got} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the guide (-) and what was sent (+):\n%s", diff)
	}
}

// TestGuideListsOwnReasons finds the reasons that this package makes up.
func TestGuideListsOwnReasons(t *testing.T) {
	doc, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{reasonNewRevision, reasonRecovered, reasonSuspended, reasonResumed, reasonSucceeded, reasonDeleted, reasonBadConfig} {
		if !strings.Contains(string(doc), "`"+reason+"`") {
			t.Errorf("docs/alerts.md says nothing of %s", reason)
		}
	}
}
