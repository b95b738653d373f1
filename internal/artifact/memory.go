package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"go.uber.org/zap"

	"github.com/towline/towline/internal/artifact/layout"
	"github.com/towline/towline/internal/artifact/store"
	"github.com/towline/towline/internal/deploy"
)

// remembered is what a reference led to when it was last followed to the end. It is on the disk, for a start without a registry.
type remembered struct {
	// Ref is the tag; Digest what it meant.
	Ref    string `json:"ref"`
	Digest string `json:"digest"`
}

// memoryKey names what a source asks for. Each source has its own: what one without signatures, or with other keys, was led to is nothing that another came from.
func memoryKey(src deploy.Source) string {
	return deploy.HashOf([]any{src.Name, src.Spec.URL, src.Spec.Ref, newSelector(src.Spec).hash()})
}

// remember notes what a source led to; an unchanged note costs no write. A pinned digest needs none.
func (s *Store) remember(cache *store.Cache, src deploy.Source, pin deploy.Pin) {
	if pin.Ref == "" {
		return
	}
	key, note := memoryKey(src), remembered{Ref: pin.Ref, Digest: pin.Digest}
	s.mu.Lock()
	s.notes[key] = note
	s.mu.Unlock()
	raw, err := json.Marshal(note)
	if err == nil {
		err = cache.Remember(key, raw)
	}
	if err != nil { // the artifact can be used; a start without a registry will not find it
		s.opts.Log.Warn("what a source led to could not be noted on the disk", zap.Stringer("source", src.Name), zap.Error(err))
	}
}

// recall is what was noted; false where there is nothing, or nothing that can be read. What this process noted counts, although the disk may have lost it.
func (s *Store) recall(src deploy.Source) (remembered, bool) {
	key := memoryKey(src)
	s.mu.Lock()
	note, ok := s.notes[key]
	s.mu.Unlock()
	if ok {
		return note, true
	}
	cache, err := s.open()
	if err != nil {
		return remembered{}, false
	}
	raw, err := cache.Recall(key)
	if err != nil || raw == nil {
		return remembered{}, false
	}
	var r remembered
	if json.Unmarshal(raw, &r) != nil || r.Digest == "" {
		return remembered{}, false
	}
	return r, true
}

// Remembered is the digest that a source of the same name, url, reference and selection led to last, as far as the disk knows.
func (s *Store) Remembered(src deploy.Source) (digest string, ok bool) {
	r, ok := s.recall(src)
	return r.Digest, ok
}

// known reports whether a source has had a revision in this process, or has one on the disk.
func (s *Store) known(src deploy.Source) bool {
	s.mu.Lock()
	_, had := s.notes[memoryKey(src)]
	s.mu.Unlock()
	if had {
		return true
	}
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

// Cached is what a source of the same name, url, reference and selection led to last, from the disk and without any request to a registry. Where the source demands
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
	pin, got := deploy.Pin{Ref: r.Ref, Digest: r.Digest}, fetched{entry: e}
	if policy != nil {
		name, err := signedName(src)
		if err != nil {
			return deploy.Revision{}, deploy.Pin{}, err
		}
		if got.by, err = verifyKept(ctx, policy, e, name, r.Digest); err != nil {
			return deploy.Revision{}, deploy.Pin{}, fmt.Errorf("its signature that was kept: %w", err)
		}
		pin.Policy = policy.Hash()
	}
	return revision(src, pin, got), pin, nil
}

// Forget removes what was noted of sources other than these, on the disk and in memory. None of the others may be fetched meanwhile.
func (s *Store) Forget(keep []deploy.Source) error {
	keys := make([]string, len(keep))
	notes, policies, layouts := map[string]bool{}, map[deploy.Name]bool{}, map[string]bool{}
	for i, src := range keep {
		keys[i] = memoryKey(src)
		notes[keys[i]], policies[src.Name], layouts[layoutKey(src.Spec)] = true, true, true
	}
	s.mu.Lock()
	maps.DeleteFunc(s.notes, func(k string, _ remembered) bool { return !notes[k] })
	maps.DeleteFunc(s.policies, func(k deploy.Name, _ parsed) bool { return !policies[k] })
	maps.DeleteFunc(s.layouts, func(k string, _ *layout.Layout) bool { return !layouts[k] }) // they hold nothing open
	s.mu.Unlock()
	cache, err := s.open()
	if err != nil {
		return err
	}
	return cache.Forget(keys)
}
