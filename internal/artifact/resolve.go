package artifact

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/deploy"
)

// defaultTag is polled where a source has no ref.
const defaultTag = "latest"

// tagPattern is what the distribution spec allows.
var tagPattern = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// Resolve says which digest a source's reference means now. In the steady state a digest costs no request, a tag one HEAD, and a semver range one list of tags
// (more than one page where there are more than 1000) and one HEAD of the winner.
func (s *Store) Resolve(ctx context.Context, src deploy.Source) (deploy.Pin, error) {
	a, err := s.access(src)
	if err != nil {
		return deploy.Pin{}, fmt.Errorf("resolve %s: %w", src.Name, err)
	}
	var ref deploy.Ref
	if src.Spec.Ref != nil {
		ref = *src.Spec.Ref
	}
	if ref.Digest != "" {
		if _, err := v1.NewHash(ref.Digest); err != nil {
			return deploy.Pin{}, fmt.Errorf("resolve %s: ref.digest: %w", a.Repo, err)
		}
		return deploy.Pin{Digest: ref.Digest}, nil
	}
	release, err := s.wait(ctx, s.looks, a.Repo.RegistryStr(), looksPerHost, "look-ups at")
	if err != nil {
		return deploy.Pin{}, fmt.Errorf("resolve %s: %w", a.Repo, err)
	}
	defer release()
	tag := strings.ReplaceAll(ref.Tag, "+", "_") // a chart's version as it is written in a tag
	switch {
	case ref.Semver != "":
		if tag, err = s.newest(ctx, a, ref); err != nil {
			return deploy.Pin{}, fmt.Errorf("resolve %s: %w", a.Repo, hint(err, a))
		}
	case tag == "":
		tag = defaultTag
	}
	if !tagPattern.MatchString(tag) {
		return deploy.Pin{}, fmt.Errorf("resolve %s: ref.tag %q is not a tag: want letters, digits and _.-, at most 128", a.Repo, tag)
	}
	digest, err := s.client.Digest(ctx, a, tag)
	if err != nil {
		return deploy.Pin{}, fmt.Errorf("resolve %s:%s: %w", a.Repo, tag, hint(err, a))
	}
	return deploy.Pin{Ref: tag, Digest: digest}, nil
}

// newest is the tag that a semver range chooses.
func (s *Store) newest(ctx context.Context, a oci.Access, ref deploy.Ref) (string, error) {
	choose, err := newChoice(ref.Semver, ref.SemverFilter)
	if err != nil {
		return "", err
	}
	tags, err := s.client.Tags(ctx, a)
	if err != nil {
		return "", fmt.Errorf("list tags: %w", err)
	}
	return choose.from(tags)
}
