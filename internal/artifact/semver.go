package artifact

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// choice picks a tag by version.
type choice struct {
	text   string
	want   *semver.Constraints
	filter *regexp.Regexp // nil: every tag
}

func newChoice(constraint, filter string) (*choice, error) {
	c := &choice{text: constraint}
	var err error
	if c.want, err = semver.NewConstraint(strings.ReplaceAll(constraint, "_", "+")); err != nil {
		return nil, fmt.Errorf("ref.semver %q: %w", constraint, err)
	}
	if filter != "" {
		if c.filter, err = regexp.Compile(filter); err != nil {
			return nil, fmt.Errorf("ref.semverFilter: %w", err)
		}
	}
	return c, nil
}

// from is the tag with the highest version within the constraint. Versions that differ in their build metadata only rank alike: the tag that is last in
// lexical order is taken, so that the choice does not depend on the order of the list.
func (c *choice) from(tags []string) (string, error) {
	var bestTag, topTag string
	var best, top *semver.Version
	versions := 0
	for _, tag := range tags {
		if c.filter != nil && !c.filter.MatchString(tag) {
			continue
		}
		v := version(tag)
		if v == nil {
			continue
		}
		versions++
		if above(v, tag, top, topTag) {
			top, topTag = v, tag
		}
		if c.want.Check(v) && above(v, tag, best, bestTag) {
			best, bestTag = v, tag
		}
	}
	switch {
	case best != nil:
		return bestTag, nil
	case versions == 0 && c.filter != nil:
		return "", fmt.Errorf("%w: none of %d tags matches semverFilter %q and is a version like 1.2.3", ErrNotFound, len(tags), c.filter)
	case versions == 0:
		return "", fmt.Errorf("%w: none of %d tags is a version like 1.2.3", ErrNotFound, len(tags))
	}
	return "", fmt.Errorf("%w: none of %d versions is within semver %q; the highest is %s", ErrNotFound, versions, c.text, topTag)
}

// above reports whether a version goes before the best so far.
func above(v *semver.Version, tag string, best *semver.Version, bestTag string) bool {
	if best == nil {
		return true
	}
	if c := v.Compare(best); c != 0 {
		return c > 0
	}
	return tag > bestTag
}

// version reads a tag as major.minor.patch, with or without a v before it; nil for every other tag: 20240131 is a date, not a major version. Helm writes the +
// of a version as _, for tags cannot hold it.
func version(tag string) *semver.Version {
	v, err := semver.StrictNewVersion(strings.ReplaceAll(strings.TrimPrefix(tag, "v"), "_", "+"))
	if err != nil {
		return nil
	}
	return v
}
