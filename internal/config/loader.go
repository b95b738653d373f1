package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/towline/towline/internal/deploy"
)

// document is the shape of a config file. Its lists are read entry by entry; it is here for the schema and for the names of its keys.
type document struct {
	// Namespace is the default for entries: where secretRefs resolve, and where the agent keeps its state. Default: towline-system.
	Namespace string `json:"namespace,omitempty"`
	// Agent holds settings of the process. Flags and TOWLINE_* environment variables override them.
	Agent *agentSection `json:"agent,omitempty"`
	// Sources are the OCI artifacts to watch.
	Sources []sourceEntry `json:"sources,omitempty"`
	// Kustomizations apply folders of artifacts.
	Kustomizations []kustomizationEntry `json:"kustomizations,omitempty"`
	// HelmReleases install charts.
	HelmReleases []helmReleaseEntry `json:"helmReleases,omitempty"`
	// Notify lists where alerts go.
	Notify []notifyEntry `json:"notify,omitempty"`
}

var documentKeys = fieldsOf(reflect.TypeFor[document]())

// placedText is a setting and where it was given.
type placedText struct {
	text  string
	place place
}

// loader collects entries and problems from all files.
type loader struct {
	problems  []Problem
	entries   []*entry
	namespace placedText
	// agent is the agent section, nil if there is none.
	agent map[string]any
	// agentAt is where the section stands.
	agentAt place
}

func newLoader() *loader { return &loader{} }

func (l *loader) report(at place, text string) {
	l.problems = append(l.problems, Problem{File: at.file, Line: at.line, Column: at.column, Message: shortened(text)})
}

// documents reads one file.
func (l *loader) documents(file string) []*value {
	content, err := readFile(file)
	if err != nil {
		l.report(place{file: file}, err.Error())
		return nil
	}
	return l.parse(file, content)
}

// parse reads the content of one file.
func (l *loader) parse(file string, content []byte) []*value {
	c := &converter{file: file, report: l.report, done: map[*yaml.Node]*value{}}
	before := len(l.problems)
	docs := c.parse(content)
	if len(docs) == 0 && len(l.problems) == before {
		l.report(place{file: file}, "the file is empty: write sources: [] if nothing is meant to run")
	}
	return docs
}

// read takes in one file.
func (l *loader) read(docs []*value) {
	budget := &budget{left: maxWritten}
	for _, doc := range docs {
		if doc.kind != kindObject {
			if doc.kind != kindBad {
				l.report(doc.place, fmt.Sprintf("want a map with sources, kustomizations and helmReleases, got %s", doc.kind))
			}
			continue
		}
		if refuseKubernetes(doc, l.report) {
			continue
		}
		for _, f := range doc.fields {
			l.readKey(f, budget)
		}
	}
}

// fluxNotification is the API group of Flux's Provider and Alert.
const fluxNotification = "notification.toolkit.fluxcd.io/"

// refuseKubernetes reports documents that have an apiVersion and a kind, with the key to use instead.
func refuseKubernetes(doc *value, report func(place, string)) bool {
	v, k := doc.get("apiVersion"), doc.get("kind")
	if v == nil && k == nil {
		return false
	}
	if v != nil && strings.HasPrefix(v.raw, fluxNotification) {
		report(doc.place, "Flux's alerts are not read by this version: write an entry of notify, which is a Provider and an Alert in one")
		return true
	}
	what := "a Kubernetes document"
	if k != nil && k.kind == kindText {
		what = "a document of kind " + k.raw
		for key, kind := range lists {
			if string(kind) == k.raw {
				report(doc.place, fmt.Sprintf("%s is not read by this version: write it as an entry of %s: name, then the fields of its spec", what, key))
				return true
			}
		}
	}
	report(doc.place, what+" is not a config: the keys here are namespace, agent, sources, kustomizations, helmReleases, notify; objects to apply belong into an artifact")
	return true
}

// readKey takes in one top-level key.
func (l *loader) readKey(f field, budget *budget) {
	if f.value.kind == kindNull || f.value.kind == kindBad {
		return
	}
	switch f.key {
	case "namespace":
		l.readNamespace(f)
	case "agent":
		l.readAgent(f, budget)
	case "sources", "kustomizations", "helmReleases", "notify":
		if f.value.kind != kindList {
			l.report(f.value.place, fmt.Sprintf("%s: want a list, got %s: each entry begins with - name:", f.key, f.value.kind))
			return
		}
		for i, item := range f.value.list {
			if item.kind == kindBad {
				continue
			}
			if e := l.readEntry(lists[f.key], f.key, i, item, budget); e != nil {
				l.entries = append(l.entries, e)
			}
		}
	default:
		l.report(f.place, fmt.Sprintf("%s: unknown key: %s", f.key, suggestKey(f.key, documentKeys)))
	}
}

func (l *loader) readNamespace(f field) {
	v := f.value
	if v.kind != kindText {
		l.report(v.place, fmt.Sprintf("namespace: want text, got %s%s", v.kind, hintQuotes(v, kindText)))
		return
	}
	if why := notLabel(v.raw); why != "" {
		l.report(v.place, "namespace: "+why)
		return
	}
	if first := l.namespace; first.text != "" && first.text != v.raw {
		l.report(v.place, fmt.Sprintf("namespace is %s here but %s in %s: keep one", v.raw, first.text, where(first.place, v.place)))
		return
	}
	if l.namespace.text == "" {
		l.namespace = placedText{text: v.raw, place: v.place}
	}
}

// where names a place as seen from another: the line alone if it is in the same file.
func where(p, from place) string {
	if p.file == from.file {
		return fmt.Sprintf("line %d", p.line)
	}
	if filepath.Dir(p.file) == filepath.Dir(from.file) {
		return fmt.Sprintf("%s:%d", filepath.Base(p.file), p.line)
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// finish checks what needs all files: names, references, and each entry with its defaults.
func (l *loader) finish() {
	if l.namespace.text == "" {
		l.namespace.text = DefaultNamespace
	}
	for _, e := range l.entries {
		e.name = deploy.Name{Kind: e.kind, Namespace: e.meta.Namespace, Name: e.meta.Name}
		if e.name.Namespace == "" {
			e.name.Namespace = l.namespace.text
		}
		e.check()
		e.fillDefaults()
	}
	r := newResolver(l.entries, l.namespace.text)
	r.resolve()
	slices.SortStableFunc(l.entries, func(a, b *entry) int { return a.place.compare(b.place) })
}
