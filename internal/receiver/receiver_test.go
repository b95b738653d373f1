package receiver

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // what old senders sign with
	"crypto/sha512"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/towline/towline/internal/deploy"
)

func TestPathIsThatOfFlux(t *testing.T) {
	got := Path("TOKEN", deploy.Name{Kind: deploy.KindSource, Namespace: "towline-system", Name: "web"})
	// printf '%s' TOKENwebtowline-system | sha256sum
	if want := "/hook/d261722611ee0d2f54d7b5697eafecb5f649004715bcb6e0433ce2b52d653e5c"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEveryProductIsUnderstood(t *testing.T) {
	signedAs := func(header string) func([]byte) []string {
		return func(b []byte) []string { return []string{header, sha256Of(canary, b)} }
	}
	hub := func(event string) func([]byte) []string {
		return func(b []byte) []string {
			return []string{"X-GitHub-Event", event, "X-Hub-Signature-256", sha256Of(canary, b)}
		}
	}
	none := func([]byte) []string { return nil }
	with := func(header ...string) func([]byte) []string { return func([]byte) []string { return header } }
	otherTag := func(s *deploy.SourceSpec) { s.Ref.Tag = "v1" }
	otherRepository := func(s *deploy.SourceSpec) { s.URL = "oci://registry.internal:5000/team/webshop" }
	for name, c := range map[string]struct {
		receiver, payload string
		header            func([]byte) []string
		change            func(*deploy.SourceSpec)
		polled            bool
	}{
		"generic: anything":                           {receiver: deploy.ReceiverGeneric, payload: "acr-ping.json", header: none, polled: true},
		"generic-hmac: signed with SHA-256":           {receiver: deploy.ReceiverGenericHMAC, payload: "github-ping.json", header: signedAs("X-Signature"), polled: true},
		"distribution: a push":                        {receiver: deploy.ReceiverDistribution, payload: "distribution-push.json", header: none, polled: true},
		"distribution: with its token":                {receiver: deploy.ReceiverDistribution, payload: "distribution-push.json", header: with("Authorization", "Bearer "+canary), polled: true},
		"distribution: a layer before its manifest":   {receiver: deploy.ReceiverDistribution, payload: "distribution-blob.json", header: none},
		"distribution: a pull, such as our own":       {receiver: deploy.ReceiverDistribution, payload: "distribution-pull.json", header: none},
		"distribution: a deletion":                    {receiver: deploy.ReceiverDistribution, payload: "distribution-delete.json", header: none, polled: true},
		"distribution: another tag":                   {receiver: deploy.ReceiverDistribution, payload: "distribution-push.json", header: none, change: otherTag},
		"distribution: another repository":            {receiver: deploy.ReceiverDistribution, payload: "distribution-push.json", header: none, change: otherRepository},
		"harbor: a push, of whatever tag":             {receiver: deploy.ReceiverHarbor, payload: "harbor-push.json", header: with("Authorization", canary), polled: true},
		"harbor: a push as CloudEvents":               {receiver: deploy.ReceiverHarbor, payload: "harbor-cloudevents.json", header: with("Authorization", canary), polled: true},
		"harbor: a scan":                              {receiver: deploy.ReceiverHarbor, payload: "harbor-scan.json", header: with("Authorization", canary)},
		"harbor: another repository":                  {receiver: deploy.ReceiverHarbor, payload: "harbor-push.json", header: with("Authorization", canary), change: otherRepository},
		"harbor: another repository, as CloudEvents":  {receiver: deploy.ReceiverHarbor, payload: "harbor-cloudevents.json", header: with("Authorization", canary), change: otherRepository},
		"github: a package, in whatever case":         {receiver: deploy.ReceiverGitHub, payload: "github-package.json", header: hub("registry_package"), polled: true},
		"github: the event by its other name":         {receiver: deploy.ReceiverGitHub, payload: "github-package.json", header: hub("package"), polled: true},
		"github: another package":                     {receiver: deploy.ReceiverGitHub, payload: "github-package.json", header: hub("package"), change: otherRepository},
		"github: a ping":                              {receiver: deploy.ReceiverGitHub, payload: "github-ping.json", header: hub("ping")},
		"github: another event":                       {receiver: deploy.ReceiverGitHub, payload: "github-ping.json", header: hub("push")},
		"dockerhub: a push":                           {receiver: deploy.ReceiverDockerHub, payload: "dockerhub.json", header: none, polled: true},
		"dockerhub: another tag":                      {receiver: deploy.ReceiverDockerHub, payload: "dockerhub.json", header: none, change: otherTag},
		"dockerhub: another repository":               {receiver: deploy.ReceiverDockerHub, payload: "dockerhub.json", header: none, change: otherRepository},
		"quay: one of several tags":                   {receiver: deploy.ReceiverQuay, payload: "quay.json", header: none, polled: true},
		"quay: other tags":                            {receiver: deploy.ReceiverQuay, payload: "quay.json", header: none, change: otherTag},
		"quay: tags as old versions name them":        {receiver: deploy.ReceiverQuay, payload: "quay-old.json", header: none, polled: true},
		"quay: another repository":                    {receiver: deploy.ReceiverQuay, payload: "quay.json", header: none, change: otherRepository},
		"acr: a push":                                 {receiver: deploy.ReceiverACR, payload: "acr-push.json", header: none, polled: true},
		"acr: another tag":                            {receiver: deploy.ReceiverACR, payload: "acr-push.json", header: none, change: otherTag},
		"acr: another repository":                     {receiver: deploy.ReceiverACR, payload: "acr-push.json", header: none, change: otherRepository},
		"acr: a ping":                                 {receiver: deploy.ReceiverACR, payload: "acr-ping.json", header: none},
		"but what is suspended stays as it is":        {receiver: deploy.ReceiverGeneric, payload: "acr-ping.json", header: none, change: func(s *deploy.SourceSpec) { s.Suspend = true }},
		"a mirror's repository counts as the url's":   {receiver: deploy.ReceiverACR, payload: "acr-push.json", header: none, polled: true, change: func(s *deploy.SourceSpec) { otherRepository(s); s.Mirrors = []string{"oci://mirror.internal/team/web"} }},
		"a source without a tag takes pushes of all":  {receiver: deploy.ReceiverACR, payload: "acr-push.json", header: none, polled: true, change: func(s *deploy.SourceSpec) { s.Ref = &deploy.Ref{Semver: ">=1.0.0"} }},
		"what stands before a registry adds a folder": {receiver: deploy.ReceiverACR, payload: "acr-push.json", header: none, polled: true, change: func(s *deploy.SourceSpec) { s.URL = "oci://proxy.internal/cache/team/web" }},
	} {
		t.Run(name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*deploy.SourceSpec) {}
			}
			s := serve(t, nil, source(t, "web", c.receiver, c.change))
			body := payload(t, c.payload)
			if got := s.post(pathOf("web"), body, c.header(body)...); got != http.StatusOK {
				t.Errorf("answered %d; %s", got, s.warnings())
			}
			if got := s.of("web") == 1; got != c.polled {
				t.Errorf("polled: %t, want %t", got, c.polled)
			}
		})
	}
	t.Run("github: as a form, which is what its page suggests", func(t *testing.T) {
		s := serve(t, nil, source(t, "web", deploy.ReceiverGitHub), source(t, "shop", deploy.ReceiverGitHub, otherRepository))
		body := []byte(url.Values{"payload": {string(payload(t, "github-package.json"))}}.Encode())
		header := append(hub("package")(body), "Content-Type", "application/x-www-form-urlencoded")
		if a, b := s.post(pathOf("web"), body, header...), s.post(pathOf("shop"), body, header...); a != 200 || b != 200 {
			t.Errorf("answered %d, %d", a, b)
		}
		if diff := cmp.Diff([]string{"web"}, s.names); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("generic-hmac: with the other hashes of Flux", func(t *testing.T) {
		s := serve(t, nil, source(t, "one", deploy.ReceiverGenericHMAC), source(t, "two", deploy.ReceiverGenericHMAC))
		body := []byte("{}")
		a := s.post(pathOf("one"), body, "X-Signature", sign("sha1", sha1.New, canary, body))
		b := s.post(pathOf("two"), body, "X-Signature", sign("sha512", sha512.New, canary, body))
		if a != 200 || b != 200 || s.of("one") != 1 || s.of("two") != 1 {
			t.Errorf("answered %d, %d; polled %v", a, b, s.names)
		}
	})
}

func TestWhatIsRefused(t *testing.T) {
	body := []byte(`{"push_data": {"tag": "stable"}}`)
	for name, c := range map[string]struct {
		receiver string
		body     []byte
		header   []string
		status   int
		says     string
	}{
		"a signature with another key": {deploy.ReceiverGenericHMAC, body, []string{"X-Signature", sha256Of("guess", body)}, 401, "is not that of the body"},
		"a signature of another body":  {deploy.ReceiverGenericHMAC, body, []string{"X-Signature", sha256Of(canary, []byte("{}"))}, 401, "is not that of the body"},
		"no signature":                 {deploy.ReceiverGenericHMAC, body, nil, 401, "there is no header X-Signature"},
		"a signature of no hash":       {deploy.ReceiverGenericHMAC, body, []string{"X-Signature", "md5=00"}, 401, "is not sha256=HEX"},
		"a signature that is no hex":   {deploy.ReceiverGenericHMAC, body, []string{"X-Signature", "sha256=" + canary}, 401, "is not sha256=HEX"},
		"GitHub's with another key":    {deploy.ReceiverGitHub, body, []string{"X-GitHub-Event", "package", "X-Hub-Signature-256", sha256Of("guess", body)}, 401, "is not that of the body"},
		"GitHub's old one": {
			deploy.ReceiverGitHub, body, []string{"X-GitHub-Event", "package", "X-Hub-Signature", sign("sha1", sha1.New, canary, body)}, 401, "no header X-Hub-Signature-256",
		},
		"GitHub's with a weaker hash": {
			deploy.ReceiverGitHub, body, []string{"X-GitHub-Event", "package", "X-Hub-Signature-256", sign("sha1", sha1.New, canary, body)}, 401, "is not sha256=HEX",
		},
		"GitHub's without an event":       {deploy.ReceiverGitHub, body, []string{"X-Hub-Signature-256", sha256Of(canary, body)}, 400, "no header X-GitHub-Event"},
		"Harbor's without the token":      {deploy.ReceiverHarbor, body, nil, 401, "Auth Header"},
		"Harbor's with another":           {deploy.ReceiverHarbor, body, []string{"Authorization", canary + "x"}, 401, "is not the token"},
		"Distribution's with another":     {deploy.ReceiverDistribution, body, []string{"Authorization", canary}, 401, "is not Bearer and the token"},
		"an envelope of something else":   {deploy.ReceiverDistribution, body, nil, 400, "has no events"},
		"what is no JSON":                 {deploy.ReceiverDockerHub, []byte(canary), nil, 400, "it is not JSON"},
		"what is JSON of another shape":   {deploy.ReceiverDockerHub, []byte(`{"push_data": {"tag": 74711}}`), nil, 400, "push_data.tag is a JSON number"},
		"what is no map":                  {deploy.ReceiverQuay, []byte(`["canary-token"]`), nil, 400, "all of it is a JSON array"},
		"what nests without end":          {deploy.ReceiverQuay, bytes.Repeat([]byte("["), maxBody), nil, 400, "it is not JSON"},
		"one that is too large":           {deploy.ReceiverGeneric, make([]byte, maxBody+1), nil, 413, "too large"},
		"and it is as large as it may be": {deploy.ReceiverGenericHMAC, make([]byte, maxBody), nil, 401, "no header"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, nil, source(t, "web", c.receiver))
			for range 3 {
				if got := s.post(pathOf("web"), c.body, c.header...); got != c.status {
					t.Errorf("answered %d, want %d", got, c.status)
				}
			}
			if n := s.of("web"); n != 0 {
				t.Errorf("polled %d times", n)
			}
			if w := s.warnings(); len(w) != 1 || !strings.Contains(w[0], "webhook refused source/apps/web") || !strings.Contains(w[0], c.says) || strings.Contains(w[0], "74711") {
				t.Errorf("logged %q, want one that says %s", w, c.says)
			}
			counts := map[string]int64{}
			s.Count(func(_ deploy.Name, result string, n int64) { counts[result] = n })
			if diff := cmp.Diff(map[string]int64{"accepted": 0, "ignored": 0, "refused": 3}, counts); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStrangersLearnNothing(t *testing.T) {
	s := serve(t, nil, source(t, "web", deploy.ReceiverGeneric))
	ask := func(method, path string) (int, http.Header) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		resp.Header.Del("Date")
		return resp.StatusCode, resp.Header
	}
	status, shape := ask(http.MethodPost, "/")
	if status != http.StatusNotFound {
		t.Errorf("answered %d", status)
	}
	for _, path := range []string{"/hook/", "/hook/" + strings.Repeat("0", 64), pathOf("web")[:60], pathOf("web") + "/", "/hook/../" + pathOf("web"), "/metrics", "//", strings.ToUpper(pathOf("web"))} {
		if got, header := ask(http.MethodPost, path); got != status || !cmp.Equal(header, shape) {
			t.Errorf("%s: answered %d %v, want %d %v", path, got, header, status, shape)
		}
	}
	status, shape = ask(http.MethodGet, "/")
	if got, header := ask(http.MethodGet, pathOf("web")); got != http.StatusMethodNotAllowed || got != status || !cmp.Equal(header, shape) {
		t.Errorf("GET: answered %d %v, elsewhere %d %v", got, header, status, shape)
	}
	if len(s.names) != 0 {
		t.Errorf("polled %v", s.names)
	}
}

func TestFloodLeadsToFewPollsAndLosesNone(t *testing.T) {
	s := serve(t, nil, source(t, "web", deploy.ReceiverGeneric), source(t, "shop", deploy.ReceiverGeneric))
	began := time.Now()
	for range 300 {
		if got := s.post(pathOf("web"), nil); got != http.StatusOK {
			t.Fatalf("answered %d", got)
		}
	}
	if got := s.post(pathOf("shop"), nil); got != http.StatusOK || s.of("shop") != 1 {
		t.Errorf("its neighbour had to wait: %d, %d", got, s.of("shop"))
	}
	sent := time.Since(began)
	most := 2 + int(sent/minPause)
	await(t, "the poll that the last one led to", func() bool { return s.of("web") >= 2 })
	if n := s.of("web"); n > most {
		t.Errorf("%d polls in %s", n, sent)
	}
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		began := time.Now()
		var p pace
		hit := func() { p.run(func() { at = append(at, time.Since(began)) }) }
		hit()
		for range 25 { // for two and a half seconds
			time.Sleep(100 * time.Millisecond)
			hit()
		}
		time.Sleep(time.Minute)
		hit()
		hit()
		p.stop() // what waits is forgotten
		time.Sleep(time.Minute)
		hit()
		synctest.Wait()
		if diff := cmp.Diff([]time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second, 62500 * time.Millisecond, 122500 * time.Millisecond}, at); diff != "" {
			t.Error(diff)
		}
	})
}

func TestReloadChangesReceivers(t *testing.T) {
	web := source(t, "web", deploy.ReceiverGeneric)
	s := serve(t, nil, web)
	old := pathOf("web")
	if got := s.post(old, nil); got != http.StatusOK {
		t.Fatalf("answered %d", got)
	}
	t.Run("one that stays goes on counting", func(t *testing.T) {
		s.Set([]deploy.Source{web, source(t, "shop", deploy.ReceiverGeneric)})
		if got := s.post(pathOf("shop"), nil); got != http.StatusOK || s.of("shop") != 1 {
			t.Errorf("answered %d", got)
		}
		var n int64
		s.Count(func(name deploy.Name, result string, count int64) {
			if name == web.Name && result == "accepted" {
				n = count
			}
		})
		if n != 1 {
			t.Errorf("%d counted", n)
		}
	})
	t.Run("one that gets another token has another path", func(t *testing.T) {
		s.Set([]deploy.Source{source(t, "web", deploy.ReceiverGeneric, func(spec *deploy.SourceSpec) {
			file := spec.Receiver.TokenFile + "2"
			if err := os.WriteFile(file, []byte(canary+"2"), 0o600); err != nil {
				t.Fatal(err)
			}
			spec.Receiver = &deploy.Receiver{Type: deploy.ReceiverGeneric, TokenFile: file}
		})})
		before := s.of("web")
		if got := s.post(old, nil); got != http.StatusNotFound {
			t.Errorf("the old path answers %d", got)
		}
		if got := s.post(Path(canary+"2", web.Name), nil); got != http.StatusOK {
			t.Errorf("the new path answers %d", got)
		}
		await(t, "the poll", func() bool { return s.of("web") == before+1 }) // the pace is that of before
	})
	t.Run("one that is gone has none", func(t *testing.T) {
		s.Set([]deploy.Source{source(t, "web", "", func(spec *deploy.SourceSpec) { spec.Receiver = nil })})
		for _, path := range []string{old, Path(canary+"2", web.Name), pathOf("shop")} {
			if got := s.post(path, nil); got != http.StatusNotFound {
				t.Errorf("answered %d", got)
			}
		}
	})
}

func TestTokenFileIsReadAgain(t *testing.T) {
	web := source(t, "web", deploy.ReceiverGeneric)
	s := serve(t, nil, web)
	if got := s.post(pathOf("web"), nil); got != http.StatusOK {
		t.Fatalf("answered %d", got)
	}
	if err := os.WriteFile(web.Spec.Receiver.TokenFile, []byte("canary-token-2"), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the new path", func() bool { return s.post(Path("canary-token-2", web.Name), nil) == http.StatusOK })
	if got := s.post(pathOf("web"), nil); got != http.StatusNotFound {
		t.Errorf("the old path answers %d", got)
	}
	if err := os.Remove(web.Spec.Receiver.TokenFile); err != nil {
		t.Fatal(err)
	}
	await(t, "an answer that makes senders try again", func() bool { return s.post(pathOf("web"), nil) == http.StatusServiceUnavailable })
	if w := s.warnings(); len(w) != 1 || !strings.Contains(w[0], "token of a receiver not read source/apps/web receiver.tokenFile: open ") {
		t.Errorf("logged %q", w)
	}
}

func TestTokenFromASecret(t *testing.T) {
	inSecret := func(s *deploy.SourceSpec) {
		s.Receiver = &deploy.Receiver{Type: deploy.ReceiverGeneric, SecretRef: &deploy.LocalRef{Name: "hook"}}
	}
	web := source(t, "web", "", inSecret)
	away := errors.New("connection refused")
	gone := apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "hook")
	// Each step waits, then reads once, as a request whose path fits does, or one whose path does not.
	type step struct {
		after time.Duration
		again bool
		says  string // of the Secret; empty: err
		err   error
		want  string // empty: an error
		reads int32
	}
	for name, steps := range map[string][]step{
		"it is kept for a minute":         {{0, false, "a", nil, "a", 1}, {59 * time.Second, false, "b", nil, "a", 1}, {time.Second, false, "b", nil, "b", 2}},
		"an unknown path looks sooner":    {{0, false, "a", nil, "a", 1}, {4 * time.Second, true, "b", nil, "a", 1}, {time.Second, true, "b", nil, "b", 2}},
		"white space around it is none":   {{0, false, " a\n", nil, "a", 1}},
		"an outage does not change it":    {{0, false, "a", nil, "a", 1}, {time.Hour, false, "", away, "a", 2}, {time.Minute, false, "b", nil, "b", 3}},
		"one that is gone is not used":    {{0, false, "a", nil, "a", 1}, {time.Hour, false, "", gone, "", 2}, {5 * time.Second, false, "b", nil, "b", 3}},
		"strangers do not load the API":   {{0, true, "", away, "", 1}, {time.Second, true, "", away, "", 1}, {time.Second, false, "", away, "", 1}, {3 * time.Second, true, "a", nil, "a", 2}},
		"one without the key is an error": {{0, false, "", nil, "", 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var now step
				var reads atomic.Int32
				tok := &token{source: web, secret: func(_ context.Context, namespace, name string) (map[string][]byte, error) {
					reads.Add(1)
					if namespace != "apps" || name != "hook" {
						t.Errorf("read %s/%s", namespace, name)
					}
					return map[string][]byte{"token": []byte(now.says)}, now.err
				}}
				for i, s := range steps {
					now = s
					time.Sleep(s.after)
					got, err := tok.read(t.Context(), s.again)
					if got != s.want || (err == nil) != (s.want != "") || reads.Load() != s.reads {
						t.Errorf("step %d: got %q, %v after %d reads, want %q after %d", i, got, err, reads.Load(), s.want, s.reads)
					}
				}
			})
		})
	}
	t.Run("and it is read by the first webhook", func(t *testing.T) {
		s := serve(t, func(context.Context, string, string) (map[string][]byte, error) {
			return map[string][]byte{"token": []byte(canary)}, nil
		}, web)
		if got := s.post(pathOf("web"), nil); got != http.StatusOK || s.of("web") != 1 {
			t.Errorf("answered %d, %v", got, s.warnings())
		}
	})
	t.Run("one that hangs holds nobody up for long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, err := Token(t.Context(), web, func(ctx context.Context, _, _ string) (map[string][]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("without a cluster it says so", func(t *testing.T) {
		if _, err := Token(t.Context(), web, nil); err == nil || !strings.Contains(err.Error(), "no cluster") {
			t.Errorf("got %v", err)
		}
	})
}

func TestOneTokenForTwoSourcesWithTheSamePath(t *testing.T) {
	a, b := source(t, "web", deploy.ReceiverGeneric), source(t, "we", deploy.ReceiverGenericHMAC)
	b.Name.Namespace = "bapps" // the two together read the same
	s := serve(t, nil, a, b)
	if pathOf("web") != Path(canary, b.Name) {
		t.Fatal("the paths differ: the test shows nothing")
	}
	body := []byte("{}")
	if got := s.post(pathOf("web"), body, "X-Signature", sha256Of(canary, body)); got != http.StatusOK || s.of("web") != 1 || s.of("we") != 1 {
		t.Errorf("answered %d, polled %v", got, s.names)
	}
}

func TestWhoHoldsConnectionsHoldsNobodyUp(t *testing.T) {
	s := serve(t, nil, source(t, "web", deploy.ReceiverGeneric))
	addr := strings.TrimPrefix(s.url, "http://")
	for range 2 * maxHandled {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte("POST /hook/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.post(pathOf("web"), nil); got != http.StatusOK {
		t.Errorf("answered %d", got)
	}
}

func TestRunLetsARequestEnd(t *testing.T) {
	s := serve(t, nil, source(t, "web", deploy.ReceiverGeneric))
	body, rest := io.Pipe()
	answered := make(chan int, 1)
	go func() { answered <- s.send(http.MethodPost, pathOf("web"), body) }()
	await(t, "the request is being handled", func() bool { return len(s.slots) == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	await(t, "no more are taken", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if _, err := rest.Write([]byte("{}")); err != nil {
		t.Error(err)
	}
	rest.Close()
	if got := <-answered; got != http.StatusOK || s.of("web") != 1 {
		t.Errorf("answered %d, polled %v", got, s.names)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestMoreThanCanBeHandledIsSentAway(t *testing.T) {
	s := serve(t, nil, source(t, "web", deploy.ReceiverGeneric))
	for range maxHandled {
		s.slots <- struct{}{}
	}
	if got := s.post(pathOf("web"), nil); got != http.StatusServiceUnavailable {
		t.Errorf("answered %d", got)
	}
	<-s.slots
	if got := s.post(pathOf("web"), nil); got != http.StatusOK {
		t.Errorf("answered %d", got)
	}
}
