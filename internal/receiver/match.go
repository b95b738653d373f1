package receiver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// maxShown is how much of a name out of a webhook is repeated, in characters.
const maxShown = 100

// pointless says why a poll could find nothing new; empty: it could. In doubt it could, for a poll costs one request and a rollout that was missed an interval.
func pointless(s deploy.SourceSpec, notices []notice) string {
	why := "it says nothing"
	for _, n := range notices {
		switch {
		case n.other != "":
			why = fmt.Sprintf("it is about no push: %.*q", maxShown, n.other)
		case !mayBeAbout(s, n.repositories):
			why = fmt.Sprintf("it is about another repository: %.*q", maxShown, n.repositories[0])
		case !mayMean(s, n.tags):
			why = fmt.Sprintf("it is about another tag: %.*q", maxShown, n.tags[0])
		default:
			return ""
		}
	}
	return why
}

// mayBeAbout reports whether one of the repositories may be the source's, or that of a mirror. Hosts do not count: what stands before a registry has names of its own. It may
// also have folders of its own, so a path may be the end of the other.
func mayBeAbout(s deploy.SourceSpec, repositories []string) bool {
	if len(repositories) == 0 {
		return true
	}
	return slices.ContainsFunc(append([]string{s.URL}, s.Mirrors...), func(address string) bool {
		_, rest, _ := strings.Cut(address, "://")
		_, own, _ := strings.Cut(rest, "/")
		return slices.ContainsFunc(repositories, func(theirs string) bool {
			return sameEnd(strings.ToLower(own), strings.ToLower(strings.Trim(theirs, "/")))
		})
	})
}

func sameEnd(a, b string) bool {
	return a == b || strings.HasSuffix(a, "/"+b) || strings.HasSuffix(b, "/"+a)
}

// signatureTag begins the tags that signatures are stored under where the registry knows no referrers: sha256-HEX.sig of Cosign, sha256-HEX of the OCI distribution spec.
const signatureTag = "sha256-"

// mayMean reports whether what was pushed under these tags may change what the source's reference means, or bring the signature that it waits for.
func mayMean(s deploy.SourceSpec, tags []string) bool {
	r := s.Ref
	if len(tags) == 0 || r == nil || r.Tag == "" || r.Semver != "" || r.Digest != "" {
		return true
	}
	return slices.ContainsFunc(tags, func(tag string) bool {
		return tag == r.Tag || strings.Contains(tag, ":") || s.Verify != nil && strings.HasPrefix(tag, signatureTag) // one with a colon is a digest
	})
}
