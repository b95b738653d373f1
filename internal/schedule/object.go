package schedule

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/towline/towline/internal/deploy"
)

// facts is all of a target's run state that its object shows. Equal facts, equal objects.
type facts struct {
	hash string // of the spec
	// progressing: an attempt runs that may bring it to another version than the one it is at.
	progressing bool
	ready       version // zero: it is not
	attempted   version // zero: never, by this process
	phase       deploy.Phase
	reason      string
	message     string
	revision    string
	finished    time.Time
	record      string // hash of the record
}

// facts reads them off. It is cheap: no marshalling, no allocation where the last attempt ended well.
func (t *target) facts() facts {
	f := facts{hash: t.spec.Hash, phase: t.last.Phase, reason: t.last.Reason, revision: t.last.Revision, finished: t.last.Finished, record: t.hash}
	if t.ready != nil && t.held == nil {
		f.ready = *t.ready
	}
	if t.attempted != nil {
		f.attempted = *t.attempted
	}
	if t.last.Err != nil {
		f.message = t.last.Err.Error()
	}
	if j := t.job; j != nil && j.action != actionSave {
		f.progressing = j.action != actionRun || t.ready == nil || *t.ready != j.version
	}
	return f
}

// generation of every object's spec: there is no counter here, and expressions compare it with observedGeneration only. That is unseen until today's spec was attempted.
const (
	generation = int64(1)
	unseen     = int64(-1) // what Flux begins with
)

// object is a target as Flux's object of it would be, for readyExpr. Entries have no labels and annotations; the maps are there so that has() can ask.
func (t *target) object() (map[string]any, error) {
	apiVersion, spec := "kustomize.toolkit.fluxcd.io/v1", any(t.spec.Kustomization)
	if t.spec.HelmRelease != nil {
		apiVersion, spec = "helm.toolkit.fluxcd.io/v2", t.spec.HelmRelease
	}
	fields, err := asMap(spec)
	if err != nil {
		return nil, fmt.Errorf("read the spec of %s: %w", t.spec.Name, err)
	}
	return map[string]any{
		"apiVersion": apiVersion,
		"kind":       string(t.spec.Name.Kind),
		"metadata": map[string]any{
			"name": t.spec.Name.Name, "namespace": t.spec.Name.Namespace, "generation": generation,
			"labels": map[string]any{}, "annotations": map[string]any{},
		},
		"spec":   fields,
		"status": statusOf(t.facts(), t.rec),
	}, nil
}

// asMap reads a spec as the API server would give it: whole numbers are integers. The error holds no values.
func asMap(spec any) (out map[string]any, err error) {
	b, err := json.Marshal(spec)
	if err == nil {
		err = utiljson.Unmarshal(b, &out)
	}
	if out == nil {
		out = map[string]any{}
	}
	return out, err
}

// statusOf is the status of a target's object.
func statusOf(f facts, rec deploy.Record) map[string]any {
	ready := readyCondition(f)
	out := map[string]any{"observedGeneration": ready["observedGeneration"], "conditions": []any{ready}, "history": historyOf(rec)}
	if rec.LastGood != nil {
		out["lastAppliedRevision"] = rec.LastGood.Revision
	}
	if f.revision != "" {
		out["lastAttemptedRevision"] = f.revision
	}
	return out
}

// readyCondition says how a target is, as Flux's condition does. There always is one: of an empty list all is true.
func readyCondition(f facts) map[string]any {
	status, reason, message := metav1.ConditionUnknown, "Progressing", "not tried yet"
	observed := f.attempted
	switch {
	case f.progressing:
		message = "an attempt is running"
	case f.ready != version{}:
		status, reason, message = metav1.ConditionTrue, "ReconciliationSucceeded", "Applied revision: "+f.revision
		observed = f.ready
	case f.phase != "":
		status, reason, message = metav1.ConditionFalse, f.reason, f.message
	}
	if reason == "" {
		reason = string(f.phase)
	}
	seen := unseen
	if observed.hash == f.hash && f.hash != "" {
		seen = generation
	}
	c := map[string]any{"type": "Ready", "status": string(status), "reason": reason, "message": message, "observedGeneration": seen}
	if !f.finished.IsZero() {
		c["lastTransitionTime"] = f.finished.UTC().Format(time.RFC3339)
	}
	return c
}

// historyOf lists the last outcomes, newest first.
func historyOf(rec deploy.Record) []any {
	out := make([]any, 0, len(rec.History))
	for _, p := range rec.History {
		status := p.Reason
		if status == "" {
			status = "ReconciliationSucceeded"
		}
		out = append(out, map[string]any{
			"metadata":               map[string]any{"revision": p.Revision},
			"lastReconciled":         p.At.UTC().Format(time.RFC3339),
			"lastReconciledDuration": time.Duration(p.Took * float64(time.Second)).String(),
			"lastReconciledStatus":   status,
		})
	}
	return out
}
