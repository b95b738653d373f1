package oci

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// tagsPerPage is asked for; some registries refuse more.
	tagsPerPage = 1000
	// maxPages ends a list whose pages never do. Registries that send only a hundred at a time reach 400 thousand tags.
	maxPages = 4096
)

// manifestTypes are accepted as answers. A registry may answer 404 for what is not among them.
var manifestTypes = http.Header{"Accept": {strings.Join([]string{
	string(types.OCIManifestSchema1), string(types.OCIImageIndex), string(types.DockerManifestSchema2), string(types.DockerManifestList),
}, ", ")}}

// Repository is one repository at one registry. Safe for concurrent use; what is behind it (connections, logins) belongs to the Client.
type Repository struct {
	client *Client
	access Access
}

// Repository is the place that an Access names. No request is made.
func (c *Client) Repository(a Access) *Repository { return &Repository{client: c, access: a} }

func (r *Repository) pull(ctx context.Context, call func(context.Context, *session) error) error {
	return r.client.do(ctx, r.access, false, call)
}

// Digest is what a tag points to now. One HEAD; for a registry that refuses HEAD or does not send the digest, one GET.
func (r *Repository) Digest(ctx context.Context, tag string) (string, error) {
	var digest string
	err := r.pull(ctx, func(ctx context.Context, s *session) error {
		if !s.headless.Load() {
			var err error
			if digest, err = s.head(ctx, tag); err != nil || digest != "" {
				return err
			}
		}
		raw, named, err := s.manifest(ctx, tag)
		if err != nil {
			return err
		}
		if !json.Valid(raw) {
			return &answerError{fmt.Sprintf("the registry's answer for tag %s is no manifest: a portal or a proxy may answer in its place", tag)}
		}
		s.headless.Store(true)
		digest, err = digestOf(raw, named)
		return err
	})
	return digest, err
}

// headerDigest is how registries name the digest of what they answer.
const headerDigest = "Docker-Content-Digest"

// head is the digest of a manifest, or nothing where a HEAD does not tell.
func (s *session) head(ctx context.Context, reference string) (string, error) {
	res, err := s.ask(ctx, http.MethodHead, s.url("manifests", reference), manifestTypes,
		http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented)
	if err != nil {
		return "", err
	}
	h, err := v1.NewHash(res.Header.Get(headerDigest))
	if err != nil || res.StatusCode != http.StatusOK {
		return "", res.Body.Close()
	}
	return h.String(), res.Body.Close()
}

// manifest is what the registry answers for a tag or digest, and the digest that it names; both unchecked. A page that says "log in here" is an error.
func (s *session) manifest(ctx context.Context, reference string) (raw []byte, named string, err error) {
	res, err := s.ask(ctx, http.MethodGet, s.url("manifests", reference), manifestTypes)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = res.Body.Close() }() // was read
	raw, err = read(res, maxDocument)
	if err == nil && strings.HasPrefix(res.Header.Get("Content-Type"), "text/") && !json.Valid(raw) {
		err = senseless(res, "no manifest")
	}
	return raw, res.Header.Get(headerDigest), err
}

// digestOf is the digest of a document with the algorithm of the one that the registry names. What the registry names is not believed: many name it wrongly.
func digestOf(raw []byte, named string) (string, error) {
	algorithm := "sha256"
	if h, err := v1.NewHash(named); err == nil {
		algorithm = h.Algorithm
	}
	sum, err := v1.Hasher(algorithm)
	if err != nil {
		return "", err
	}
	_, _ = sum.Write(raw) // a hash does not fail
	return algorithm + ":" + hex.EncodeToString(sum.Sum(nil)), nil
}

// Tags lists every tag, page by page.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var tags []string
	err := r.pull(ctx, func(ctx context.Context, s *session) error {
		tags = nil
		u := s.url("tags", "list")
		u.RawQuery = fmt.Sprintf("n=%d", tagsPerPage)
		return s.pages(ctx, u, nil, maxTags, func(res *http.Response, raw []byte) error {
			var page struct {
				Tags []string `json:"tags"`
			}
			if err := json.Unmarshal(raw, &page); err != nil {
				return senseless(res, "no list of tags")
			}
			tags = append(tags, page.Tags...)
			return nil
		})
	})
	return tags, err
}

// pages reads a list whose pages lead on with a Link header (RFC 8288), of at most so many bytes.
func (s *session) pages(ctx context.Context, u *url.URL, header http.Header, most int64, page func(*http.Response, []byte) error) error {
	for range maxPages {
		res, err := s.ask(ctx, http.MethodGet, u, header)
		if err != nil {
			return err
		}
		raw, err := read(res, most)
		_ = res.Body.Close() // was read
		if err == nil {
			err = page(res, raw)
		}
		if err != nil {
			return err
		}
		most -= int64(len(raw))
		next, err := s.next(res)
		if err != nil || next == nil {
			return err
		}
		if next.String() == u.String() {
			return senseless(res, "a page that leads to itself")
		}
		u = next
	}
	return errTooLong
}

// anyLink is one link of a Link header (RFC 8288, 3) and its parameters; linkRelations are the relations among those.
var (
	anyLink       = regexp.MustCompile(`<([^<>]*)>([^<]*)`)
	linkRelations = regexp.MustCompile(`(?i);\s*rel\s*=\s*"?([^";,]*)`)
)

// next is where the page says that the list goes on; nil at its end. It must be the registry itself.
func (s *session) next(res *http.Response) (*url.URL, error) {
	for _, link := range anyLink.FindAllStringSubmatch(strings.Join(res.Header.Values("Link"), ", "), -1) {
		relations := linkRelations.FindStringSubmatch(link[2])
		if relations != nil && !slices.Contains(strings.Fields(strings.ToLower(relations[1])), "next") {
			continue
		}
		u, err := res.Request.URL.Parse(link[1])
		if err != nil || !s.guard.owns(u) {
			return nil, senseless(res, "a page that leads to another host")
		}
		return u, nil
	}
	return nil, nil
}

// Manifest is the manifest or index with the digest, as the registry stores it. The bytes have that digest.
func (r *Repository) Manifest(ctx context.Context, digest string) ([]byte, error) {
	want, err := v1.NewHash(digest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var raw []byte
	err = r.pull(ctx, func(ctx context.Context, s *session) error {
		var err error
		if raw, _, err = s.manifest(ctx, digest); err != nil {
			return err
		}
		got, err := digestOf(raw, want.String())
		if err == nil && got != want.String() {
			err = fmt.Errorf("%w: the registry's answer for manifest %s is %s", ErrDigest, want, got)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return raw, nil
}

// Blob writes the blob to w. The error says when what was written has another digest or size; what is in w is then worthless.
func (r *Repository) Blob(ctx context.Context, want v1.Descriptor, w io.Writer) error {
	return r.pull(ctx, func(ctx context.Context, s *session) error {
		sum, err := v1.Hasher(want.Digest.Algorithm)
		if err != nil {
			return fmt.Errorf("blob %s: %w", want.Digest, err)
		}
		res, err := s.ask(ctx, http.MethodGet, s.url("blobs", want.Digest.String()), http.Header{"Accept-Encoding": {"identity"}})
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }() // was read
		// What fails from here on is not tried again, see stale: w has a part of it.
		n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(res.Body, want.Size+1))
		if err != nil {
			return err
		}
		return check(want, n, sum)
	})
}

func check(want v1.Descriptor, n int64, sum hash.Hash) error {
	if n != want.Size {
		return fmt.Errorf("%w: blob %s has another size than the %d bytes that the manifest says", ErrDigest, want.Digest, want.Size)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.Digest.Hex {
		return fmt.Errorf("%w: the registry's answer for blob %s is %s:%s", ErrDigest, want.Digest, want.Digest.Algorithm, got)
	}
	return nil
}

// missing reports whether the registry said that there is no such thing.
func missing(err error) bool { return status(err) == http.StatusNotFound }

// status is what the registry answered; 0 if it did not, or if it was the token service.
func status(err error) int {
	var token *tokenError
	if answer, ok := asAnswer(err); ok && !errors.As(err, &token) {
		return answer.StatusCode
	}
	return 0
}
