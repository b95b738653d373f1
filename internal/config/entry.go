package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

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

// notifyEntry is an item of notify: the name, then Flux's Provider and Alert in one.
type notifyEntry struct {
	deploy.Meta
	deploy.SinkSpec
}

// kindSink marks the entries of notify. They are no objects of Flux's, and nothing refers to them.
const kindSink deploy.Kind = "notify"

// entry is one item of sources, kustomizations, helmReleases or notify on its way to a deploy.Source, deploy.Target or deploy.Sink.
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
	sink          *deploy.SinkSpec

	places map[string]place
	wrong  map[string]bool
	report func(place, string)

	// Set while references are resolved.
	sourceName deploy.Name
	dependsOn  []deploy.Name
	readyExprs map[deploy.Name]string
}

// lists maps the keys of a document that hold entries to their kind.
var lists = map[string]deploy.Kind{
	"sources":        deploy.KindSource,
	"kustomizations": deploy.KindKustomization,
	"helmReleases":   deploy.KindHelmRelease,
	"notify":         kindSink,
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
	var n notifyEntry
	switch kind {
	case deploy.KindSource:
		into = &s
	case deploy.KindKustomization:
		into = &k
	case kindSink:
		into = &n
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
	case kindSink:
		e.meta, e.sink = n.Meta, &n.SinkSpec
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

// item is the path of an item of a list.
func item(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// emptyIfWritten reports an empty text, unless the key is not there at all: that is a default, or reported already.
func (e *entry) emptyIfWritten(path, want string) {
	if _, written := e.places[path]; written {
		e.bad(path, "is empty: %s", want)
	}
}

// brokenBelow reports whether something at or below a path was found wrong and left out, so that what is missing there may be just that.
func (e *entry) brokenBelow(path string) bool {
	for p := range e.wrong {
		if rest, below := strings.CutPrefix(p, path); below && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

func (e *entry) anyBroken(paths ...string) bool { return slices.ContainsFunc(paths, e.brokenBelow) }

// bad reports a problem with a path of the entry, unless what stands there was found wrong before.
func (e *entry) bad(path, format string, args ...any) {
	for p := path; p != ""; p = parentPath(p) {
		if e.wrong[p] {
			return
		}
	}
	e.report(e.at(path), message(e.label, path, fmt.Sprintf(format, args...)))
}
