package helm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"

	"github.com/towline/towline/internal/deploy"
)

// past is a target's history as lines, the newest first.
func (e *env) past(t deploy.Target) []string {
	e.Helper()
	list, err := e.engine.History(e.Context(), t)
	e.must(err)
	var out []string
	for _, r := range list {
		version, _, _ := strings.Cut(r.Version, "+")
		line := fmt.Sprintf("%d %s %s %s", r.Revision, r.Status, r.Chart, version)
		for word, yes := range map[string]bool{" foreign": r.Foreign, " held": r.Held, " rejected": r.Rejected, " " + r.Tested: r.Tested != "", " " + r.Problem: r.Problem != ""} {
			if yes {
				line += word
			}
		}
		out = append(out, line)
	}
	return out
}

func TestHistory(t *testing.T) {
	e := newEnv(t)
	target := e.target(`{"replicaCount":1}`)
	t.Run("is empty before anything is installed", func(t *testing.T) { wantLines(t, e.past(target)) })
	began := time.Now().Add(-time.Second)
	e.bring(target, e.revision(web("1.0.0", nil)))
	e.bring(target, e.revision(web("1.1.0", nil)))
	t.Run("lists revisions with chart and status, the newest first, and writes nothing", func(t *testing.T) {
		e.counter.take()
		wantLines(t, e.past(target), "2 deployed web 1.1.0", "1 superseded web 1.0.0")
		if w := writes(e.counter.take()); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}
		list, err := e.engine.History(t.Context(), target)
		e.must(err)
		if at := list[0].Updated; at.Before(began) || at.After(time.Now().Add(time.Second)) || list[0].Description != "Upgrade complete" {
			t.Errorf("%+v", list[0])
		}
	})
	t.Run("says what a revision of ours is held or rejected by", func(t *testing.T) {
		s, err := e.set.CoreV1().Secrets(e.ns).Get(t.Context(), "sh.helm.release.v1.web.v2", metav1.GetOptions{})
		e.must(err)
		s.Labels["towline.dev/held"], s.Labels["towline.dev/rejected"], s.Labels["towline.dev/tested"], s.Labels[labelTry] = "true", "v1.x", "passed", "3.abc"
		_, err = e.set.CoreV1().Secrets(e.ns).Update(t.Context(), s, metav1.UpdateOptions{})
		e.must(err)
		list, err := e.engine.History(t.Context(), target)
		e.must(err)
		if r := list[0]; !r.Held || !r.Rejected || r.Tested != "passed" || r.Attempts != 3 || r.Foreign {
			t.Errorf("%+v", r)
		}
	})
	t.Run("says of those of other clients that they are, though these copy our labels", func(t *testing.T) {
		up := action.NewUpgrade(e.cli(e.ns))
		up.Namespace, up.ReuseValues = e.ns, true
		_, err := up.Run("web", &chart.Chart{Metadata: &chart.Metadata{APIVersion: "v2", Name: "web", Version: "9.0.0"}}, nil)
		e.must(err)
		wantEqual(t, "newest", e.past(target)[0], "3 deployed web 9.0.0 foreign")
	})
	t.Run("says of a record that cannot be read that it cannot", func(t *testing.T) {
		s, err := e.set.CoreV1().Secrets(e.ns).Get(t.Context(), "sh.helm.release.v1.web.v1", metav1.GetOptions{})
		e.must(err)
		s.Data["release"] = []byte("no")
		_, err = e.set.CoreV1().Secrets(e.ns).Update(t.Context(), s, metav1.UpdateOptions{})
		e.must(err)
		lines := e.past(target)
		wantEqual(t, "oldest", lines[len(lines)-1], "1 superseded   Secret "+e.ns+"/sh.helm.release.v1.web.v1 cannot be decoded")
	})
}

func TestHistoryShowsNoValues(t *testing.T) {
	e := newEnv(t)
	quoting := strings.Replace(configMapNamed("x"), "{name: x}", "{name: {{ .Values.name | quote }}}", 1)
	target := e.target(`{"name":"canary_of_a_value"}`)
	if _, err := e.run(t.Context(), target, e.revision(plain("1.0.0", map[string]string{"a": quoting})), false); err == nil {
		t.Fatal("the server took a bad name")
	}
	list, err := e.engine.History(t.Context(), target)
	e.must(err)
	if len(list) != 1 || list[0].Status != "failed" || !strings.Contains(list[0].Description, "(value /name)") || strings.Contains(fmt.Sprint(list), "canary") {
		t.Errorf("%+v", list)
	}
}
