package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxReferrers bounds what is listed for one digest. More is an error, not a part of the list: a signature that is not in the part would be taken for missing.
const maxReferrers = 1024

// maxTagReference is the longest part of a digest's hex in a referrers tag (distribution spec, "Referrers tag schema").
const maxTagReference = 64

var indexType = http.Header{"Accept": {string(types.OCIImageIndex)}}

// Referrers lists what names the digest as its subject: by the referrers API, and where there is none by the referrers tag. None is an empty list; that the
// registry could not be asked is an error.
func (r *Repository) Referrers(ctx context.Context, digest string) ([]v1.Descriptor, error) {
	subject, err := v1.NewHash(digest)
	if err != nil {
		return nil, fmt.Errorf("referrers: %w", err)
	}
	var out []v1.Descriptor
	err = r.pull(ctx, func(ctx context.Context, s *session) error {
		var err error
		out, err = s.referrers(ctx, subject)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *session) referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	var out []v1.Descriptor
	supported, begun := true, false
	err := s.pages(ctx, s.url("referrers", subject.String()), indexType, maxDocument, func(res *http.Response, raw []byte) error {
		kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
		if kind != string(types.OCIImageIndex) && !begun { // another service under the same name; the tag tells more
			supported = false
			res.Header.Del("Link")
			return nil
		}
		begun = true
		page, err := index(res, raw)
		out = append(out, page...)
		if err == nil && len(out) > maxReferrers {
			err = fmt.Errorf("%s has more than %d referrers: delete old signatures and attestations", subject, maxReferrers)
		}
		return err
	})
	switch status(err) {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		supported = begun // in the midst of the list, it is no answer to the question whether there is such an API
	}
	switch {
	case !supported:
		return s.tagged(ctx, subject)
	case missing(err):
		err = &answerError{fmt.Sprintf("the registry has lost a page of the referrers of %s", subject)}
	}
	return out, err
}

// tagged is the referrers tag's list; none where there is no such tag.
func (s *session) tagged(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	res, err := s.ask(ctx, http.MethodGet, s.url("manifests", referrersTag(subject)), indexType)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // was read
	raw, err := read(res, maxDocument)
	if err != nil {
		return nil, err
	}
	out, err := index(res, raw)
	if err == nil && len(out) > maxReferrers {
		err = fmt.Errorf("tag %s lists more than %d referrers: delete old signatures and attestations", referrersTag(subject), maxReferrers)
	}
	return out, err
}

// index is the descriptors of an image index.
func index(res *http.Response, raw []byte) ([]v1.Descriptor, error) {
	var m struct {
		Manifests []v1.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, senseless(res, "no image index")
	}
	return m.Manifests, nil
}

// referrersTag is where registries without the API keep the list.
func referrersTag(subject v1.Hash) string {
	return strings.ToLower(subject.Algorithm + "-" + subject.Hex[:min(len(subject.Hex), maxTagReference)])
}
