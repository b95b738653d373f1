package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// shoutrrrTo is a service URL that posts to a receiver.
func shoutrrrTo(r *receiver) string {
	return "generic://" + strings.TrimPrefix(r.URL, "http://") + "/" + canary + "?disabletls=yes"
}

func TestChatThatHangs(t *testing.T) {
	t.Run("is bounded by the timeout of http.DefaultClient, and tried again", func(t *testing.T) {
		before := http.DefaultClient.Timeout
		BoundServices()
		if http.DefaultClient.Timeout != chatTimeout {
			t.Errorf("the timeout is %s", http.DefaultClient.Timeout)
		}
		http.DefaultClient.Timeout = 200 * time.Millisecond
		release := make(chan struct{})
		r := newReceiver(t, func(http.ResponseWriter) { <-release }, answer(200))
		t.Cleanup(func() { http.DefaultClient.Timeout = before })
		n, logs := runLogged(t, Options{}, sink(deploy.SinkShoutrrr, shoutrrrTo(r)))
		t.Cleanup(func() { close(release) })
		n.ConfigFailed(errors.New("fault"))
		r.await(t, 2)
		awaitLog(t, logs, "send by generic: deadline exceeded")
		if d := n.Dropped(); d["default/shoutrrr"] != 0 {
			t.Errorf("dropped %v", d)
		}
	})
	t.Run("is left alone when its time is over, and no other message is sent until it is back", func(t *testing.T) {
		release := make(chan struct{})
		r := newReceiver(t, func(http.ResponseWriter) { <-release }, answer(200))
		c := &chat{account: account{sink: sink(deploy.SinkShoutrrr, shoutrrrTo(r))}}
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan error, 1)
		go func() { sent <- c.send(ctx, say("first")) }()
		r.await(t, 1)
		cancel()
		if err := <-sent; !errors.Is(err, context.Canceled) {
			t.Errorf("the first: %v", err)
		}
		if err := c.send(t.Context(), say("second")); err == nil || !strings.Contains(err.Error(), "still on its way") {
			t.Errorf("the second: %v", err)
		}
		close(release)
		testenv.Await(t, 10*time.Second, "the third", func() error { return c.send(t.Context(), say("third")) })
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
}

func TestTranslate(t *testing.T) {
	for name, c := range map[string]struct {
		service, said, want string
		permanent           bool
	}{
		"a status is found":                       {"slack", "got unexpected HTTP status: 400 Bad Request", "send by slack: answered 400 Bad Request", true},
		"one that may pass is tried again":        {"discord", "status code 503", "send by discord: answered 503 Service Unavailable", false},
		"a token that is refused may be replaced": {"telegram", "request failed: 401 Unauthorized", "send by telegram: answered 401 Unauthorized", false},
		"a port is no status":                     {"generic", `Post "https://a.example:443/x": odd`, "send by generic: the service did not take it", false},
		"a mail server's 4xx passes":              {"smtp", "451 Try later", "send by smtp: the service did not take it", false},
		"a bad address is named":                  {"slack", "locating service for URL \"slack://" + canary + "\": bad", "send by slack: the address of the sink is not a service URL of shoutrrr", false},
		"words of the network are kept":           {"smtp", "dial tcp 10.0.0.1:25: connect: connection refused", "send by smtp: connection refused", false},
		"nothing else is":                         {"slack", "invalid token " + canary, "send by slack: the service did not take it", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := translate(c.service, errors.New(c.said))
			if got := errors.As(err, new(permanent)); fmt.Sprint(err) != c.want || got != c.permanent {
				t.Errorf("got %v, permanent: %v", err, got)
			}
		})
	}
}

func TestComposedText(t *testing.T) {
	e := deploy.Event{Object: web, Severity: deploy.SeverityError, Reason: "ApplyFailed", Message: "1 of 2 objects failed", Revision: "v1@" + digest("a")}
	got := compose(e, sink(deploy.SinkShoutrrr, "").Spec, "edge-7")
	want := "[error] kustomization/default/web: ApplyFailed\n1 of 2 objects failed\nsummary: the shop\nrevision: v1@" + digest("a") + "\nreported by: edge-7\nsite: north"
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
