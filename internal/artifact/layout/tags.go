package layout

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Annotations of the descriptors in an index.
const (
	refNameAnnotation = "org.opencontainers.image.ref.name"
	kindAnnotation    = "kind" // of cosign save, which gives signatures the name of what they are for
)

// Values of kindAnnotation for what is no artifact itself.
const (
	kindSignatures   = "dev.cosignproject.cosign/sigs"
	kindAttestations = "dev.cosignproject.cosign/atts"
)

// defaultTag is what a source follows that names no tag.
const defaultTag = "latest"

// tagOf is the tag of a descriptor; empty where it has none. Names may be tags or whole references: crane and cosign write the latter.
func tagOf(d v1.Descriptor) string {
	if kind := d.Annotations[kindAnnotation]; kind == kindSignatures || kind == kindAttestations {
		return ""
	}
	name := d.Annotations[refNameAnnotation]
	if strings.Contains(name, "@") { // by digest
		return ""
	}
	if at := strings.LastIndexByte(name, ':'); at >= 0 {
		name = name[at+1:]
	}
	if strings.Contains(name, "/") { // a repository, maybe behind a port
		return ""
	}
	return name
}

// tags are the digests of each tag.
func tags(index *v1.IndexManifest) map[string][]string {
	out := map[string][]string{}
	for _, d := range index.Manifests {
		if tag, digest := tagOf(d), d.Digest.String(); tag != "" && !slices.Contains(out[tag], digest) {
			out[tag] = append(out[tag], digest)
		}
	}
	return out
}

// Tags lists every tag, sorted.
func (i *image) Tags(context.Context) ([]string, error) {
	from, index, err := i.open()
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(tags(index))), from.Close()
}

// Digest is what the tag points to.
func (i *image) Digest(ctx context.Context, tag string) (string, error) {
	from, index, err := i.open()
	if err != nil {
		return "", err
	}
	defer func() { _ = from.Close() }() // only read
	known := tags(index)
	switch digests := known[tag]; {
	case len(digests) == 1:
		return digests[0], nil
	case len(digests) > 1:
		return "", fmt.Errorf("the image layout %s has the tag %s more than once, for %s: use a layout for each", i.path, tag, strings.Join(digests, " and "))
	}
	if sum, isSig := strings.CutSuffix(strings.TrimPrefix(tag, algorithm+"-"), ".sig"); isSig {
		return i.savedSignatures(ctx, from, index, algorithm+":"+sum)
	}
	if tag == defaultTag {
		if digest, found, err := onlyOne(ctx, from, index); err != nil || found {
			return digest, err
		}
	}
	if len(known) == 0 {
		return "", missing("the image layout %s has no tag %s, nor any other: say which digest you want, or copy it again with a tag", i.path, tag)
	}
	return "", missing("the image layout %s has no tag %s, but %s", i.path, tag, some(slices.Sorted(maps.Keys(known))))
}

// maxNamed is how many tags an error names.
const maxNamed = 10

func some(tags []string) string {
	if more := len(tags) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(tags[:maxNamed], ", "), more)
	}
	return strings.Join(tags, ", ")
}

// onlyOne is the only artifact of a layout without tags, such as crane pull makes: what refers to another manifest, as signatures do, or is part of an index is none.
func onlyOne(ctx context.Context, from files, index *v1.IndexManifest) (digest string, found bool, err error) {
	heads := map[string]bool{}
	parts := map[string]bool{}
	for _, d := range index.Manifests {
		kind := d.Annotations[kindAnnotation]
		tag := tagOf(d)
		switch {
		case kind == kindSignatures || kind == kindAttestations || isCompanion(tag):
			continue
		case tag != "":
			return "", false, nil
		}
		raw, err := manifest(ctx, from, d.Digest.String())
		if err != nil {
			return "", false, err
		}
		var m struct {
			Subject   *v1.Descriptor  `json:"subject"`
			Manifests []v1.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return "", false, fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		for _, part := range m.Manifests {
			parts[part.Digest.String()] = true
		}
		if m.Subject == nil {
			heads[d.Digest.String()] = true
		}
	}
	maps.DeleteFunc(heads, func(digest string, _ bool) bool { return parts[digest] })
	if len(heads) != 1 {
		return "", false, nil
	}
	return slices.Collect(maps.Keys(heads))[0], true, nil
}

// isCompanion reports whether a tag is made of the digest of what it belongs to: signatures (sha256-….sig), attestations, and lists of referrers (sha256-…).
func isCompanion(tag string) bool {
	sum, found := strings.CutPrefix(tag, algorithm+"-")
	if !found {
		return false
	}
	sum, _, _ = strings.Cut(sum, ".")
	_, err := hexOf(algorithm + ":" + sum)
	return err == nil
}
