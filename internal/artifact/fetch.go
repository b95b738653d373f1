package artifact

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/towline/towline/internal/artifact/store"
	"github.com/towline/towline/internal/artifact/verify"
	"github.com/towline/towline/internal/deploy"
)

// fetched is an artifact that is in the cache, and who vouched for it.
type fetched struct {
	entry *store.Entry
	by    string
}

// Fetch returns the artifact with the pin's digest, from the cache if it is there and intact, else from a mirror or the registry. Where the source demands a
// signature, that is checked first, and nothing is pulled or handed out without a good one. The folder of the revision stays as it is until Prune. Callers that want
// the same artifact at once share one pull. The error is a *deploy.Failure.
func (s *Store) Fetch(ctx context.Context, src deploy.Source, pin deploy.Pin) (deploy.Revision, error) {
	if _, err := v1.NewHash(pin.Digest); err != nil { // it becomes a part of a path
		return deploy.Revision{}, failure("fetch "+src.Name.String(), err)
	}
	policy, err := s.policy(ctx, src)
	if err != nil {
		return deploy.Revision{}, failure("fetch "+src.Name.String(), err)
	}
	o, err := s.origin(src)
	if err != nil {
		return deploy.Revision{}, failure("fetch "+src.Name.String(), err)
	}
	rev, err := s.fetch(ctx, src, pin, o, policy)
	if err != nil {
		return deploy.Revision{}, failure("fetch "+o.name+at(pin), err)
	}
	return rev, nil
}

// at is what a pin adds to the name of a repository in messages.
func at(pin deploy.Pin) string {
	const hexDigits = 12 // enough to tell artifacts apart, as in git
	digest := "@" + pin.Digest
	if algorithm, hex, ok := strings.Cut(pin.Digest, ":"); ok {
		digest = "@" + algorithm + ":" + hex[:min(len(hex), hexDigits)]
	}
	if pin.Ref == "" {
		return digest
	}
	return ":" + pin.Ref + digest
}

func (s *Store) fetch(ctx context.Context, src deploy.Source, pin deploy.Pin, o *origin, policy *verify.Policy) (deploy.Revision, error) {
	cache, err := s.open()
	if err != nil {
		return deploy.Revision{}, err
	}
	sel := newSelector(src.Spec)
	j := job{cache: cache, entry: store.EntryName(pin.Digest, sel.hash()), digest: pin.Digest, selector: sel, origin: o, policy: policy}
	// A pull is shared only among those who come with the same credentials and the same demands: one source's refusal is not another's.
	key := o.key + "|" + j.entry
	if policy != nil {
		key += "|" + policy.Hash()
	}
	got, err := s.flights.do(ctx, key, func(ctx context.Context) (fetched, error) { return s.obtain(ctx, j) })
	if err != nil {
		return deploy.Revision{}, err
	}
	s.remember(cache, src, pin)
	if policy != nil {
		pin.Policy = policy.Hash() // not what Resolve read: that may have been replaced since
	}
	return revision(src, pin, got), nil
}

// revision is an entry of the cache as a source hands it on.
func revision(src deploy.Source, pin deploy.Pin, got fetched) deploy.Revision {
	e := got.entry
	return deploy.Revision{
		Source: src.Name, Ref: pin.Ref, Digest: pin.Digest, Dir: e.Dir, File: e.File, Annotations: maps.Clone(e.Annotations),
		VerifiedBy: got.by, Policy: pin.Policy, Seen: time.Now(),
	}
}

// job is one artifact to be had.
type job struct {
	cache    *store.Cache
	entry    string
	digest   string
	selector selector
	origin   *origin
	policy   *verify.Policy // nil: no signature is demanded
}

// obtain gets an artifact into the cache: signature first, then content.
func (s *Store) obtain(ctx context.Context, j job) (fetched, error) {
	e, err := s.cached(j.cache, j.entry)
	if err != nil {
		return fetched{}, err
	}
	var by string
	var fresh *verify.Evidence
	if j.policy != nil {
		if e != nil {
			by, _ = verifyKept(ctx, j.policy, e, j.origin.repository, j.digest) // what was kept may be out of date: the registry has the last word
		}
		if by == "" {
			if by, fresh, err = verifyAt(ctx, j); err != nil {
				return fetched{}, err
			}
		}
	}
	if e == nil {
		err = inTurn(ctx, j.origin.contents(), func(ctx context.Context, p place) error {
			e, err = s.pull(ctx, j, p)
			return err
		})
		if err != nil {
			return fetched{}, err
		}
	}
	if fresh != nil {
		s.keepEvidence(j, e, fresh)
	}
	return fetched{e, by}, nil
}

// cached is an intact entry of the cache; nil where there is none.
func (s *Store) cached(cache *store.Cache, entry string) (*store.Entry, error) {
	s.checks <- struct{}{}
	e, damage, err := cache.Get(entry)
	<-s.checks
	if damage != nil {
		s.opts.Log.Warn("cached artifact was damaged", zap.String("entry", damage.Entry), zap.Bool("repaired", damage.Repaired), zap.Error(damage.Err))
	}
	return e, err
}

// signedName is the repository that a source's signatures are for.
func signedName(src deploy.Source) (string, error) {
	if repo, err := repository(src.Spec.URL, src.Spec.Insecure); err == nil {
		return repo.Name(), nil
	}
	path, err := localPath(src.Spec.URL)
	return path, err
}

// verifyAt checks the signature where the artifact comes from: the first place that has a good one is enough.
func verifyAt(ctx context.Context, j job) (by string, ev *verify.Evidence, err error) {
	err = inTurn(ctx, j.origin.contents(), func(ctx context.Context, p place) (verr error) {
		by, ev, verr = j.policy.Verify(ctx, p.content, j.origin.repository, j.digest)
		return verr
	})
	return by, ev, err
}

// keepEvidence lets a later start check the signature without a registry. What is there already stays: another source may have other keys.
func (s *Store) keepEvidence(j job, e *store.Entry, ev *verify.Evidence) {
	s.evidence.Lock()
	defer s.evidence.Unlock()
	raw, err := withKept(e, ev)
	if err == nil {
		err = j.cache.SetEvidence(j.entry, raw)
	}
	if err != nil { // the artifact can be used; a start without a registry will not be able to
		s.opts.Log.Warn("the evidence of a signature could not be kept", zap.String("entry", j.entry), zap.Error(err))
	}
}

// pull brings an artifact from one place into the cache. Each step is checked against the digest that the step before it named.
func (s *Store) pull(ctx context.Context, j job, p place) (*store.Entry, error) {
	release, err := s.wait(ctx, s.pulls, p.host, pullsPerHost, "pulls from")
	if err != nil {
		return nil, err
	}
	defer release()
	digest := j.digest
	m, raw, err := manifest(ctx, p, digest)
	if err != nil {
		return nil, err
	}
	annotations := m.Annotations
	if m.isIndex() {
		child, err := j.selector.choosePlatform(m.Manifests)
		if err != nil {
			return nil, invalid("%w", err)
		}
		digest = child.Digest.String()
		if m, raw, err = manifest(ctx, p, digest); err != nil {
			return nil, fmt.Errorf("manifest for %s: %w", child.Platform, err)
		}
		if m.isIndex() {
			return nil, invalid("the artifact is an index of indexes: that is not supported")
		}
		annotations = merge(annotations, m.Annotations)
	}
	layers, err := j.selector.choose(m.Layers)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return j.cache.Put(j.entry, store.Item{
		Digest: j.digest, ManifestDigest: digest, Manifest: raw, Annotations: annotations, Layers: layers, Copy: j.selector.copy,
		Trim: !j.selector.copy, Ignore: j.selector.ignore,
		Pull: func(layer v1.Descriptor, w io.Writer) error { return p.Blob(ctx, layer, w) },
	})
}

// document is a manifest or an index.
type document struct {
	Layers      []v1.Descriptor   `json:"layers"`
	Manifests   []v1.Descriptor   `json:"manifests"`
	Annotations map[string]string `json:"annotations"`
}

func (d *document) isIndex() bool { return d.Layers == nil && d.Manifests != nil }

func manifest(ctx context.Context, p place, digest string) (*document, []byte, error) {
	raw, err := p.Manifest(ctx, digest)
	if err != nil {
		return nil, nil, err
	}
	d := &document{}
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, nil, invalid("the manifest is not JSON: %w", err)
	}
	if d.Layers == nil && d.Manifests == nil {
		return nil, nil, invalid("the manifest is neither an OCI image manifest nor an index")
	}
	return d, raw, nil
}

// merge is both maps; the second wins.
func merge(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		return b
	}
	maps.Copy(out, b)
	return out
}
