package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deploy"
)

// ask makes one request of a handler. headers are pairs.
func ask(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestReading(t *testing.T) {
	h := fullBoard().Handler(nil)
	t.Run("status is the whole board", func(t *testing.T) {
		w := ask(h, "GET", "/api/v1/status", "")
		equal(t, "code", http.StatusOK, w.Code)
		equal(t, "type", "application/json", w.Header().Get("Content-Type"))
		golden(t, "status.json", w.Body.Bytes())
	})
	t.Run("status of an empty board has empty lists", func(t *testing.T) {
		golden(t, "status-empty.json", ask(emptyBoard().Handler(nil), "GET", "/api/v1/status", "").Body.Bytes())
	})
	t.Run("a target is explained", func(t *testing.T) {
		golden(t, "target.json", ask(h, "GET", "/api/v1/targets/kustomization/apps/web", "").Body.Bytes())
	})
	t.Run("a target's kind may be written as people do", func(t *testing.T) {
		equal(t, "code", http.StatusOK, ask(h, "GET", "/api/v1/targets/hr/apps/db", "").Code)
	})
	t.Run("alive even before a config is there", func(t *testing.T) {
		equal(t, "code", http.StatusOK, ask(emptyBoard().Handler(nil), "GET", "/healthz", "").Code)
	})
	t.Run("HEAD is possible wherever GET is", func(t *testing.T) {
		equal(t, "code", http.StatusOK, ask(h, "HEAD", "/api/v1/status", "").Code)
	})
	for _, tt := range []struct {
		name, method, path string
		code               int
		message            string
	}{
		{"an unknown target is named", "GET", "/api/v1/targets/kustomization/apps/none", 404, "there is no target kustomization/apps/none"},
		{"a source is not a target", "GET", "/api/v1/targets/source/apps/web", 404, `"source" is not a kind of target: want kustomization or helmrelease`},
		{"an unknown path is named", "GET", "/api/v1/nonsense", 404, "there is no /api/v1/nonsense in this API"},
		{"status cannot be posted to", "POST", "/api/v1/status", 405, "POST is not possible here: use GET, HEAD"},
		{"health cannot be deleted", "DELETE", "/healthz", 405, "DELETE is not possible here: use GET, HEAD"},
		{"reconcile cannot be got", "GET", "/api/v1/reconcile", 405, "GET is not possible here: use POST"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(h, tt.method, tt.path, "")
			equal(t, "code", tt.code, w.Code)
			equal(t, "error", tt.message, errorOf(t, w))
		})
	}
}

// errorOf is the message of an answer that must be an error.
func errorOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var e apiError
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("the error is not JSON: %v: %s", err, w.Body)
	}
	return e.Error
}

func TestReadyz(t *testing.T) {
	b := emptyBoard()
	h := b.Handler(nil)
	check := func(name string, code int, body string) {
		t.Run(name, func(t *testing.T) {
			w := ask(h, "GET", "/readyz", "")
			equal(t, "code", code, w.Code)
			equal(t, "body", body, w.Body.String())
		})
	}
	check("says everything that is missing", 503, "not ready\ncluster: the cluster's API server did not answer yet\nconfig: no valid config was loaded yet\n")
	b.ConfigFailed(errors.New("config.yaml:1: unknown key"))
	b.SetReady(GateCluster, true)
	check("says why the config is not there", 503, "not ready\nconfig: config.yaml:1: unknown key\n")
	b.SetReady("records", false)
	b.ConfigLoaded("h", 0, 0, noon)
	check("says that a gate of somebody else's is closed", 503, "not ready\nrecords: not done yet\n")
	b.SetReady("records", true)
	check("is ready", 200, "ok\n")
	b.ConfigFailed(errors.New("config.yaml:1: unknown key"))
	check("stays ready when a later config is refused", 200, "ok\n")
}

func TestActing(t *testing.T) {
	const json = "application/json"
	post := func(c Controls, path, body string, headers ...string) *httptest.ResponseRecorder {
		return ask(fullBoard().Handler(c), "POST", path, body, append([]string{"Content-Type", json}, headers...)...)
	}
	t.Run("rolls back what is named, and says to what", func(t *testing.T) {
		c := &controls{}
		w := post(c, "/api/v1/rollback", `{"name": "hr/web"}`)
		equal(t, "calls", []call{{Name: release("web"), Rollback: true}}, c.calls)
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"revision": "7"`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
	t.Run("reconciles what is named", func(t *testing.T) {
		c := &controls{}
		w := post(c, "/api/v1/reconcile", `{"name": "ks/web", "withSource": true, "force": true}`)
		equal(t, "code", http.StatusAccepted, w.Code)
		equal(t, "calls", []call{{Name: manifests("web"), Haste: Haste{WithSource: true, Force: true}}}, c.calls)
		equal(t, "body", "{\n  \"accepted\": \"kustomization/apps/web\"\n}\n", w.Body.String())
	})
	t.Run("reloads, with and without a body", func(t *testing.T) {
		c := &controls{}
		equal(t, "code", http.StatusAccepted, post(c, "/api/v1/reload", `{}`).Code)
		equal(t, "code", http.StatusAccepted, post(c, "/api/v1/reload", ``).Code)
		equal(t, "calls", []call{{Reload: true}, {Reload: true}}, c.calls)
	})
	t.Run("a charset does not make it less JSON", func(t *testing.T) {
		equal(t, "code", http.StatusAccepted, post(&controls{}, "/api/v1/reload", ``, "Content-Type", "application/json; charset=utf-8").Code)
	})
	t.Run("a page of our own on localhost may", func(t *testing.T) {
		w := post(&controls{}, "/api/v1/reload", ``, "Host", "localhost:8080", "Origin", "http://localhost:8080", "Sec-Fetch-Site", "same-origin")
		equal(t, "code", http.StatusAccepted, w.Code)
	})
	for _, tt := range []struct {
		name, path, body string
		headers          []string
		controls         *controls
		code             int
		message          string
	}{
		{"an unknown name is not found", "/api/v1/reconcile", `{"name": "ks/nope"}`, nil, &controls{err: fmt.Errorf("wrapped: %w", ErrUnknown)}, 404,
			"kustomization/apps/nope: wrapped: there is no such source or target in the config"},
		{"what is suspended is in conflict", "/api/v1/reconcile", `{"name": "ks/web"}`, nil, &controls{err: fmt.Errorf("its source: %w", ErrSuspended)}, 409,
			"kustomization/apps/web: its source: it is suspended: remove suspend from its entry in the config first"},
		{"a failure is told", "/api/v1/reconcile", `{"name": "ks/web"}`, nil, &controls{err: errors.New("the agent is stopping")}, 500, "reconcile kustomization/apps/web: the agent is stopping"},
		{"a bad config is told", "/api/v1/reload", `{}`, nil, &controls{err: errors.New("config.yaml:3: unknown key")}, 422, "config.yaml:3: unknown key"},
		{"what is unknown cannot be rolled back", "/api/v1/rollback", `{"name": "hr/nope"}`, nil, &controls{err: fmt.Errorf("wrapped: %w", ErrUnknown)}, 404,
			"helmrelease/apps/nope: wrapped: " + ErrUnknown.Error()},
		{"a failed rollback is told", "/api/v1/rollback", `{"name": "hr/web", "revision": "9"}`, nil, &controls{err: errors.New("there is no revision 9")}, 422,
			"roll back helmrelease/apps/web: there is no revision 9"},
		{"a rollback without kind is refused", "/api/v1/rollback", `{"name": "web"}`, nil, &controls{}, 400,
			`name: "web" does not say which kind it is: want kustomization/web, helmrelease/web or source/web`},
		{"a name without kind is refused", "/api/v1/reconcile", `{"name": "web"}`, nil, &controls{}, 400,
			`name: "web" does not say which kind it is: want kustomization/web, helmrelease/web or source/web`},
		{"no name is refused", "/api/v1/reconcile", ``, nil, &controls{}, 400, `name: "" is not a reference: want name, kind/name or kind/namespace/name`},
		{"unknown fields are refused", "/api/v1/reconcile", `{"nam": "ks/web"}`, nil, &controls{}, 400, `read the request: json: unknown field "nam"`},
		{"two values are refused", "/api/v1/reload", `{} {}`, nil, &controls{}, 400, "read the request: there is more than one JSON value in it"},
		{"a body that is too long is refused", "/api/v1/reconcile", `{"name": "` + strings.Repeat("x", maxBody) + `"}`, nil, &controls{}, 413,
			"read the request: http: request body too large"},
		{"a form is refused", "/api/v1/reload", `{}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, &controls{}, 415,
			"send the request with Content-Type: application/json"},
		{"another site's page is refused", "/api/v1/reload", `{}`, []string{"Sec-Fetch-Site", "cross-site"}, &controls{}, 403, "a page of another site may not do this"},
		{"another origin is refused where the browser is old", "/api/v1/reload", `{}`, []string{"Origin", "https://evil.example"}, &controls{}, 403,
			"a page of another site may not do this"},
		{"a name that was pointed at us is refused", "/api/v1/reload", `{}`, []string{"Host", "evil.example", "Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin"},
			&controls{}, 403, "a page of another site may not do this"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := post(tt.controls, tt.path, tt.body, tt.headers...)
			equal(t, "code", tt.code, w.Code)
			equal(t, "error", tt.message, errorOf(t, w))
			if tt.controls.err == nil && len(tt.controls.calls) != 0 {
				t.Errorf("refused, but done: %v", tt.controls.calls)
			}
		})
	}
	t.Run("without controls everything is forbidden", func(t *testing.T) {
		for _, path := range []string{"/api/v1/reload", "/api/v1/reconcile", "/api/v1/rollback"} {
			w := post(nil, path, `{"name": "ks/web"}`)
			equal(t, "code", http.StatusForbidden, w.Code)
			equal(t, "error", "this address is read-only: use the agent's unix socket, or allow control over the address in the agent's settings", errorOf(t, w))
		}
	})
}

func TestPages(t *testing.T) {
	h := fullBoard().Handler(nil)
	page := func(t *testing.T, path string, code int) string {
		t.Helper()
		w := ask(h, "GET", path, "")
		equal(t, "code", code, w.Code)
		return w.Body.String()
	}
	has := func(t *testing.T, body string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(body, p) {
				t.Errorf("%q is missing in:\n%s", p, body)
			}
		}
	}
	t.Run("the overview shows counts, targets and sources, what is bad first", func(t *testing.T) {
		body := page(t, "/", 200)
		has(t, body, `1<span class="of"> of 3 ready`, `href="targets/kustomization/apps/web"`, `<span class="badge failed">Failed</span>`, "1 of 2 objects failed",
			"waits for source/db-chart", "latest@sha256:2c26b46b68ff<", "oci://registry.example.com/charts/db", "in 1m30s")
		if strings.Index(body, `id="to-kustomization/apps/web"`) > strings.Index(body, `id="to-kustomization/apps/base"`) {
			t.Error("the failed target stands behind the ready one")
		}
	})
	t.Run("filters by state and name", func(t *testing.T) {
		body := page(t, "/?show=ready", 200)
		has(t, body, `id="to-kustomization/apps/base"`)
		if strings.Contains(body, `id="to-kustomization/apps/web"`) {
			t.Error("the failed target is shown among the ready")
		}
		has(t, page(t, "/?q=nothing+like+it", 200), "No target matches.")
	})
	t.Run("shows why the config was refused, escaped", func(t *testing.T) {
		b := fullBoard()
		b.ConfigFailed(errors.New(`config.yaml:1: unknown key "<script>"`))
		body := ask(b.Handler(nil), "GET", "/", "").Body.String()
		has(t, body, "the one before stays in force", "unknown key &#34;&lt;script&gt;&#34;")
	})
	t.Run("an empty board says what to do", func(t *testing.T) {
		body := ask(emptyBoard().Handler(nil), "GET", "/", "").Body.String()
		has(t, body, "There are no targets yet.", "There are no sources yet.", "no valid config was loaded yet")
	})
	t.Run("a target's page explains it, with changes, history and annotations", func(t *testing.T) {
		has(t, page(t, "/targets/kustomization/apps/web", 200), "That was failure 2 in a row.", "Job.batch/apps/migrate", "field is immutable", "spec.replicas",
			`href="../../../targets/helmrelease/apps/db"`, "org.opencontainers.image.revision", "main/1234", newDigest, oldDigest)
	})
	t.Run("a page for every phase", func(t *testing.T) {
		b := fullBoard()
		h := b.Handler(nil)
		for _, p := range []deploy.Phase{"", deploy.PhaseBuilding, deploy.PhaseDeleting, deploy.PhaseSuspended, deploy.PhaseDegraded} {
			b.TargetState(deploy.TargetState{Name: release("x"), Phase: p})
			equal(t, "code of "+string(p), 200, ask(h, "GET", "/targets/helmrelease/apps/x", "").Code)
		}
	})
	t.Run("what is not there has a page that leads back", func(t *testing.T) {
		has(t, page(t, "/targets/kustomization/apps/none", 404), "there is no target kustomization/apps/none", `href="../../../"`)
		has(t, page(t, "/some/where", 404), "There is no page at this address.", `href=".././"`)
	})
	t.Run("no page has script or style in it, and all say what browsers may do", func(t *testing.T) {
		for _, path := range []string{"/", "/targets/kustomization/apps/web", "/none"} {
			w := ask(h, "GET", path, "")
			csp := w.Header().Get("Content-Security-Policy")
			if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
				t.Errorf("%s: policy %q", path, csp)
			}
			if strings.Contains(w.Body.String(), " style=") || strings.Contains(w.Body.String(), "<style") || strings.Contains(w.Body.String(), "<script>") {
				t.Errorf("%s has script or style in it", path)
			}
			equal(t, "sniffing", "nosniff", w.Header().Get("X-Content-Type-Options"))
		}
	})
	t.Run("files are served with their types, and not again when unchanged", func(t *testing.T) {
		for file, kind := range map[string]string{"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
			w := ask(h, "GET", "/assets/"+file, "")
			equal(t, "code", 200, w.Code)
			equal(t, "type", kind, w.Header().Get("Content-Type"))
			equal(t, "code the second time", http.StatusNotModified, ask(h, "GET", "/assets/"+file, "", "If-None-Match", w.Header().Get("ETag")).Code)
		}
		equal(t, "code of a template", 404, ask(h, "GET", "/assets/layout.html", "").Code)
	})
}
