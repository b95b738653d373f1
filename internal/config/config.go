// Package config turns YAML files into one validated, read-only Config, or into one error that lists every problem with its file and line.
package config

import (
	"cmp"
	"slices"

	"github.com/towline/towline/internal/deploy"
)

// DefaultNamespace is where entries and the agent's own state live when the config does not say.
const DefaultNamespace = "towline-system"

// Config is everything that the agent is told to do, with defaults filled in and references resolved. It is never changed after Load.
type Config struct {
	// Namespace is the default for entries, and where the agent keeps its state.
	Namespace string
	// Sources, ordered by name.
	Sources []deploy.Source
	// Targets are the kustomizations and Helm releases together, ordered by name.
	Targets []deploy.Target
	// Sinks are where alerts go, ordered by name.
	Sinks []deploy.Sink
	// Hash changes exactly when something above does; comments, formatting and order in the files do not count.
	Hash string
}

// Load reads a file, or all *.yaml and *.yml files of a folder (not of its subfolders) as one config. The error is an *Error that lists all
// problems, except where the path itself cannot be read; then it wraps the cause, such as fs.ErrNotExist.
func Load(path string) (*Config, error) {
	files, err := listFiles(path)
	if err != nil {
		return nil, err
	}
	l := newLoader()
	for _, f := range files {
		l.read(l.documents(f))
	}
	l.finish()
	if len(l.problems) > 0 {
		return nil, newError(l.problems)
	}
	return l.config(), nil
}

// config builds the result from entries that were found to be good.
func (l *loader) config() *Config {
	c := &Config{Namespace: l.namespace.text}
	for _, e := range l.entries {
		switch e.kind {
		case deploy.KindSource:
			c.Sources = append(c.Sources, e.asSource())
		case kindSink:
			c.Sinks = append(c.Sinks, e.asSink())
		default:
			c.Targets = append(c.Targets, e.asTarget())
		}
	}
	slices.SortFunc(c.Sources, func(a, b deploy.Source) int { return a.Name.Compare(b.Name) })
	slices.SortFunc(c.Targets, func(a, b deploy.Target) int { return a.Name.Compare(b.Name) })
	slices.SortFunc(c.Sinks, func(a, b deploy.Sink) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace))
	})
	hashes := []string{c.Namespace}
	for _, s := range c.Sources {
		hashes = append(hashes, s.Name.String(), s.Hash)
	}
	for _, t := range c.Targets {
		hashes = append(hashes, t.Name.String(), t.Hash)
	}
	for _, s := range c.Sinks {
		hashes = append(hashes, deploy.Name{Kind: kindSink, Namespace: s.Namespace, Name: s.Name}.String(), s.Hash)
	}
	c.Hash = deploy.HashOf(hashes)
	return c
}

// place is where something stands in the files.
type place struct {
	file         string
	line, column int
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.file, q.file), cmp.Compare(p.line, q.line), cmp.Compare(p.column, q.column))
}
