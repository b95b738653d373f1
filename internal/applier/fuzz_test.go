package applier_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// TestNoOrphans is the upgrade test of cli-utils: whatever is lost on the way, every object that bears our label is in the inventory at every moment between two
// runs, and a calm run makes the cluster hold exactly what the artifact says.
func TestNoOrphans(t *testing.T) {
	t.Parallel()
	const rounds = 25
	for seed := range uint64(2) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.spec(func(s *deploy.KustomizationSpec) { s.PruneLimit = new(intstr.FromString("100%")) })
			rnd := rand.New(rand.NewPCG(seed, 7))
			for range rounds {
				w.text = w.randomSet(rnd)
				ctx, kill := context.WithCancel(t.Context())
				w.interfere(chaos(rnd.Uint64(), kill))
				_, err := w.run(ctx, rnd.IntN(4) == 0)
				kill()
				w.interfere(nil)
				if err != nil && rnd.IntN(2) == 0 {
					w.restart()
				}
				w.noOrphan()
			}
			w.text = w.randomSet(rnd)
			w.converge(false)
			want := strings.Count(w.text, "kind: ConfigMap")
			wantEqual(t, "objects in the cluster", len(w.labelled()), want)
			wantEqual(t, "lines of the inventory", strings.Count(w.inventory(), "\n"), want)
		})
	}
}

// randomSet is some of ten ConfigMaps, never none, each in one of two versions.
func (w *world) randomSet(rnd *rand.Rand) string {
	text := w.configMap("always", "1")
	for i := range 10 {
		if v := rnd.IntN(4); v > 0 {
			text += w.configMap(fmt.Sprintf("c%d", i), fmt.Sprint(v%2))
		}
	}
	return text
}

// chaos loses requests and answers, answers for an overloaded server, and kills the run at some point.
func chaos(seed uint64, kill func()) func(*http.Request, http.RoundTripper) (*http.Response, error) {
	var mu sync.Mutex // guards rnd
	rnd := rand.New(rand.NewPCG(seed, 11))
	return func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		mu.Lock()
		dice := rnd.IntN(100)
		mu.Unlock()
		if strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/") {
			switch {
			case dice < 8:
				return nil, errors.New("connection lost before the request arrived")
			case dice < 16:
				if resp, err := next.RoundTrip(r); err == nil {
					_ = resp.Body.Close()
				}
				return nil, io.ErrUnexpectedEOF
			case dice < 20:
				return respond(r, http.StatusServiceUnavailable, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"ServiceUnavailable","code":503,"message":"busy"}`), nil
			case dice < 26:
				resp, err := next.RoundTrip(r)
				kill()
				return resp, err
			}
		}
		return next.RoundTrip(r)
	}
}

// labelled are the ConfigMaps in the cluster that bear the target's label.
func (w *world) labelled() []string {
	w.t.Helper()
	l := must(w.kube.Kubernetes.CoreV1().ConfigMaps(w.ns).List(w.t.Context(), metav1.ListOptions{LabelSelector: deploy.LabelTarget + "=" + w.target.Name.LabelValue()}))(w.t)
	var names []string
	for _, cm := range l.Items {
		names = append(names, cm.Name)
	}
	return names
}

func (w *world) noOrphan() {
	w.t.Helper()
	known := strings.Split(w.inventory(), "\n")
	for _, name := range w.labelled() {
		if !slices.ContainsFunc(known, func(line string) bool { return strings.HasPrefix(line, "/ConfigMap/"+w.ns+"/"+name+" ") }) {
			w.t.Fatalf("%s is an orphan; the inventory:\n%s", name, strings.Join(known, "\n"))
		}
	}
}

// hide makes one API group look as if the server behind it were down: stale in discovery, 503 for its objects.
func hide(r *http.Request, next http.RoundTripper, group string) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Path, "/apis/"+group+"/") {
		return respond(r, http.StatusServiceUnavailable, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"ServiceUnavailable","code":503,"message":"down"}`), nil
	}
	resp, err := next.RoundTrip(r)
	if r.URL.Path != "/apis" || err != nil {
		return resp, err
	}
	defer resp.Body.Close()
	var list map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, err
	}
	items, _ := list["items"].([]any)
	for _, item := range items {
		item := item.(map[string]any)
		if item["metadata"].(map[string]any)["name"] == group {
			for _, v := range item["versions"].([]any) {
				v := v.(map[string]any)
				v["freshness"], v["resources"] = "Stale", nil
			}
		}
	}
	b, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	return resp, nil
}

func testAwait(t *testing.T, f func() error) {
	t.Helper()
	testenv.Await(t, 20*time.Second, "converges", f)
}
