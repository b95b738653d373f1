package applier_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/applier"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/reconcile"
	"github.com/towline/towline/internal/reconcile/enginetest"
)

// Where a target that changed its cluster has its objects is for the engine to say.
var _ reconcile.Mover = (*applier.Engine)(nil)

func TestContract(t *testing.T) {
	t.Parallel()
	shared := newWorld(t)
	all := &library{}
	enginetest.Run(t, enginetest.Fixture{
		Engine: func(testing.TB) reconcile.Engine {
			return applier.New(applier.Options{Clients: shared.kube, Builder: all, Namespace: shared.ns})
		},
		Case: func(t *testing.T) enginetest.Case {
			w := newWorld(t)
			w.target.Name.Name = w.ns // one engine serves all cases
			w.target.Timeout = 2 * time.Minute
			w.target.Kustomization = &deploy.KustomizationSpec{Prune: true, Wait: true}
			version := func(text string) deploy.Work {
				digest := "sha256:" + deploy.HashOf(text)
				dir := all.add(text)
				return deploy.Work{Target: w.target, Revision: deploy.Revision{Digest: digest, Dir: dir}}
			}
			web := w.deployment("web", "")
			first := version(w.configMap("a", "1") + w.configMap("b", "1") + web)
			second := version(w.configMap("a", "2") + w.configMap("c", "1") + web)
			slow := version(w.configMap("a", "3") + w.deployment("web", `kubelet.towline.dev/never-ready: "true"`))
			broken := version(w.configMap("a", "4") + strings.Replace(w.configMap("d", "1"), "data: {v:", "data: {v: {}, w:", 1))
			want := map[string]string{first.Revision.Digest: "a1b1 web", second.Revision.Digest: "a2c1 web", slow.Revision.Digest: "a3 web", broken.Revision.Digest: "a4"}
			return enginetest.Case{First: first, Second: second, Slow: slow, Broken: broken, At: func(v *deploy.Work) error {
				expected := ""
				if v != nil {
					expected = want[v.Revision.Digest]
				}
				w.t = t
				if got := w.everything(); got != expected {
					return fmt.Errorf("in the namespace: %q, want %q", got, expected)
				}
				return nil
			}}
		},
	})
}

// everything is what the versions of a contract case can leave behind.
func (w *world) everything() string {
	w.t.Helper()
	out := ""
	for _, name := range []string{"a", "b", "c", "d"} {
		if v := w.value(name); v != "" {
			out += name + v
		}
	}
	_, err := w.kube.Kubernetes.AppsV1().Deployments(w.ns).Get(w.t.Context(), "web", metav1.GetOptions{})
	if err == nil {
		out += " web"
	} else if !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
	return out
}
