package config

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/towline/towline/internal/deploy"
)

// sourceEntry is an item of sources: the name, then the spec of Flux's OCIRepository.
type sourceEntry struct {
	deploy.Meta
	deploy.SourceSpec
}

// kustomizationEntry is an item of kustomizations: the name, then the spec of Flux's Kustomization.
type kustomizationEntry struct {
	deploy.Meta
	deploy.KustomizationSpec
}

// helmReleaseEntry is an item of helmReleases: the name, then the spec of Flux's HelmRelease.
type helmReleaseEntry struct {
	deploy.Meta
	deploy.HelmReleaseSpec
}

// entry is one item of sources, kustomizations or helmReleases on its way to a deploy.Source or deploy.Target.
type entry struct {
	kind  deploy.Kind
	place place
	label string
	meta  deploy.Meta
	// name is complete once all files are read.
	name deploy.Name

	// Exactly one of these is set.
	source        *deploy.SourceSpec
	kustomization *deploy.KustomizationSpec
	helmRelease   *deploy.HelmReleaseSpec

	places map[string]place
	wrong  map[string]bool
	report func(place, string)

	// Set while references are resolved.
	sourceName deploy.Name
	dependsOn  []deploy.Name
}

// lists maps the keys of a document that hold entries to their kind.
var lists = map[string]deploy.Kind{
	"sources":        deploy.KindSource,
	"kustomizations": deploy.KindKustomization,
	"helmReleases":   deploy.KindHelmRelease,
}

// readEntry decodes one item; nil if it is not a map at all.
func (l *loader) readEntry(kind deploy.Kind, key string, index int, v *value, budget *budget) *entry {
	label := fmt.Sprintf("%s[%d]", key, index)
	if v.kind == kindObject {
		if n := v.get("name"); n != nil && n.kind == kindText && n.raw != "" {
			label = deploy.Name{Kind: kind}.Kind.Word() + "/" + n.raw
		}
	}
	e := &entry{kind: kind, place: v.place, label: label, report: l.report}
	w := &walker{label: label, report: l.report, places: map[string]place{}, wrong: map[string]bool{}, budget: budget}
	e.places, e.wrong = w.places, w.wrong

	var into any
	var s sourceEntry
	var k kustomizationEntry
	var h helmReleaseEntry
	switch kind {
	case deploy.KindSource:
		into = &s
	case deploy.KindKustomization:
		into = &k
	default:
		into = &h
	}
	if v.kind == kindNull {
		w.bad(v.place, "", "the list has an empty item")
		return nil
	}
	if !w.value(v, reflect.TypeOf(into).Elem(), "", 0) {
		return nil
	}
	if err := json.Unmarshal(w.out.Bytes(), into); err != nil {
		w.bad(v.place, "", "%s", err.Error()) // the walker should have found it: better said twice than not at all
		return nil
	}
	switch kind {
	case deploy.KindSource:
		e.meta, e.source = s.Meta, &s.SourceSpec
	case deploy.KindKustomization:
		e.meta, e.kustomization = k.Meta, &k.KustomizationSpec
	default:
		e.meta, e.helmRelease = h.Meta, &h.HelmReleaseSpec
	}
	return e
}

// at is where a path of the entry stands: the nearest part of it that was written.
func (e *entry) at(path string) place {
	for path != "" {
		if p, ok := e.places[path]; ok {
			return p
		}
		path = parentPath(path)
	}
	return e.place
}

// parentPath drops the last element: a.b[1] → a.b → a.
func parentPath(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '.' || path[i] == '[' {
			return path[:i]
		}
	}
	return ""
}

// bad reports a problem with a path of the entry, unless what stands there was found wrong before.
func (e *entry) bad(path, format string, args ...any) {
	for p := path; p != ""; p = parentPath(p) {
		if e.wrong[p] {
			return
		}
	}
	e.report(e.at(path), message(e.label, path, fmt.Sprintf(format, args...)))
}
