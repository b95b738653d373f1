package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// maxSuggested is how many unknown references of a config get a suggestion: each is compared with all names, which takes 20 ms among 10,000.
const maxSuggested = 50

// resolver ties the entries together: duplicates, references, cycles.
type resolver struct {
	entries   []*entry
	byName    map[deploy.Name]*entry
	anywhere  map[deploy.Name]bool // the names without their namespaces
	sorted    []deploy.Name
	namespace string
	// suggested counts the suggestions so far.
	suggested int
}

// newResolver indexes the entries by name and reports names that are taken. Entries without a usable name take part in nothing.
func newResolver(entries []*entry, namespace string) *resolver {
	r := &resolver{entries: entries, byName: map[deploy.Name]*entry{}, anywhere: map[deploy.Name]bool{}, namespace: namespace}
	for _, e := range entries {
		if e.name.Name == "" {
			continue
		}
		if first, taken := r.byName[e.name]; taken {
			e.bad("name", "%s is already defined in %s: rename or remove one", e.name.Short(namespace), where(first.at("name"), e.at("name")))
			continue
		}
		r.byName[e.name] = e
		r.anywhere[deploy.Name{Kind: e.kind, Name: e.name.Name}] = true
	}
	r.sorted = slices.SortedFunc(maps.Keys(r.byName), deploy.Name.Compare)
	return r
}

func (r *resolver) resolve() {
	for _, e := range r.entries {
		switch {
		case e.kustomization != nil:
			r.source(e, "sourceRef", &e.kustomization.SourceRef)
			r.dependencies(e, e.kustomization.DependsOn)
		case e.helmRelease != nil:
			r.source(e, "chartRef", &e.helmRelease.ChartRef)
			r.dependencies(e, e.helmRelease.DependsOn)
		case e.sink != nil:
			r.eventSources(e)
		}
	}
	r.cycles()
	r.releases()
	r.groups()
}

// groups reports rollback groups that never go back, since no target of them says when.
func (r *resolver) groups() {
	type group struct{ namespace, name string }
	starts, first := map[group]bool{}, map[group]*entry{}
	for _, e := range r.entries {
		t := deploy.Target{Kustomization: e.kustomization, HelmRelease: e.helmRelease}
		g := group{e.name.Namespace, t.RollbackGroup()}
		if g.name == "" {
			continue
		}
		starts[g] = starts[g] || t.FallsBack()
		if first[g] == nil {
			first[g] = e
		}
	}
	for g, e := range first {
		if !starts[g] {
			e.bad("rollback.group", "no target of %s has onFailure: %s, so that it never goes back: say for which of them that is to happen", g.name, deploy.OnFailureLastGood)
		}
	}
}

// source resolves the reference to a source and writes it out in full.
func (r *resolver) source(e *entry, path string, ref *deploy.SourceRef) {
	kind := deploy.KindSource
	if ref.Kind != "" {
		k, known := deploy.ParseKind(string(ref.Kind))
		if !known || k != deploy.KindSource {
			e.bad(path+".kind", "%s is not a source: want OCIRepository, or the name alone; publish what is in Git, a bucket or a Helm repository as an OCI artifact", ref.Kind)
			return
		}
	}
	if ref.Name == "" {
		if _, written := e.places[path+".name"]; written {
			e.bad(path+".name", "is empty")
		}
		return
	}
	name := deploy.Name{Kind: kind, Namespace: ref.Namespace, Name: ref.Name}
	if name.Namespace == "" {
		name.Namespace = e.name.Namespace
	}
	if r.byName[name] == nil {
		e.bad(path, "there is no %s%s", name.Short(r.namespace), r.suggest(e, name, deploy.KindSource))
		return
	}
	*ref = deploy.SourceRef{Kind: kind, Name: name.Name, Namespace: name.Namespace}
	e.sourceName = name
}

// dependencies resolves dependsOn in place. A name alone is of the entry's own kind and namespace.
func (r *resolver) dependencies(e *entry, refs []deploy.DependsOn) {
	for i := range refs {
		ref, path := &refs[i], fmt.Sprintf("dependsOn[%d]", i)
		if ref.Name == "" {
			if _, written := e.places[path+".name"]; written {
				e.bad(path+".name", "is empty")
			}
			continue
		}
		name := deploy.Name{Kind: e.kind, Namespace: ref.Namespace, Name: ref.Name}
		if name.Namespace == "" {
			name.Namespace = e.name.Namespace
		}
		if ref.Kind != "" {
			k, known := deploy.ParseKind(string(ref.Kind))
			if !known || k == deploy.KindSource {
				e.bad(path, "%s is not a target: only a kustomization or a helmrelease can be waited for", ref.Kind)
				continue
			}
			name.Kind = k
		}
		switch {
		case name == e.name:
			e.bad(path, "%s depends on itself: take that out", name.Short(r.namespace))
		case slices.Contains(e.dependsOn, name):
			e.bad(path, "%s is listed twice", name.Short(r.namespace))
		case r.byName[name] == nil:
			e.bad(path, "there is no %s%s", name.Short(r.namespace), r.suggest(e, name, deploy.KindKustomization, deploy.KindHelmRelease))
		default:
			*ref = deploy.DependsOn{Kind: name.Kind, Name: name.Name, Namespace: name.Namespace, ReadyExpr: ref.ReadyExpr}
			e.dependsOn = append(e.dependsOn, name)
			e.readyWhen(name, ref.ReadyExpr)
		}
	}
}

// readyWhen notes the expression of a dependency; none if it is empty.
func (e *entry) readyWhen(name deploy.Name, expr string) {
	if expr == "" {
		return
	}
	if e.readyExprs == nil {
		e.readyExprs = map[deploy.Name]string{}
	}
	e.readyExprs[name] = expr
}

// suggest is the name that the entry probably meant: the same name elsewhere before a similar one.
func (r *resolver) suggest(e *entry, missing deploy.Name, kinds ...deploy.Kind) string {
	if r.suggested++; r.suggested > maxSuggested {
		return ""
	}
	var same, all []string
	for _, n := range r.sorted {
		if n == e.name || !slices.Contains(kinds, n.Kind) {
			continue
		}
		short := n.Short(r.namespace)
		if n.Name == missing.Name {
			same = append(same, short)
		}
		all = append(all, short)
	}
	if len(same) > 0 {
		return fmt.Sprintf(": did you mean %s?", same[0])
	}
	if missing.Kind != "" {
		kinds = []deploy.Kind{missing.Kind}
	}
	for _, k := range kinds { // a name of any kind may be meant as each
		missing.Kind = k
		if n := nearest(missing.Short(r.namespace), all); n != "" && similarNames(missing.Name, n) {
			return fmt.Sprintf(": did you mean %s?", n)
		}
	}
	const few = 8 // more names than this hide the message
	if len(all) == 0 {
		return ": none is defined"
	}
	if len(all) <= few {
		return ": defined are " + strings.Join(all, ", ")
	}
	return ""
}

// similarNames keeps the shared beginning of two references (source/...) from making short names look alike.
func similarNames(name, reference string) bool {
	return nearest(name, []string{reference[strings.LastIndexByte(reference, '/')+1:]}) != ""
}

// cycles reports each circle of dependencies once, at the edge that closes it, as a → b → a.
func (r *resolver) cycles() {
	const onPath, done = 1, 2
	state := map[deploy.Name]int{}
	var path []deploy.Name
	var visit func(e *entry)
	visit = func(e *entry) {
		state[e.name] = onPath
		path = append(path, e.name)
		for _, dep := range e.dependsOn {
			switch state[dep] {
			case onPath:
				circle := append(slices.Clone(path[slices.Index(path, dep):]), dep)
				e.bad("dependsOn", "goes in a circle: %s: take out one of these dependencies", r.arrows(circle))
			case done:
			default:
				visit(r.byName[dep])
			}
		}
		path = path[:len(path)-1]
		state[e.name] = done
	}
	for _, e := range r.entries {
		if r.byName[e.name] == e && state[e.name] == 0 {
			visit(e)
		}
	}
}

// arrows writes a circle as a → b → a; of a long one the middle is left out.
func (r *resolver) arrows(circle []deploy.Name) string {
	const atEachEnd = 10
	var words []string
	for i, n := range circle {
		if i >= atEachEnd && i < len(circle)-atEachEnd {
			if i == atEachEnd {
				words = append(words, fmt.Sprintf("(%d more)", len(circle)-2*atEachEnd))
			}
			continue
		}
		words = append(words, n.Short(r.namespace))
	}
	return strings.Join(words, " → ")
}

// releases reports Helm releases that would overwrite each other's records.
func (r *resolver) releases() {
	type key struct{ namespace, name string }
	first := map[key]*entry{}
	for _, e := range r.entries {
		h := e.helmRelease
		if h == nil || r.byName[e.name] != e {
			continue
		}
		k := key{h.StorageNamespace, h.ReleaseName}
		other, taken := first[k]
		if !taken {
			first[k] = e
			continue
		}
		e.bad("releaseName", "the release %s in storage namespace %s belongs to %s already (%s): give one another releaseName or storageNamespace",
			h.ReleaseName, h.StorageNamespace, other.name.Short(r.namespace), where(other.place, e.place))
	}
}
