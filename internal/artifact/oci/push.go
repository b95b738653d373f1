package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// headerSubject is what a registry with the referrers API answers to a manifest that has a subject.
const headerSubject = "OCI-Subject"

// push runs one call within a session that may write. Its login is another than the one for reading: an agent never asks for more than it needs.
func (r *Repository) push(ctx context.Context, call func(context.Context, *session) error) error {
	return r.client.do(ctx, r.access, true, call)
}

// PutBlob sends a blob as one stream, unless the registry has it already. open is called for each attempt: a second one is made where the login had expired.
// Its errors are returned as they are.
func (r *Repository) PutBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	return r.push(ctx, func(ctx context.Context, s *session) error {
		res, err := s.ask(ctx, http.MethodHead, s.url("blobs", d.Digest.String()), nil)
		switch {
		case missing(err):
			return s.upload(ctx, d, open)
		case err != nil:
			return err
		case res.ContentLength >= 0 && res.ContentLength != d.Size:
			return errors.Join(senseless(res, "of another size than the blob"), res.Body.Close())
		}
		return res.Body.Close()
	})
}

// upload asks for a place and puts the blob there (distribution spec, "POST then PUT").
func (s *session) upload(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	start, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url("blobs", "uploads", "").String(), http.NoBody)
	if err != nil {
		return err
	}
	res, err := s.send(start, http.StatusAccepted)
	if err != nil {
		return err
	}
	_ = res.Body.Close() // says nothing that the header does not
	at, err := res.Request.URL.Parse(res.Header.Get("Location"))
	if err != nil || res.Header.Get("Location") == "" {
		return senseless(res, "no place to upload to")
	}
	if err := mayLead(res.Request.URL, at); err != nil {
		return err
	}
	query := at.Query()
	query.Set("digest", d.Digest.String())
	at.RawQuery = query.Encode()

	src := &source{open: open}
	body, err := src.again()
	if err != nil {
		return err
	}
	put, err := http.NewRequestWithContext(ctx, http.MethodPut, at.String(), body)
	if err != nil {
		return errors.Join(err, body.Close())
	}
	put.GetBody, put.ContentLength = src.again, d.Size
	put.Header.Set("Content-Type", "application/octet-stream")
	if d.Size == 0 {
		put.Body = http.NoBody
	}
	res, err = s.send(put, http.StatusCreated)
	if failed := src.failure(); err != nil && failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	_ = res.Body.Close() // says nothing that the header does not
	return confirm(res.Header, d.Digest.String())
}

// source is what is uploaded; it remembers why it could not be read, for net/http tells that as a failure of the network.
type source struct {
	open func() (io.ReadCloser, error)
	last *sourceBody
}

func (s *source) again() (io.ReadCloser, error) {
	body, err := s.open()
	if err != nil {
		return nil, &sourceError{err}
	}
	s.last = &sourceBody{ReadCloser: body, errs: make(chan error, 1)}
	return s.last, nil
}

// failure is why the last attempt could not read on, if that was so.
func (s *source) failure() error {
	select {
	case err := <-s.last.errs:
		return err
	default:
		return nil
	}
}

type sourceBody struct {
	io.ReadCloser
	errs   chan error
	closed atomic.Bool
}

func (b *sourceBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !b.closed.Load() { // a registry may refuse before it has read all, and net/http closes then
		select {
		case b.errs <- &sourceError{err}:
		default:
		}
	}
	return n, err
}

func (b *sourceBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

// sourceError is a failure to read what is to be sent; it is no answer of a registry.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "read what is to be uploaded: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// PutManifest stores a manifest under a tag or its digest. What it names must be there already. Where the manifest has a subject and the registry has no
// referrers API, it is added to the subject's referrers tag.
func (r *Repository) PutManifest(ctx context.Context, mediaType string, raw []byte, reference string) error {
	digest, err := digestOf(raw, reference)
	if err != nil {
		return err
	}
	if _, err := v1.NewHash(reference); err == nil && reference != digest {
		return fmt.Errorf("the manifest to store as %s has the digest %s", reference, digest)
	}
	return r.push(ctx, func(ctx context.Context, s *session) error {
		header, err := s.put(ctx, mediaType, raw, reference)
		if err != nil {
			return err
		}
		if err := s.stored(ctx, header, digest); err != nil {
			return err
		}
		if header.Get(headerSubject) != "" {
			return nil
		}
		return s.list(ctx, mediaType, raw, digest)
	})
}

// put stores a manifest and returns what the registry says about that.
func (s *session) put(ctx context.Context, mediaType string, raw []byte, reference string) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.url("manifests", reference).String(), bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", mediaType)
	res, err := s.send(req, http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return nil, err
	}
	return res.Header, res.Body.Close()
}

// stored makes sure that the registry has what was sent: it says the digest, or is asked for it.
func (s *session) stored(ctx context.Context, said http.Header, digest string) error {
	if said.Get(headerDigest) != "" {
		return confirm(said, digest)
	}
	got, err := s.head(ctx, digest)
	if err == nil && got == "" {
		var raw []byte
		if raw, _, err = s.manifest(ctx, digest); err == nil {
			got, err = digestOf(raw, digest)
		}
	}
	if err == nil && got != digest {
		err = fmt.Errorf("%w: %s was sent, and the registry stored %s", ErrDigest, digest, got)
	}
	return err
}

// confirm compares the digest that the registry names, if it does, with that of what was sent.
func confirm(said http.Header, digest string) error {
	if got := said.Get(headerDigest); got != "" && got != digest {
		return fmt.Errorf("%w: %s was sent, and the registry stored %q", ErrDigest, digest, quote(got))
	}
	return nil
}

// list adds a manifest to its subject's referrers tag, where the registry does not do so by itself (distribution spec, "Pushing Manifests with Subject"). Two
// who do that at once can lose one of the entries: the specification has no remedy.
func (s *session) list(ctx context.Context, mediaType string, raw []byte, digest string) error {
	var m struct {
		ArtifactType string            `json:"artifactType"`
		Config       v1.Descriptor     `json:"config"`
		Subject      *v1.Descriptor    `json:"subject"`
		Annotations  map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &m); err != nil || m.Subject == nil {
		return nil //nolint:nilerr // what is no JSON has no subject; whether it is a manifest is for the registry to say
	}
	hash, err := v1.NewHash(digest)
	if err != nil {
		return err
	}
	all, err := s.tagged(ctx, m.Subject.Digest)
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.Digest == hash {
			return nil
		}
	}
	if m.ArtifactType == "" {
		m.ArtifactType = string(m.Config.MediaType)
	}
	all = append(all, v1.Descriptor{
		MediaType: types.MediaType(mediaType), Digest: hash, Size: int64(len(raw)), ArtifactType: m.ArtifactType, Annotations: m.Annotations,
	})
	list, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: all})
	if err != nil {
		return err
	}
	_, err = s.put(ctx, string(types.OCIImageIndex), list, referrersTag(m.Subject.Digest))
	return err
}
