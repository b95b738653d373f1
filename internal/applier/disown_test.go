package applier

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/deploy"
)

func TestDisown(t *testing.T) {
	t.Parallel()
	const (
		none   = `{}`
		labels = `{"f:metadata":{"f:labels":{"f:l":{}}}}`
		tcp80  = `{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}`
		udp80  = `{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"UDP\"}":{".":{},"f:port":{}}}}}`
		tcp81  = `{"f:spec":{"f:ports":{"k:{\"port\":81,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}`
		only81 = `{"f:spec":{"f:ports":{"k:{\"port\":81,\"protocol\":\"TCP\"}":{"f:name":{}}}}}`
		nested = `{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:ports":{"k:{\"containerPort\":81,\"protocol\":\"TCP\"}":{}}},"k:{\"name\":\"d\"}":{}}}}`
		port81 = `{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:ports":{"k:{\"containerPort\":81,\"protocol\":\"TCP\"}":{}}}}}}`
		contD  = `{"f:spec":{"f:containers":{"k:{\"name\":\"d\"}":{}}}}`
	)
	entry := func(manager string, op metav1.ManagedFieldsOperationType, subresource, version, fields string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: op, Subresource: subresource, APIVersion: version, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
	}
	ours := func(fields string) metav1.ManagedFieldsEntry {
		return entry(deploy.FieldManager, metav1.ManagedFieldsOperationApply, "", "v1", fields)
	}
	theirs := func(fields string) metav1.ManagedFieldsEntry {
		return entry("edit", metav1.ManagedFieldsOperationUpdate, "", "v1", fields)
	}
	type managed []metav1.ManagedFieldsEntry
	const service = "{apiVersion: v1, spec: {ports: [{port: 80}]}}"
	const pod = "{apiVersion: v1, spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}}"
	for _, c := range []struct {
		name    string
		body    string
		blamed  string
		managed managed
		want    managed // nil: nothing moves
		entries []string
	}{
		{
			name: "moves an updater's entry and leaves out who owns nothing any more", body: service, blamed: "spec.ports.name",
			managed: managed{ours(tcp80), theirs(tcp81)},
			want:    managed{ours(`{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}},"k:{\"port\":81,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}`)},
			entries: []string{`.spec.ports[port=81,protocol="TCP"]`},
		},
		{
			name: "moves from all updaters, though we own none of the list any more, and leaves them what is elsewhere", body: service, blamed: "spec.ports",
			managed: managed{ours(none), theirs(only81), entry("create", metav1.ManagedFieldsOperationUpdate, "", "v1", `{"f:metadata":{"f:labels":{"f:l":{}}},"f:spec":{"f:ports":{"k:{\"port\":81,\"protocol\":\"TCP\"}":{".":{}}}}}`)},
			want:    managed{ours(`{"f:spec":{"f:ports":{"k:{\"port\":81,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}}}}`), entry("create", metav1.ManagedFieldsOperationUpdate, "", "v1", labels)},
			entries: []string{`.spec.ports[port=81,protocol="TCP"]`},
		},
		{
			name: "knows the protocol that the manifest leaves to the server", body: service, blamed: "spec.ports.name",
			managed: managed{ours(none), theirs(udp80)}, want: managed{ours(udp80)}, entries: []string{`.spec.ports[port=80,protocol="UDP"]`},
		},
		{
			name: "takes the innermost list around the field only", body: pod, blamed: "spec.containers.ports.name",
			managed: managed{ours(labels), theirs(nested)},
			want:    managed{ours(`{"f:metadata":{"f:labels":{"f:l":{}}},` + port81[1:]), theirs(contD)},
			entries: []string{`.spec.containers[name="c"].ports[containerPort=81,protocol="TCP"]`},
		},
		{
			name: "takes every list below a field", body: pod, blamed: "spec",
			managed: managed{ours(none), theirs(nested)}, want: managed{ours(nested)},
			entries: []string{`.spec.containers[name="d"]`, `.spec.containers[name="c"].ports[containerPort=81,protocol="TCP"]`},
		},
		{name: "leaves entries that the manifest has", body: service, blamed: "spec.ports.name", managed: managed{ours(none), theirs(tcp80)}},
		{name: "leaves lists that the manifest does not have", body: "{apiVersion: v1, spec: {}}", blamed: "spec.ports.name", managed: managed{ours(none), theirs(tcp81)}},
		{name: "leaves labels", body: "{apiVersion: v1, metadata: {labels: {a: b}}}", blamed: "metadata.labels", managed: managed{ours(none), theirs(labels)}},
		{name: "leaves lists that the server does not mind", body: service, blamed: "spec.portsOrNot", managed: managed{ours(none), theirs(tcp81)}},
		{
			name: "leaves what another applier owns, if only a field of it", body: service, blamed: "spec.ports.name",
			managed: managed{ours(none), theirs(tcp81), entry("other", metav1.ManagedFieldsOperationApply, "", "v1", only81)},
		},
		{
			name: "leaves what a subresource owns", body: service, blamed: "spec.ports.name",
			managed: managed{ours(none), theirs(tcp81), entry("edit", metav1.ManagedFieldsOperationUpdate, "status", "v1", tcp81)},
		},
		{
			name: "leaves what is owned in another API version", body: service, blamed: "spec.ports.name",
			managed: managed{ours(none), entry("edit", metav1.ManagedFieldsOperationUpdate, "", "v2", tcp81)},
		},
		{
			name: "leaves everything where our own fields are of another API version", body: "{apiVersion: v2, spec: {ports: [{port: 80}]}}", blamed: "spec.ports.name",
			managed: managed{ours(none), entry("edit", metav1.ManagedFieldsOperationUpdate, "", "v2", tcp81)},
		},
		{name: "leaves everything where we never applied", body: service, blamed: "spec.ports.name", managed: managed{theirs(tcp81)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(c.body), &u.Object); err != nil {
				t.Fatal(err)
			}
			got, entries, err := disown(c.managed, u, []string{c.blamed})
			if err != nil {
				t.Fatal(err)
			}
			text := cmp.Transformer("text", func(f metav1.FieldsV1) string { return string(f.GetRawBytes()) })
			if d := cmp.Diff(c.want, managed(got), text); d != "" {
				t.Errorf("ownership (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.entries, entries); d != "" {
				t.Errorf("entries (-want +got):\n%s", d)
			}
		})
	}
	t.Run("says whose fields cannot be decoded", func(t *testing.T) {
		t.Parallel()
		_, _, err := disown(managed{theirs(`{"x`)}, &unstructured.Unstructured{Object: map[string]any{}}, nil)
		if err == nil || !strings.Contains(err.Error(), "fields of edit") {
			t.Errorf("error is %v", err)
		}
	})
}
