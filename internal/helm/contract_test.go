package helm

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/reconcile"
	"github.com/towline/towline/internal/reconcile/enginetest"
)

func TestContract(t *testing.T) {
	clients := newEnv(t)
	enginetest.Run(t, enginetest.Fixture{
		Engine: func(tb testing.TB) reconcile.Engine {
			clients.TB = tb
			clients.restart()
			return clients.engine
		},
		Case: func(t *testing.T) enginetest.Case {
			e := newEnv(t)
			work := func(values, version string, more map[string]string) deploy.Work {
				return deploy.Work{Target: e.target(values), Revision: e.revision(web(version, more))}
			}
			first, second := work("", "1.0.0", nil), work("", "2.0.0", map[string]string{"templates/service.yaml": "", "templates/extra.yaml": configMapNamed("extra")})
			slow := work(`{"podAnnotations":{"kubelet.towline.dev/never-ready":"true"}}`, "1.0.1", nil)
			// The server refuses an object after others of the same revision were created.
			broken := work("", "1.0.2", map[string]string{
				"templates/left.yaml": configMapNamed("left"), "templates/refused.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: refused}\nspec: {ports: [{port: 99999}]}\n",
			})
			want := map[string]string{
				first.Revision.Digest:  "configmap/web@1.0.0 service/web deployment/web release/deployed",
				second.Revision.Digest: "configmap/extra configmap/web@2.0.0 deployment/web release/deployed",
				slow.Revision.Digest:   "configmap/web@1.0.1 service/web deployment/web release/pending-install",
			}
			return enginetest.Case{First: first, Second: second, Slow: slow, Broken: broken, At: func(version *deploy.Work) error {
				expected := ""
				if version != nil {
					expected = want[version.Revision.Digest]
				}
				if got := e.everything(); got != expected {
					return fmt.Errorf("in the namespace: %q, want %q", got, expected)
				}
				return nil
			}}
		},
	})
}

// everything is what a release of the chart web can leave behind, and the status of its newest record.
func (e *env) everything() string {
	e.Helper()
	out := ""
	note := func(s string) {
		if out != "" {
			out += " "
		}
		out += s
	}
	maps, err := e.set.CoreV1().ConfigMaps(e.ns).List(e.Context(), metav1.ListOptions{})
	e.must(err)
	for _, m := range maps.Items {
		switch {
		case m.Name == "kube-root-ca.crt":
		case m.Data["chart"] != "":
			note("configmap/" + m.Name + "@" + m.Data["chart"])
		default:
			note("configmap/" + m.Name)
		}
	}
	services, err := e.set.CoreV1().Services(e.ns).List(e.Context(), metav1.ListOptions{})
	e.must(err)
	for _, s := range services.Items {
		note("service/" + s.Name)
	}
	deployments, err := e.set.AppsV1().Deployments(e.ns).List(e.Context(), metav1.ListOptions{})
	e.must(err)
	for _, d := range deployments.Items {
		note("deployment/" + d.Name)
	}
	secrets, err := e.set.CoreV1().Secrets(e.ns).List(e.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	e.must(err)
	newest := corev1.Secret{}
	for _, s := range secrets.Items {
		if v := s.Labels["version"]; len(v) > len(newest.Labels["version"]) || v > newest.Labels["version"] {
			newest = s
		}
	}
	if newest.Name != "" {
		note("release/" + newest.Labels["status"])
	}
	return out
}
