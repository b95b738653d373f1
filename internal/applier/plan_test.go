package applier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

func TestDecideApply(t *testing.T) {
	for _, c := range []struct {
		name   string
		known  *entry
		live   *seen // of a full run
		action deploy.Action
		reason string
	}{
		{"never heard of", nil, nil, deploy.ActionCreate, reasonNew},
		{"as recorded", &entry{rendered: "h"}, nil, "", ""},
		{"rendered differently", &entry{rendered: "old"}, nil, deploy.ActionApply, reasonChanged},
		{"sent, answer lost", &entry{uid: "u"}, nil, deploy.ActionApply, reasonUnconfirmed},
		{"kept, and wanted again", &entry{kept: true}, nil, deploy.ActionApply, reasonUnconfirmed},
		{"full: as wanted", &entry{rendered: "h", owned: "o", uid: "u"}, &seen{found: true, owned: "o", uid: "u"}, "", ""},
		{"full: gone", &entry{rendered: "h", owned: "o", uid: "u"}, &seen{}, deploy.ActionCreate, reasonMissing},
		{"full: another object of that name", &entry{rendered: "h", owned: "o", uid: "u"}, &seen{found: true, owned: "o", uid: "v"}, deploy.ActionApply, reasonReplaced},
		{"full: a field was taken from us", &entry{rendered: "h", owned: "o", uid: "u"}, &seen{found: true, owned: "p", uid: "u"}, deploy.ActionApply, reasonDrifted},
		{"full: it could not be read", &entry{rendered: "h", owned: "o", uid: "u"}, &seen{err: io.EOF}, deploy.ActionApply, reasonUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"namespace": "ns", "name": "a"}}}
			n := &note{render: &rendered{objects: object.UnstructuredSet{u}, hashes: map[object.ObjMetadata]string{id("a"): "h"}}}
			known := entries{}
			if c.known != nil {
				known[id("a")] = *c.known
			}
			var live map[object.ObjMetadata]seen
			if c.live != nil {
				live = map[object.ObjMetadata]seen{id("a"): *c.live}
			}
			var want []deploy.Change
			if c.action != "" {
				want = []deploy.Change{{Action: c.action, Object: objectID(id("a")), Reason: c.reason}}
			}
			if d := cmp.Diff(want, n.decideApply(known, live)); d != "" {
				t.Fatal(d)
			}
			if _, sent := n.apply[id("a")]; sent != (c.action != "") {
				t.Fatalf("sent: %v", sent)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	i := infoOf("towline-system", deploy.Name{Kind: deploy.KindKustomization, Namespace: "apps", Name: "web"})
	type m = map[string]any
	mine := m{"config.k8s.io/owning-inventory": i.id}
	with := func(key, value string) m { return m{"config.k8s.io/owning-inventory": i.id, key: value} }
	for _, c := range []struct {
		name        string
		apiVersion  string
		kind        string
		metadata    m
		annotations m
		prune       bool
		want        fate
	}{
		{"an ordinary object goes", "v1", "ConfigMap", m{}, mine, true, fateDelete},
		{"without prune it is let go", "v1", "ConfigMap", m{}, mine, false, fateRelease},
		{"without an owner it is ours by its uid", "v1", "ConfigMap", m{"uid": "1"}, m{}, true, fateDelete},
		{"without an owner and with another uid it is somebody else's", "v1", "ConfigMap", m{"uid": "2"}, m{}, true, fateForget},
		{"another inventory's is forgotten", "v1", "ConfigMap", m{}, m{"config.k8s.io/owning-inventory": "x"}, true, fateForget},
		{"Flux's annotation", "v1", "ConfigMap", m{}, with("kustomize.toolkit.fluxcd.io/prune", "disabled"), true, fateRelease},
		{"our annotation", "v1", "ConfigMap", m{}, with("towline.dev/prune", "disabled"), true, fateRelease},
		{"cli-utils' annotation", "v1", "ConfigMap", m{}, with("client.lifecycle.config.k8s.io/deletion", "detach"), true, fateRelease},
		{"a namespace stays", "v1", "Namespace", m{"name": "shop"}, mine, true, fateKeep},
		{"a namespace that may go", "v1", "Namespace", m{"name": "shop"}, with("towline.dev/prune", "enabled"), true, fateDelete},
		{"the agent's namespace stays whatever it says", "v1", "Namespace", m{"name": "towline-system"}, with("towline.dev/prune", "enabled"), true, fateKeep},
		{"the agent's state stays", "v1", "ConfigMap", m{"namespace": "towline-system", "labels": m{deploy.LabelState: "record"}}, mine, true, fateKeep},
		{"a claim stays", "v1", "PersistentVolumeClaim", m{}, mine, true, fateKeep},
		{"a volume stays", "v1", "PersistentVolume", m{}, mine, true, fateKeep},
		{"a definition stays", "apiextensions.k8s.io/v1", "CustomResourceDefinition", m{}, mine, true, fateKeep},
		{"a kind of the same name elsewhere goes", "example.org/v1", "Namespace", m{}, mine, true, fateDelete},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.metadata["annotations"] = c.annotations
			got, why := judge(&unstructured.Unstructured{Object: m{"apiVersion": c.apiVersion, "kind": c.kind, "metadata": c.metadata}}, i, "1", c.prune)
			if got != c.want || (why == "") != (got == fateDelete) {
				t.Fatalf("want %d, got %d: %s", c.want, got, why)
			}
		})
	}
}

func TestDropped(t *testing.T) {
	known := entries{id("a"): {}, id("b"): {}, id("kept"): {kept: true}}
	names := func(ids []object.ObjMetadata) []string {
		var s []string
		for _, o := range ids {
			s = append(s, o.Name)
		}
		return s
	}
	for _, c := range []struct {
		name string
		r    rendered
		full bool
		want []string
	}{
		{"is what is not rendered", rendered{hashes: map[object.ObjMetadata]string{id("a"): ""}}, false, []string{"b"}},
		{"is looked at again in a full run where it was kept", rendered{hashes: map[object.ObjMetadata]string{id("a"): ""}}, true, []string{"b", "kept"}},
		{"is nothing of a kind whose scope is unknown", rendered{unsureKinds: map[schema.GroupKind]bool{id("a").GroupKind: true}}, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, names(droppedIDs(&c.r, known, c.full))); d != "" {
				t.Fatal(d)
			}
		})
	}
}

func TestTransient(t *testing.T) {
	gr := schema.GroupResource{Resource: "things"}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{apierrors.NewInternalError(errors.New("failed calling webhook: no endpoints available")), true},
		{apierrors.NewTooManyRequests("slow down", 1), true},
		{apierrors.NewServiceUnavailable("starting"), true},
		{apierrors.NewConflict(gr, "x", errors.New("modified")), true},
		{&url.Error{Op: "Patch", URL: "https://x", Err: errors.New("connection refused")}, true},
		{&lostError{errors.New("cut off")}, true},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true},
		{&url.Error{Op: "Patch", URL: "https://x", Err: context.Canceled}, false},
		{context.DeadlineExceeded, false},
		{apierrors.NewForbidden(gr, "x", errors.New("no")), false},
		{apierrors.NewNotFound(gr, "x"), false},
		{apierrors.NewBadRequest("what"), false},
		{apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "PATCH", gr, "x", "invalid", 0, false), false},
		{&meta.NoKindMatchError{}, false},
		{&foreignError{}, false},
		{errMissingNamespace, false},
		{errUnreadable, false},
	} {
		if got := transient(c.err); got != c.want {
			t.Errorf("%v: want %v", c.err, c.want)
		}
	}
}
