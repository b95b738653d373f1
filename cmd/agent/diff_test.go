package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

func secretOf(data map[string]any, lastApplied string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "login", "resourceVersion": "7"}, "data": data,
	}}
	if lastApplied != "" {
		u.SetAnnotations(map[string]string{"kubectl.kubernetes.io/last-applied-configuration": lastApplied})
	}
	return u
}

var loginSecret = deploy.ObjectID{Kind: "Secret", Name: "login"}

func TestDifferencesOfSecrets(t *testing.T) {
	before := secretOf(map[string]any{"same": "canary-a", "other": "canary-b", "gone": "canary-c"}, `{"data":"canary-d"}`)
	after := secretOf(map[string]any{"same": "canary-a", "other": "canary-e", "come": "canary-f"}, `{"data":"canary-g"}`)
	const annotations = " kind: Secret\n metadata:\n   annotations:\n"
	for name, c := range map[string]struct {
		before, after *unstructured.Unstructured
		want          string
	}{
		"one sees which values differ": {before, after, ` apiVersion: v1
 data:
-  gone: '***'
-  other: '*** (before)'
+  come: '***'
+  other: '*** (after)'
   same: '***'
` + annotations + `-    kubectl.kubernetes.io/last-applied-configuration: '*** (before)'
+    kubectl.kubernetes.io/last-applied-configuration: '*** (after)'
   name: login
`},
		"one that is created shows its keys": {nil, after, `+apiVersion: v1
+data:
+  come: '***'
+  other: '***'
+  same: '***'
+kind: Secret
+metadata:
+  annotations:
+    kubectl.kubernetes.io/last-applied-configuration: '***'
+  name: login
`},
		"data of another shape is masked whole": {
			&unstructured.Unstructured{Object: map[string]any{"kind": "Secret", "data": "canary"}},
			&unstructured.Unstructured{Object: map[string]any{"kind": "Secret", "data": []any{"canary"}, "stringData": map[string]any{"x": "canary"}}},
			"-data: '*** (before)'\n+data: '*** (after)'\n kind: Secret\n+stringData:\n+  x: '***'\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := show("kustomization/web", deploy.Difference{Change: deploy.Change{Object: loginSecret}, Before: c.before, After: c.after})
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(s.Diff, "\n") // behind the hunk's header
			if d := cmp.Diff(c.want, body); d != "" {
				t.Fatal(d)
			}
			b, err := json.Marshal(s)
			if err != nil || strings.Contains(string(b), "canary") {
				t.Fatalf("%v: %s", err, b)
			}
		})
	}
	if before.Object["data"].(map[string]any)["same"] != "canary-a" {
		t.Fatal("the object itself was masked")
	}
}

func TestWriteDifferences(t *testing.T) {
	settings := func(color string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"kind": "ConfigMap", "metadata": map[string]any{"name": "settings", "uid": color, "managedFields": []any{}}, "data": map[string]any{"color": color},
		}}
	}
	id := func(name string) deploy.ObjectID {
		return deploy.ObjectID{Kind: "ConfigMap", Namespace: "shop", Name: name}
	}
	var all []shownDifference
	for _, d := range []deploy.Difference{
		{Change: deploy.Change{Action: deploy.ActionUpdate, Object: id("settings"), Reason: "drifted"}, Before: settings("red"), After: settings("blue\x1b[2J")},
		{Change: deploy.Change{Action: deploy.ActionPrune, Object: id("old"), Reason: "no longer in the artifact"}, Before: settings("red")},
		{Change: deploy.Change{Action: deploy.ActionKeep, Object: id("kept"), Reason: "prune is off"}, Before: settings("red"), After: settings("red")},
		{Change: deploy.Change{Action: deploy.ActionKeep, Object: id("held"), Reason: "too many"}, Before: settings("red"), After: settings("red"), Blocked: true},
		{Change: deploy.Change{Action: deploy.ActionUpdate, Object: id("bad"), Err: errors.New("refused")}},
	} {
		s, err := show("kustomization/web", d)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	var b bytes.Buffer
	if err := writeDifferences(&b, all, true); err != nil {
		t.Fatal(err)
	}
	const want = `kustomization/web

► ConfigMap/shop/settings changed (drifted)
 data:
-  color: red
+  color: "blue\e[2J"
 kind: ConfigMap
 metadata:
   name: settings

► ConfigMap/shop/old deleted
-data:
-  color: red
-kind: ConfigMap
-metadata:
-  name: settings

► ConfigMap/shop/kept kept (prune is off)

► ConfigMap/shop/held blocked (too many)

► ConfigMap/shop/bad not comparable: refused

1 changed, 1 deleted, 1 blocked, 1 kept, 1 not comparable
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Fatal(d)
	}
	b.Reset()
	if err := writeDifferences(&b, nil, true); err != nil || b.Len() > 0 {
		t.Fatalf("of nothing: %q, %v", b.String(), err)
	}
}

func TestWhatCountsAsADifference(t *testing.T) {
	for _, c := range []struct {
		name string
		s    shownDifference
		want bool
	}{
		{"what an attempt would create does", shownDifference{Action: deploy.ActionCreate}, true},
		{"what an attempt would delete does", shownDifference{Action: deploy.ActionPrune}, true},
		{"a release that would be upgraded does", shownDifference{Action: deploy.ActionUpgrade}, true},
		{"what is kept does not", shownDifference{Action: deploy.ActionKeep}, false},
		{"what is left alone does not", shownDifference{Action: deploy.ActionSkip}, false},
		{"drift that is only watched does not", shownDifference{Action: deploy.ActionDrift}, false},
		{"a prune that waits for somebody's word does", shownDifference{Action: deploy.ActionKeep, Blocked: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.s.counts(); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestWriteTree(t *testing.T) {
	at := func(kind, name string) deploy.ObjectID {
		return deploy.ObjectID{Kind: kind, Namespace: "shop", Name: name}
	}
	created := time.Now().Add(-90 * time.Second)
	var b bytes.Buffer
	err := writeTree(&b, shownTree{Target: "kustomization/web", Objects: []deploy.Live{
		{Object: at("Deployment", "web"), Health: "InProgress", Message: "Available: 0/1", Created: created, Children: []deploy.Live{
			{Object: at("ReplicaSet", "web-1"), Health: "Current", Message: "fine", Created: created, Children: []deploy.Live{
				{Object: at("Pod", "web-1-a"), Health: "Failed", Message: "ImagePullBackOff\nagain", Created: created},
			}},
			{Object: at("ReplicaSet", "web-2"), Health: "Current", Created: created},
		}},
		{Object: at("PersistentVolumeClaim", "data"), Health: "Current", Kept: true, Created: created},
		{Object: deploy.ObjectID{Kind: "Namespace", Name: "shop"}, Health: "Terminating", Finalizers: []string{"kubernetes"}, Created: created},
		{Object: at("ConfigMap", "many"), Health: "Current", PruneBlocked: deploy.BlockedByLimit, Created: created},
		{Object: at("ConfigMap", "all"), Health: "Current", PruneBlocked: deploy.BlockedByEmpty, Created: created},
		{Object: at("Secret", "login"), Health: "NotFound"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `kustomization/web
├── Deployment/shop/web              InProgress   1m30s   Available: 0/1
│   ├── ReplicaSet/web-1             Current      1m30s
│   │   └── Pod/web-1-a              Failed       1m30s   ImagePullBackOff again
│   └── ReplicaSet/web-2             Current      1m30s
├── PersistentVolumeClaim/shop/data  Current      1m30s   kept: no longer in the artifact
├── Namespace/shop                   Terminating  1m30s   waits for kubernetes
├── ConfigMap/shop/many              Current      1m30s   would be pruned: blocked by pruneLimit
├── ConfigMap/shop/all               Current      1m30s   would be pruned: blocked, because the artifact renders no objects
└── Secret/shop/login                NotFound

The prune waits for somebody's word: towline diff kustomization/web says which digest to allow.
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Fatal(d)
	}
}

func TestDifferencesThatNobodyCanTell(t *testing.T) {
	d := deploy.Difference{Change: deploy.Change{Action: deploy.ActionUpdate, Object: loginSecret, Reason: "not known to be applied", Err: errors.New("spec: immutable")}}
	d.Before = secretOf(map[string]any{"a": "b"}, "")
	s, err := show("kustomization/web", d)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeDifferences(&out, []shownDifference{s}, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("► Secret/login not comparable: spec: immutable\n\n1 not comparable\n", out.String()); diff != "" {
		t.Errorf("an object that the server refuses is not shown as one that goes (-want +got):\n%s", diff)
	}
}

func TestALongReasonIsSaidOnce(t *testing.T) {
	why := strings.Repeat("prune blocked ", 10)
	s := shownDifference{Target: "kustomization/web", Action: deploy.ActionKeep, Object: loginSecret, Reason: why}
	var out bytes.Buffer
	if err := writeDifferences(&out, []shownDifference{s, s}, false); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), why); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, out.String())
	}
	if !strings.Contains(out.String(), "kept (the same)") {
		t.Errorf("the second does not say so:\n%s", out.String())
	}
}
