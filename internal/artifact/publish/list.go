package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/Masterminds/semver/v3"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/internal/artifact/oci"
)

// looks is how many manifests are read at once: enough to hide the way to the registry, few enough not to be answered with 429.
const looks = 8

// notArtifacts are the tags that signatures, attestations and the like are kept under, by the digest that they are about.
var notArtifacts = regexp.MustCompile(`^sha256-[0-9a-f]{64}`)

// Listed is one tag of a repository.
type Listed struct {
	Artifact string `json:"artifact"` // url with the tag
	Digest   string `json:"digest"`
	// Source and Revision are the artifact's annotations.
	Source   string `json:"source,omitempty"`
	Revision string `json:"revision,omitempty"`
}

// Filter chooses tags; the zero value takes every one.
type Filter struct {
	Semver *semver.Constraints
	Regex  *regexp.Regexp
}

// NewFilter reads a filter as people write it; empty texts filter nothing.
func NewFilter(constraint, regex string) (Filter, error) {
	var f Filter
	var err error
	if constraint != "" {
		if f.Semver, err = semver.NewConstraint(strings.ReplaceAll(constraint, "_", "+")); err != nil {
			return f, fmt.Errorf("--filter-semver %q: %w", constraint, err)
		}
	}
	if regex != "" {
		if f.Regex, err = regexp.Compile(regex); err != nil {
			return f, fmt.Errorf("--filter-regex: %w", err)
		}
	}
	return f, nil
}

// List looks at every tag that the filter takes: versions first, the highest on top, then the other tags by name. A tag that goes away meanwhile is left out.
func List(ctx context.Context, r Reader, ref Ref, f Filter) ([]Listed, error) {
	all, err := r.Tags(ctx)
	if err != nil {
		return nil, err
	}
	tags := f.choose(all)
	out := make([]Listed, len(tags))
	var group errgroup.Group
	group.SetLimit(looks)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	known := &notes{of: map[string]*document{}}
	for i, tag := range tags {
		group.Go(func() error {
			digest, d, err := known.look(ctx, r, tag)
			switch {
			case errors.Is(err, oci.ErrNotFound):
				return nil
			case err != nil:
				cancel() // the others end soon
				return err
			}
			at := Ref{Repo: ref.Repo, Tag: tag}
			out[i] = Listed{at.String(), digest, d.Annotations[AnnotationSource], d.Annotations[AnnotationRevision]}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out, func(l Listed) bool { return l.Digest == "" }), nil
}

// notes keeps what was read, for many tags point to one manifest.
type notes struct {
	// mu guards of: manifests by digest.
	mu sync.Mutex
	of map[string]*document
}

func (n *notes) look(ctx context.Context, r Reader, tag string) (string, *document, error) {
	digest, err := r.Digest(ctx, tag)
	if err != nil {
		return "", nil, err
	}
	n.mu.Lock()
	d := n.of[digest]
	n.mu.Unlock()
	if d != nil {
		return digest, d, nil
	}
	raw, err := r.Manifest(ctx, digest)
	if err != nil {
		return "", nil, err
	}
	if d, err = parse(raw); err != nil {
		return "", nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[digest] = d
	return digest, d, nil
}

// choose filters and sorts tags.
func (f Filter) choose(tags []string) []string {
	type candidate struct {
		tag string
		v   *semver.Version
	}
	var chosen []candidate
	for _, tag := range tags {
		if notArtifacts.MatchString(tag) || f.Regex != nil && !f.Regex.MatchString(tag) {
			continue
		}
		v, err := semver.StrictNewVersion(strings.ReplaceAll(strings.TrimPrefix(tag, "v"), "_", "+"))
		if err != nil {
			v = nil
		}
		if f.Semver != nil && (v == nil || !f.Semver.Check(v)) {
			continue
		}
		chosen = append(chosen, candidate{tag, v})
	}
	slices.SortFunc(chosen, func(a, b candidate) int {
		switch {
		case a.v != nil && b.v != nil:
			return cmp.Or(b.v.Compare(a.v), cmp.Compare(b.tag, a.tag))
		case a.v != nil:
			return -1
		case b.v != nil:
			return 1
		}
		return cmp.Compare(a.tag, b.tag)
	})
	out := make([]string, len(chosen))
	for i, c := range chosen {
		out[i] = c.tag
	}
	return out
}
