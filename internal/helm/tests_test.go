package helm

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// testPod is a test hook that passes, or does as its annotation says.
func testPod(name, annotation string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + name + "\n  annotations: {helm.sh/hook: test, " + annotation +
		"}\nspec: {restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: probe, image: \"example.org/probe:1\"}]}\n"
}

func TestChartTests(t *testing.T) {
	e := newEnv(t)
	// run runs the tests of the release in an operation of their own.
	run := func(ctx context.Context, timeout time.Duration, spec *deploy.Test) (failed, err error) {
		target := e.target("", func(s *deploy.HelmReleaseSpec) { s.Test = spec })
		err = e.operateOn(ctx, target, timeout, func(op *operation) error {
			var err error
			failed, err = op.test(target)
			return err
		})
		return failed, err
	}
	pods := func() string {
		t.Helper()
		list, err := e.set.CoreV1().Pods(e.ns).List(t.Context(), metav1.ListOptions{})
		e.must(err)
		var out []string
		for _, p := range list.Items {
			if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.Name == "hangs" {
				out = append(out, p.Name)
			}
		}
		return strings.Join(out, " ")
	}
	e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{
		"m": configMapNamed("m"), "a": testPod("a", ""), "b": testPod("b", `kubelet.towline.dev/fail: "true"`), "c": testPod("hangs", `kubelet.towline.dev/run-for: 1h`),
	})))
	t.Run("runs what is chosen", func(t *testing.T) {
		failed, err := run(t.Context(), time.Minute, &deploy.Test{Filters: []deploy.TestFilter{{Name: "a"}}})
		if failed != nil || err != nil {
			t.Fatal(failed, err)
		}
		wantEqual(t, "pods", pods(), "a")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
	t.Run("a test that fails is named, and says with what", func(t *testing.T) {
		failed, err := run(t.Context(), time.Minute, &deploy.Test{Filters: []deploy.TestFilter{{Name: "hangs", Exclude: true}}})
		if err != nil || failed == nil {
			t.Fatal(failed, err)
		}
		for _, want := range []string{"test b: ", "container probe ended with exit code 1"} {
			if !strings.Contains(failed.Error(), want) {
				t.Errorf("%q lacks %q", failed, want)
			}
		}
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed")
	})
	t.Run("time that is up is a failure", func(t *testing.T) {
		failed, err := run(t.Context(), 2*time.Second, &deploy.Test{Filters: []deploy.TestFilter{{Name: "hangs"}}})
		if err != nil || failed == nil || !strings.Contains(failed.Error(), "is not done") {
			t.Fatal(failed, err)
		}
	})
	t.Run("a cancelled run is no verdict", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		failed, err := run(ctx, time.Minute, &deploy.Test{Filters: []deploy.TestFilter{{Name: "hangs"}}})
		if failed != nil || err == nil {
			t.Fatal(failed, err)
		}
	})
	t.Run("a test that the chart does not have does not pass", func(t *testing.T) {
		failed, err := run(t.Context(), time.Minute, &deploy.Test{Filters: []deploy.TestFilter{{Name: "z"}}})
		if failed != nil || err == nil || !strings.Contains(err.Error(), "names the test z, it has a, b, hangs") {
			t.Fatal(failed, err)
		}
	})
}

// operateOn runs one operation on the release of a target, which has records.
func (e *env) operateOn(ctx context.Context, target deploy.Target, timeout time.Duration, do func(*operation) error) error {
	return e.engine.operate(ctx, target, placeOf(target), timeout, nil, do)
}
