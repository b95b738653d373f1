// Package flux writes entries of the config as the documents of Flux that mean the same, and says what of them Flux has no words for.
package flux

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/deploy"
)

// Document is one Flux object, without status.
type Document struct {
	Entry  deploy.Name
	Object map[string]any
}

// Loss is something of an entry that Flux has no field for.
type Loss struct {
	Entry deploy.Name
	// Field is its path in the entry.
	Field string
	// Why says what became of it.
	Why string
}

// Text is the loss in one line; names are shortened as people write them in that namespace.
func (l Loss) Text(namespace string) string {
	return l.Entry.Short(namespace) + ": " + l.Field + " " + l.Why
}

const leftOut = "has no counterpart in Flux: left out"

// Documents are the entries as Flux documents: the sources, then the targets, each ordered by kind, namespace and name. Entries are as the config loads them, defaults filled in and
// references resolved; what is Flux's own default is not written. Where a reference to a file of this machine is left out, a reference to a Secret stands in its place that has to be made
// first: without it Flux would check nothing, or apply to another cluster. The error names an entry that cannot be written at all, which a validated config has not.
func Documents(sources []deploy.Source, targets []deploy.Target) ([]Document, []Loss, error) {
	var docs []Document
	var left []Loss
	sources, targets = slices.Clone(sources), slices.Clone(targets)
	slices.SortFunc(sources, func(a, b deploy.Source) int { return a.Name.Compare(b.Name) })
	slices.SortFunc(targets, func(a, b deploy.Target) int { return a.Name.Compare(b.Name) })
	foreign := map[deploy.Name]bool{}
	for _, s := range sources {
		if scheme, _, _ := strings.Cut(s.Spec.URL, "://"); scheme != "oci" {
			foreign[s.Name] = true
			left = append(left, Loss{s.Name, "url", "is " + scheme + "://, and Flux pulls from registries only: the source is left out"})
			continue
		}
		w := writer{entry: s.Name}
		docs, left = w.add(docs, left, ociRepository, w.source(s))
		if w.err != nil {
			return nil, nil, w.err
		}
	}
	for _, t := range targets {
		w := writer{entry: t.Name}
		if foreign[t.Source] {
			field := "sourceRef"
			if t.HelmRelease != nil {
				field = "chartRef"
			}
			w.lose(field, "names "+t.Source.Name+", which is left out")
		}
		if t.Kustomization != nil {
			docs, left = w.add(docs, left, kustomization, w.kustomization(t))
		} else {
			docs, left = w.add(docs, left, helmRelease, w.helmRelease(t))
		}
		if w.err != nil {
			return nil, nil, w.err
		}
	}
	return docs, left, nil
}

// Write prints documents as YAML.
func Write(out io.Writer, docs []Document) error {
	for _, d := range docs {
		b, err := json.Marshal(d.Object)
		if err == nil {
			b, err = yaml.JSONToYAML(b)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.Entry, err)
		}
		if _, err := fmt.Fprintf(out, "---\n%s", b); err != nil {
			return err
		}
	}
	return nil
}

// writer writes one entry.
type writer struct {
	entry deploy.Name
	left  []Loss
	err   error
}

func (w *writer) lose(field, why string) { w.left = append(w.left, Loss{w.entry, field, why}) }

// add appends the entry's document and what is not in it. The spec is one of ours: what the kind does not have is taken out.
func (w *writer) add(docs []Document, left []Loss, k kind, spec any) ([]Document, []Loss) {
	b, err := json.Marshal(spec)
	if err != nil {
		w.err = fmt.Errorf("%s: %w", w.entry, err)
		return docs, left
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber() // numbers of values stay as they were written
	var fields map[string]any
	if err := dec.Decode(&fields); err != nil {
		w.err = fmt.Errorf("%s: %w", w.entry, err)
		return docs, left
	}
	w.keep(k.spec, fields, "")
	object := map[string]any{
		"apiVersion": k.apiVersion,
		"kind":       string(w.entry.Kind),
		"metadata":   map[string]any{"name": w.entry.Name, "namespace": w.entry.Namespace},
		"spec":       fields,
	}
	return append(docs, Document{w.entry, object}), append(left, w.left...)
}

// keep takes out what Flux does not have, and what is empty by that or by itself.
func (w *writer) keep(s shape, fields map[string]any, at string) {
	for _, name := range sorted(fields) {
		below, known := s[name]
		path := strings.TrimPrefix(at+"."+name, ".")
		if !known {
			w.lose(path, leftOut)
			delete(fields, name)
			continue
		}
		switch v := fields[name].(type) {
		case map[string]any:
			if below == nil {
				continue // anything goes
			}
			if w.keep(below, v, path); len(v) == 0 {
				delete(fields, name)
			}
		case []any:
			if below == nil {
				continue
			}
			for i, item := range v {
				if m, ok := item.(map[string]any); ok {
					w.keep(below, m, fmt.Sprintf("%s[%d]", path, i))
				}
			}
		case string:
			if duration[name] {
				fields[name] = shortDuration(v)
			}
		}
	}
}

// duration are the names of fields that hold one, in all three kinds.
var duration = map[string]bool{"interval": true, "retryInterval": true, "timeout": true}

// shortDuration writes 10m0s as 10m, as people do.
func shortDuration(s string) string {
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func sorted(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
