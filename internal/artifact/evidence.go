package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/artifact/store"
	"github.com/towline/towline/internal/artifact/verify"
	"github.com/towline/towline/internal/deploy"
)

// maxKept is the size in bytes of the evidence of all signatures of one artifact that are kept: as much as that of one signature may take.
const maxKept = 4 << 20

// kept is the evidence beside an artifact; nil where there is none. It proves nothing by itself: whoever uses it checks it.
func kept(e *store.Entry) (*verify.Evidence, error) {
	raw, err := e.Evidence()
	if err != nil || raw == nil {
		return nil, err
	}
	ev := &verify.Evidence{}
	if err := json.Unmarshal(raw, ev); err != nil {
		return nil, fmt.Errorf("read the evidence: %w", err)
	}
	return ev, nil
}

// verifyKept checks a signature with what was kept of it beside the artifact. No request is made.
func verifyKept(ctx context.Context, policy *verify.Policy, e *store.Entry, repository, digest string) (by string, err error) {
	ev, err := kept(e)
	if err != nil {
		return "", err
	}
	if ev == nil {
		return "", &deploy.Failure{Reason: deploy.SourceUnsigned, Err: errors.New("none was kept")}
	}
	by, _, err = policy.Verify(ctx, ev, repository, digest)
	return by, err
}

// withKept is fresh evidence together with what is kept, in JSON: sources with different keys may come for one artifact, and each has to find its own signature. Where
// that gets too large, the fresh one goes alone.
func withKept(e *store.Entry, fresh *verify.Evidence) ([]byte, error) {
	if old, err := kept(e); err == nil && old != nil && old.Subject == fresh.Subject { // what cannot be read is replaced
		raw, err := json.Marshal(join(old, fresh))
		if err != nil || len(raw) <= maxKept {
			return raw, err
		}
	}
	return json.Marshal(fresh)
}

// join is what both hold; of a tag, what the fresh one says.
func join(old, fresh *verify.Evidence) *verify.Evidence {
	out := &verify.Evidence{
		Subject: fresh.Subject, Attached: slices.Clone(fresh.Attached),
		Tags: map[string]string{}, Manifests: map[string][]byte{}, Blobs: map[string][]byte{},
	}
	for _, d := range old.Attached {
		if !slices.ContainsFunc(fresh.Attached, func(f v1.Descriptor) bool { return f.Digest == d.Digest }) {
			out.Attached = append(out.Attached, d)
		}
	}
	for _, ev := range []*verify.Evidence{old, fresh} {
		maps.Copy(out.Tags, ev.Tags)
		maps.Copy(out.Manifests, ev.Manifests)
		maps.Copy(out.Blobs, ev.Blobs)
	}
	return out
}
