package helm

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// tree is a target's objects as lines: object health (message), children behind a dash.
func (e *env) tree(t deploy.Target) []string {
	e.Helper()
	list, err := e.engine.Objects(e.Context(), t)
	e.must(err)
	var out []string
	for _, l := range list {
		line := shortID(l.Object, e.ns) + " " + l.Health
		if l.Message != "" {
			line += " (" + l.Message + ")"
		}
		out = append(out, line)
		for _, c := range l.Children {
			out = append(out, "- "+c.Object.Kind+" "+c.Health)
		}
	}
	return out
}

func TestObjects(t *testing.T) {
	e := newEnv(t)
	held := strings.Replace(configMapNamed("held"), "{name: held}", "{name: held, finalizers: [example.org/hold]}", 1)
	r := e.revision(web("1.0.0", map[string]string{"templates/held.yaml": held}))
	target := e.target(`{"replicaCount":2}`)
	t.Run("are none before it is installed", func(t *testing.T) { wantLines(t, e.tree(target)) })
	e.bring(target, r)
	t.Run("are those of the manifest with their health, workloads with their pods", func(t *testing.T) {
		e.counter.take()
		wantLines(t, e.tree(target), "ConfigMap/web Current", "ConfigMap/held Current", "Service/web Current", "Deployment.apps/web Current", "- Pod Current", "- Pod Current")
		if w := writes(e.counter.take()); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}
	})
	t.Run("say when they came to be", func(t *testing.T) {
		list, err := e.engine.Objects(t.Context(), target)
		e.must(err)
		wantEqual(t, "created", list[3].Created.Equal(e.deployment("web").CreationTimestamp.Time), true)
	})
	t.Run("that are gone, or cannot go, say so", func(t *testing.T) {
		maps := e.set.CoreV1().ConfigMaps(e.ns)
		t.Cleanup(func() {
			_, err := maps.Patch(context.Background(), "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			e.must(err)
		})
		e.must(maps.Delete(t.Context(), "web", metav1.DeleteOptions{}))
		e.must(maps.Delete(t.Context(), "held", metav1.DeleteOptions{}))
		wantLines(t, e.tree(target)[:2], "ConfigMap/web NotFound", "ConfigMap/held Terminating (held by finalizer example.org/hold)")
	})
	t.Run("that are not ready say why", func(t *testing.T) {
		never := e.target(`{"replicaCount":1,"podAnnotations":{"kubelet.towline.dev/never-ready":"true"}}`, func(s *deploy.HelmReleaseSpec) {
			s.ReleaseName, s.Install = "slow", &deploy.Install{DisableWait: true}
		})
		never.Name.Name = "slow"
		e.bring(never, e.revision(web("1.0.0", nil)))
		testenv.Await(t, limit, "the pod that does not get ready", func() error {
			if got := strings.Join(e.tree(never), "\n"); !strings.Contains(got, "Deployment.apps/slow InProgress (0 of 1 pods are ready)\n- Pod InProgress") {
				return fmt.Errorf("it says:\n%s", got)
			}
			return nil
		})
	})
	t.Run("of a release of another target are not shown as this one's", func(t *testing.T) {
		other := e.target("")
		other.Name.Name = "other"
		if _, err := e.engine.Objects(t.Context(), other); err == nil || !strings.Contains(err.Error(), "it belongs to "+target.Name.String()) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("of an installation that failed are those that it made", func(t *testing.T) {
		e := newEnv(t)
		bad := "apiVersion: v1\nkind: Service\nmetadata: {name: refused}\nspec: {ports: [{port: 99999}]}\n"
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a"), "refused": bad})), false)
		wantFailure(t, err, deploy.ReasonInstallFailed, "refused")
		wantLines(t, e.tree(e.target("")), "ConfigMap/a Current", "Service/refused NotFound")
	})
}
