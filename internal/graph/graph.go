// Package graph says in which order targets that depend on each other come, and where they wait in a circle.
package graph

import (
	"slices"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// Graph holds who depends on whom. Immutable once made.
type Graph struct {
	nodes      []deploy.Name // sorted, so that every answer is the same in every run
	needs      map[deploy.Name][]deploy.Name
	dependants map[deploy.Name][]deploy.Name
}

// New makes the graph of the given nodes, each with what it needs. Needs that are no nodes themselves are left out: whether a name exists is not decided here.
func New(needs map[deploy.Name][]deploy.Name) *Graph {
	g := &Graph{needs: make(map[deploy.Name][]deploy.Name, len(needs)), dependants: make(map[deploy.Name][]deploy.Name)}
	for n := range needs {
		g.nodes = append(g.nodes, n)
	}
	slices.SortFunc(g.nodes, deploy.Name.Compare)
	for _, n := range g.nodes {
		known := slices.DeleteFunc(slices.Clone(needs[n]), func(d deploy.Name) bool { _, ok := needs[d]; return !ok })
		slices.SortFunc(known, deploy.Name.Compare)
		g.needs[n] = slices.Compact(known)
		for _, d := range g.needs[n] {
			g.dependants[d] = append(g.dependants[d], n)
		}
	}
	return g
}

// Dependants are the nodes that need n directly, sorted. They are the ones that n blocks.
func (g *Graph) Dependants(n deploy.Name) []deploy.Name { return g.dependants[n] }

// Order lists every node after all that it needs; where that leaves a choice, by name. The error is a *CycleError.
func (g *Graph) Order() ([]deploy.Name, error) {
	order := make([]deploy.Name, 0, len(g.nodes))
	state := make(map[deploy.Name]mark, len(g.nodes))
	var path []deploy.Name
	var visit func(deploy.Name) error
	visit = func(n deploy.Name) error {
		switch state[n] {
		case done:
			return nil
		case onPath:
			return &CycleError{Path: append(slices.Clone(path[slices.Index(path, n):]), n)}
		}
		state[n] = onPath
		path = append(path, n)
		for _, d := range g.needs[n] {
			if err := visit(d); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		state[n] = done
		order = append(order, n)
		return nil
	}
	for _, n := range g.nodes {
		if err := visit(n); err != nil {
			return nil, err
		}
	}
	return order, nil
}

type mark int

const (
	onPath mark = iota + 1
	done
)

// CycleError names nodes that wait for each other.
type CycleError struct {
	// Path begins and ends with the same node; each needs the one behind it.
	Path []deploy.Name
}

func (e *CycleError) Error() string {
	words := make([]string, len(e.Path))
	for i, n := range e.Path {
		words[i] = n.String()
	}
	return "dependency cycle: " + strings.Join(words, " → ") + ": remove one of these dependsOn"
}
