package helm

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// pods is a Deployment of one pod with a pod annotation, and what else its spec has.
func pods(name, annotation, spec string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + "}\nspec:\n  selector: {matchLabels: {app: " + name + "}}\n  " + spec +
		"\n  template:\n    metadata: {labels: {app: " + name + "}, annotations: {" + annotation +
		"}}\n    spec: {terminationGracePeriodSeconds: 0, containers: [{name: a, image: \"example.org/a:1\"}]}\n"
}

func watches(requests []string) int {
	n := 0
	for _, r := range requests {
		if strings.Contains(r, "watch=true") {
			n++
		}
	}
	return n
}

func TestWaiting(t *testing.T) {
	t.Run("several workloads of a kind share one watch, and nothing is polled", func(t *testing.T) {
		e := newEnv(t)
		r := e.revision(plain("1.0.0", map[string]string{
			"a": pods("a", `kubelet.towline.dev/ready-after: "1s"`, ""), "b": pods("b", `kubelet.towline.dev/ready-after: "2s"`, ""), "c": pods("c", "", ""),
		}))
		e.bring(e.target(""), e.revision(plain("0.1.0", map[string]string{"m": configMapNamed("m")})))
		e.counter.take()
		e.bring(e.target(""), r)
		got := e.counter.take()
		after := got
		for i, q := range got {
			if strings.HasPrefix(q, "POST ") && strings.HasSuffix(strings.Split(q, "?")[0], "/deployments") {
				after = got[i+1:]
			}
		}
		if n := watches(after); n != 1 {
			t.Errorf("%d watches: %v", n, after)
		}
		for _, q := range after {
			if strings.HasPrefix(q, "GET ") && strings.Contains(q, "/deployments") && !strings.Contains(q, "watch=true") {
				t.Errorf("asks again: %s", q)
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			wantEqual(t, "ready replicas of "+name, e.deployment(name).Status.ReadyReplicas, 1)
		}
	})
	t.Run("what was ready before and stays as it is costs no look", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": pods("a", "", "")})))
		e.counter.take()
		e.bring(e.target(""), e.revision(plain("1.1.0", map[string]string{"a": pods("a", "", ""), "m": configMapNamed("m")})))
		if got := e.counter.take(); watches(got) != 0 {
			t.Errorf("watches: %v", got)
		}
	})
	t.Run("an object that is deleted meanwhile fails at once and is named", func(t *testing.T) {
		e := newEnv(t)
		w := deploy.Work{Target: e.target(""), Revision: e.revision(plain("1.0.0", map[string]string{"a": pods("a", `kubelet.towline.dev/never-ready: "true"`, "")}))}
		p, err := e.engine.Plan(t.Context(), w)
		e.must(err)
		var deleted atomic.Bool
		_, err = e.engine.Apply(t.Context(), w, p, func(phase deploy.Phase, _ string) {
			if phase == deploy.PhaseWaiting && !deleted.Swap(true) {
				e.must(e.set.AppsV1().Deployments(e.ns).Delete(t.Context(), "a", metav1.DeleteOptions{}))
			}
		})
		wantFailure(t, err, deploy.ReasonInstallFailed, "Deployment.apps/"+e.ns+"/a: it is gone")
	})
	t.Run("a rollout that stopped fails long before the timeout", func(t *testing.T) {
		e := newEnv(t)
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.0.0", map[string]string{
			"a": pods("a", `kubelet.towline.dev/image-pull-error: "true"`, "progressDeadlineSeconds: 2"),
		})), false)
		wantFailure(t, err, deploy.ReasonInstallFailed, "Deployment.apps/"+e.ns+"/a: 0 of 1 pods are ready, and there was no progress for 2 seconds")
	})
	t.Run("a failed job ends the wait while something else is still coming up", func(t *testing.T) {
		e := newEnv(t)
		job := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  backoffLimit: 0\n  template:\n    metadata: {annotations: {kubelet.towline.dev/fail: \"true\"}}\n" +
			"    spec: {restartPolicy: Never, containers: [{name: a, image: \"example.org/a:1\"}]}\n"
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.0.0", map[string]string{"a": pods("a", `kubelet.towline.dev/never-ready: "true"`, ""), "j": job})), false)
		wantFailure(t, err, deploy.ReasonInstallFailed, "Job.batch/"+e.ns+"/j: the job failed: BackoffLimitExceeded")
		off := e.target("", func(s *deploy.HelmReleaseSpec) { s.Install = &deploy.Install{DisableWaitForJobs: true} })
		e.bring(off, e.revision(plain("1.0.1", map[string]string{"j": job})))
	})
	t.Run("a timeout names everything that is missing, and what is wrong with the pods", func(t *testing.T) {
		e := newEnv(t)
		short := e.target("", func(s *deploy.HelmReleaseSpec) {
			s.Install = &deploy.Install{Timeout: &metav1.Duration{Duration: 3 * time.Second}}
		})
		pvc := "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec: {accessModes: [ReadWriteOnce], storageClassName: \"\", volumeName: none, resources: {requests: {storage: 1Gi}}}\n"
		_, err := e.run(t.Context(), short, e.revision(plain("1.0.0", map[string]string{"a": pods("a", `kubelet.towline.dev/image-pull-error: "true"`, ""), "c": pvc})), false)
		wantFailure(t, err, deploy.ReasonTimeout, "container a is waiting: ImagePullBackOff")
		wantFailure(t, err, deploy.ReasonTimeout, "PersistentVolumeClaim/"+e.ns+"/c is not ready: the claim is Pending\n") // whose pods those are not
	})
	t.Run("a finalizer that holds an object up is named when an uninstallation runs out of time, each time until the object is gone", func(t *testing.T) {
		for keep, left := range map[bool]string{false: "release: not found", true: "1:uninstalled"} {
			e := newEnv(t)
			target := e.target("", func(s *deploy.HelmReleaseSpec) {
				s.Uninstall = &deploy.Uninstall{Timeout: &metav1.Duration{Duration: 2 * time.Second}, KeepHistory: keep}
			})
			held := strings.Replace(configMapNamed("held"), "{name: held}", "{name: held, finalizers: [example.org/hold]}", 1)
			e.bring(target, e.revision(plain("1.0.0", map[string]string{"a": held})))
			for range 2 {
				err := e.engine.Delete(t.Context(), target, nil)
				wantFailure(t, err, deploy.ReasonTimeout, "ConfigMap/"+e.ns+"/held is still there: held by finalizer example.org/hold")
				wantEqual(t, "history", e.history(e.ns, "web"), "1:uninstalling")
			}
			_, err := e.set.CoreV1().ConfigMaps(e.ns).Patch(t.Context(), "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			e.must(err)
			e.must(e.engine.Delete(t.Context(), target, nil))
			wantEqual(t, "objects", e.configMaps(e.ns), "")
			wantEqual(t, "history", e.history(e.ns, "web"), left)
		}
	})
}

// TestAWaitSurvivesWhatHappensToWatches lets every way of ending come before a watch that works.
func TestAWaitSurvivesWhatHappensToWatches(t *testing.T) {
	answer := func(r *http.Request, code int, body string) *http.Response {
		return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
	}
	const status = `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old resource version","reason":"Expired","code":410}`
	faults := []func(*http.Request) (*http.Response, error){
		func(r *http.Request) (*http.Response, error) {
			return answer(r, 200, `{"type":"ERROR","object":`+status+"}\n"), nil
		},
		func(r *http.Request) (*http.Response, error) { return answer(r, 410, status), nil },
		func(r *http.Request) (*http.Response, error) { return answer(r, 200, ""), nil },
		func(r *http.Request) (*http.Response, error) {
			return answer(r, 200, `{"type":"MODIFIED","obj`), nil
		},
		func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset by peer") },
		func(r *http.Request) (*http.Response, error) {
			return answer(r, 503, strings.ReplaceAll(strings.ReplaceAll(status, "410", "503"), "Expired", "ServiceUnavailable")), nil
		},
	}
	e := newEnv(t)
	var watched, listed atomic.Int32
	e.counter.mu.Lock()
	e.counter.instead = func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "/deployments") || r.Method != http.MethodGet {
			return nil, nil //nolint:nilnil // by its contract: the server's turn
		}
		if r.URL.Query().Get("watch") != "true" {
			if listed.Add(1) == 1 {
				return nil, errors.New("connection reset by peer")
			}
			return nil, nil //nolint:nilnil // as above
		}
		n := int(watched.Add(1)) - 1
		if n < len(faults) {
			return faults[n](r)
		}
		return nil, nil //nolint:nilnil // as above
	}
	e.counter.mu.Unlock()
	e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": pods("a", `kubelet.towline.dev/ready-after: "5s"`, "")})))
	wantEqual(t, "ready replicas", e.deployment("a").Status.ReadyReplicas, 1)
	if n := int(watched.Load()); n != len(faults)+1 {
		t.Errorf("%d watches, want %d that fail and one that works", n, len(faults))
	}
	t.Run("but not that looking is forbidden", func(t *testing.T) {
		e.counter.mu.Lock()
		e.counter.instead = func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("watch") != "true" {
				return nil, nil //nolint:nilnil // as above
			}
			return answer(r, 403, strings.ReplaceAll(strings.ReplaceAll(status, "410", "403"), "Expired", "Forbidden")), nil
		}
		e.counter.mu.Unlock()
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.1.0", map[string]string{"a": pods("a", `kubelet.towline.dev/ready-after: "1s"`, "")})), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "wait for Deployment.apps/"+e.ns+"/a: ")
	})
}

// TestAnUninstallationWaitsForTheEnd lets an object go only after the wait has begun.
func TestAnUninstallationWaitsForTheEnd(t *testing.T) {
	e := newEnv(t)
	held := strings.Replace(configMapNamed("held"), "{name: held}", "{name: held, finalizers: [example.org/hold]}", 1)
	e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": held, "b": configMapNamed("b")})))
	var said atomic.Bool
	e.must(e.engine.Delete(t.Context(), e.target(""), func(phase deploy.Phase, text string) {
		if phase == deploy.PhaseDeleting && strings.Contains(text, "ConfigMap/"+e.ns+"/held: held by finalizer") && !said.Swap(true) {
			_, err := e.set.CoreV1().ConfigMaps(e.ns).Patch(t.Context(), "held", "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			e.must(err)
		}
	}))
	wantEqual(t, "it said what it waits for", said.Load(), true)
	wantEqual(t, "objects", e.configMaps(e.ns), "")
	testenv.Await(t, limit, "records gone", func() error {
		if h := e.history(e.ns, "web"); h != "release: not found" {
			return errors.New(h)
		}
		return nil
	})
}
