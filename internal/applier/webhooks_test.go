package applier

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/apply/task"
	"sigs.k8s.io/cli-utils/pkg/apply/taskrunner"
	"sigs.k8s.io/cli-utils/pkg/object"
	"sigs.k8s.io/cli-utils/pkg/object/graph"

	"github.com/google/go-cmp/cmp"
)

func TestWebhooksLast(t *testing.T) {
	made := func(group, kind, name string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind})
		u.SetName(name)
		return u
	}
	const admission = "admissionregistration.k8s.io"
	hook, mutating := made(admission, "ValidatingWebhookConfiguration", "hook"), made(admission, "MutatingWebhookConfiguration", "mutating")
	needed := made(admission, "ValidatingWebhookConfiguration", "needed")
	alike := made("example.org", "ValidatingWebhookConfiguration", "alike")
	ns, pod, user := made("", "Namespace", "ns"), made("", "ConfigMap", "pod"), made("", "ConfigMap", "user")
	g := graph.New()
	g.AddEdge(object.UnstructuredToObjMetadata(user), object.UnstructuredToObjMetadata(needed))
	waves := func(tasks []taskrunner.Task) (out [][]string) {
		for _, t := range tasks {
			var objects object.UnstructuredSet
			switch t := t.(type) {
			case *task.ApplyTask:
				objects = t.Objects
			case *task.PruneTask:
				objects = t.Objects
			}
			names := []string{}
			for _, u := range objects {
				names = append(names, u.GetName())
			}
			out = append(out, names)
		}
		return out
	}
	apply := func(us ...*unstructured.Unstructured) taskrunner.Task { return &task.ApplyTask{Objects: us} }
	prune := func(us ...*unstructured.Unstructured) taskrunner.Task { return &task.PruneTask{Objects: us} }
	for _, c := range []struct {
		name  string
		tasks []taskrunner.Task
		want  [][]string
	}{
		{"are applied with the last wave, in the order that they had", []taskrunner.Task{apply(hook, ns), apply(mutating), apply(pod)}, [][]string{{"ns"}, {}, {"pod", "hook", "mutating"}}},
		{"are deleted with the first wave", []taskrunner.Task{prune(pod), prune(ns, hook)}, [][]string{{"pod", "hook"}, {"ns"}}},
		{"stay where another object depends on them", []taskrunner.Task{apply(needed), apply(user)}, [][]string{{"needed"}, {"user"}}},
		{"are known by their group", []taskrunner.Task{apply(alike, hook), apply(pod)}, [][]string{{"alike"}, {"pod", "hook"}}},
		{"stay alone in the only wave", []taskrunner.Task{apply(hook, ns), prune(mutating)}, [][]string{{"hook", "ns"}, {"mutating"}}},
		{"need not be there", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			webhooksLast(c.tasks, g)
			if d := cmp.Diff(c.want, waves(c.tasks)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
