package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/artifact/store"
	"github.com/towline/towline/internal/deploy"
)

// remembered is what a reference led to when it was last followed to the end. It is on the disk, for a start without a registry.
type remembered struct {
	// Ref is the tag; Digest what it meant.
	Ref    string `json:"ref"`
	Digest string `json:"digest"`
}

// memoryKey names what a source asks for: entries that mean the same artifact remember it together, whatever they are called.
func memoryKey(src deploy.Source) string {
	return deploy.HashOf([]any{src.Spec.URL, src.Spec.Ref, newSelector(src.Spec).hash()})
}

// remember notes what a source led to; an unchanged note costs no write. A pinned digest needs none.
func (s *Store) remember(cache *store.Cache, src deploy.Source, pin deploy.Pin) {
	if pin.Ref == "" {
		return
	}
	raw, err := json.Marshal(remembered{Ref: pin.Ref, Digest: pin.Digest})
	if err == nil {
		err = cache.Remember(memoryKey(src), raw)
	}
	if err != nil { // the artifact can be used; a start without a registry will not find it
		s.opts.Log.Warn("what a source led to could not be noted on the disk", zap.Stringer("source", src.Name), zap.Error(err))
	}
}

// recall is what was noted; false where there is nothing, or nothing that can be read.
func (s *Store) recall(src deploy.Source) (remembered, bool) {
	cache, err := s.open()
	if err != nil {
		return remembered{}, false
	}
	raw, err := cache.Recall(memoryKey(src))
	if err != nil || raw == nil {
		return remembered{}, false
	}
	var r remembered
	if json.Unmarshal(raw, &r) != nil || r.Digest == "" {
		return remembered{}, false
	}
	return r, true
}

// Remembered is the digest that a source with the same url, reference and selection led to last, as far as the disk knows.
func (s *Store) Remembered(src deploy.Source) (digest string, ok bool) {
	r, ok := s.recall(src)
	return r.Digest, ok
}

// known reports whether there is a revision of a source on the disk.
func (s *Store) known(src deploy.Source) bool {
	r, ok := s.recall(src)
	if !ok {
		return false
	}
	cache, err := s.open()
	if err != nil {
		return false
	}
	e, err := s.cached(cache, store.EntryName(r.Digest, newSelector(src.Spec).hash()))
	return err == nil && e != nil
}

// errNotCached says that there is nothing on the disk to go on with.
var errNotCached = errors.New("not in the cache")

// Cached is what a source with the same url, reference and selection led to last, from the disk and without any request to a registry. Where the source demands
// signatures, they are checked as for a new artifact, with the evidence that was kept beside it.
func (s *Store) Cached(ctx context.Context, src deploy.Source) (deploy.Pin, deploy.Revision, error) {
	rev, pin, err := s.fromDisk(ctx, src)
	if err != nil {
		return deploy.Pin{}, deploy.Revision{}, failure("find "+src.Name.String()+" on the disk", err)
	}
	return pin, rev, nil
}

func (s *Store) fromDisk(ctx context.Context, src deploy.Source) (deploy.Revision, deploy.Pin, error) {
	r, ok := s.recall(src)
	if !ok {
		return deploy.Revision{}, deploy.Pin{}, errNotCached
	}
	policy, err := s.policy(ctx, src)
	if err != nil {
		return deploy.Revision{}, deploy.Pin{}, err
	}
	cache, err := s.open()
	if err != nil {
		return deploy.Revision{}, deploy.Pin{}, err
	}
	e, err := s.cached(cache, store.EntryName(r.Digest, newSelector(src.Spec).hash()))
	if err != nil {
		return deploy.Revision{}, deploy.Pin{}, err
	}
	if e == nil {
		return deploy.Revision{}, deploy.Pin{}, errNotCached
	}
	pin, by := deploy.Pin{Ref: r.Ref, Digest: r.Digest}, ""
	if policy != nil {
		name, err := signedName(src)
		if err != nil {
			return deploy.Revision{}, deploy.Pin{}, err
		}
		if by, err = verifyKept(ctx, policy, e, name, r.Digest); err != nil {
			return deploy.Revision{}, deploy.Pin{}, fmt.Errorf("its signature that was kept: %w", err)
		}
		pin.Policy = policy.Hash()
	}
	return revision(src, pin, e, by, time.Now()), pin, nil
}

// Forget removes the notes of sources other than these.
func (s *Store) Forget(keep []deploy.Source) error {
	cache, err := s.open()
	if err != nil {
		return err
	}
	keys := make([]string, len(keep))
	for i, src := range keep {
		keys[i] = memoryKey(src)
	}
	return cache.Forget(keys)
}
