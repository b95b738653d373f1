package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

func TestEvidence(t *testing.T) {
	reg := testenv.NewRegistry(t)
	pair := signing.KeyPair(t)
	p := policy(t, Material{Keys: keysOf(pair)})
	other := pushTo(reg, "team/other", "other")
	for form, sign := range map[string]func(testing.TB, signing.Pair, string){"a bundle": signing.Sign, "the .sig tag": signing.SignLegacy} {
		a := pushTo(reg, "team/evidence", form)
		sign(t, pair, a.ref())
		_, ev, err := p.Verify(t.Context(), a.content(t), a.repository(), a.digest)
		must(t, err)
		t.Run(form+": holds what the signature needs and no more", func(t *testing.T) {
			if len(ev.Blobs) != 1 || len(ev.Manifests) != 1 || len(ev.Attached)+len(ev.Tags) != 1 {
				t.Errorf("%d blobs, %d manifests, %d referrers, %d tags", len(ev.Blobs), len(ev.Manifests), len(ev.Attached), len(ev.Tags))
			}
		})
		t.Run(form+": is worth nothing for another artifact", func(t *testing.T) {
			refusedFrom(t, p, throughJSON(t, ev), other, deploy.SourceUnsigned, "is not signed")
			foreign := throughJSON(t, ev)
			foreign.Subject = other.digest
			for _, d := range ev.Tags {
				foreign.Tags = map[string]string{strings.Replace(other.digest, ":", "-", 1) + ".sig": d}
			}
			refusedFrom(t, p, foreign, other, deploy.SourceUnverified, "it is for another artifact")
		})
		t.Run(form+": is worth nothing with another policy", func(t *testing.T) {
			refusedFrom(t, policy(t, Material{Keys: keysOf(signing.KeyPair(t))}), throughJSON(t, ev), a, deploy.SourceUnverified, "not signed with a.pub")
		})
		t.Run(form+": is worth nothing when it was changed", func(t *testing.T) {
			for _, part := range []func(*Evidence) map[string][]byte{
				func(e *Evidence) map[string][]byte { return e.Blobs }, func(e *Evidence) map[string][]byte { return e.Manifests },
			} {
				bent := throughJSON(t, ev)
				for k, raw := range part(bent) {
					raw[len(raw)/2] ^= 1
					part(bent)[k] = raw
				}
				refusedFrom(t, p, bent, a, deploy.SourceUnverified, "it is not what its digest")
				for k := range part(bent) {
					delete(part(bent), k)
				}
				if _, _, err := p.Verify(t.Context(), bent, a.repository(), a.digest); err == nil {
					t.Error("accepted without a part")
				}
			}
			if _, _, err := p.Verify(t.Context(), &Evidence{}, a.repository(), a.digest); err == nil {
				t.Error("accepted without any")
			}
		})
	}
}

func TestVerifyIsSafeForConcurrentUse(t *testing.T) {
	reg := testenv.NewRegistry(t)
	s, pair := signing.NewSigstore(t), signing.KeyPair(t)
	p := policy(t, Material{Keys: keysOf(pair), Identities: []deploy.OIDCIdentity{{Issuer: ".", Subject: "."}}, TrustedRoot: s.TrustedRootJSON(t)})
	a := push(t, reg)
	s.Keyless(t, signing.Signer{Subject: subject, Issuer: issuer}, a.ref())
	_, ev, err := p.Verify(t.Context(), a.content(t), a.repository(), a.digest)
	must(t, err)
	done := make(chan error)
	const callers = 8
	for range callers {
		go func() {
			_, _, err := p.Verify(t.Context(), ev, a.repository(), a.digest)
			done <- err
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestForgedEvidence(t *testing.T) {
	reg := testenv.NewRegistry(t)
	pair, k := signing.KeyPair(t), validKey(t, "k")
	ours, other := pushTo(reg, "team/ours", "ours"), pushTo(reg, "team/other", "other")
	keyed := policy(t, Material{Keys: keysOf(pair)})
	scoped := policy(t, notationOf(policyDocument(t, "strict", nil, "*", ours.repository()), k))
	signing.SignLegacy(t, pair, other.ref())
	signing.NotationSign(t, k, signing.FormatJWS, ours.ref())
	_, legacy, err := keyed.Verify(t.Context(), other.content(t), other.repository(), other.digest)
	must(t, err)
	_, ev, err := scoped.Verify(t.Context(), ours.content(t), ours.repository(), ours.digest)
	must(t, err)
	subject := ev.Manifests[ours.digest]
	t.Run("a tag leads nowhere that was not signed", func(t *testing.T) {
		e := throughJSON(t, legacy)
		e.Subject = ours.digest
		for _, d := range legacy.Tags {
			e.Tags = map[string]string{strings.Replace(ours.digest, ":", "-", 1) + ".sig": d}
		}
		refusedFrom(t, keyed, e, ours, deploy.SourceUnverified, "it is for another artifact")
		for tag := range e.Tags {
			e.Tags[tag] = other.digest // not among the manifests
		}
		if by, _, err := keyed.Verify(t.Context(), e, ours.repository(), ours.digest); err == nil {
			t.Errorf("%q vouches", by)
		}
	})
	t.Run("a signature is for a repository where the policy says so", func(t *testing.T) {
		refusedFrom(t, scoped, throughJSON(t, ev), artifact{host: other.host, repo: other.repo, digest: ours.digest}, deploy.SourceNoPolicy, "says nothing about")
	})
	t.Run("another artifact does not take the place of the one that was signed", func(t *testing.T) {
		e := throughJSON(t, ev)
		e.Subject = other.digest
		e.Manifests[other.digest] = subject
		refusedFrom(t, scoped, e, artifact{host: ours.host, repo: ours.repo, digest: other.digest}, deploy.SourceUnverified, "it is not what its digest")
	})
	t.Run("it is no larger than what is read from a registry", func(t *testing.T) {
		for _, part := range []func(*Evidence) map[string][]byte{
			func(e *Evidence) map[string][]byte { return e.Blobs }, func(e *Evidence) map[string][]byte { return e.Manifests },
		} {
			e := throughJSON(t, legacy)
			for d, raw := range part(e) {
				part(e)[d] = append(raw, make([]byte, maxSignature)...)
			}
			refusedFrom(t, keyed, e, other, deploy.SourceUnverified, "")
		}
		many := &Evidence{Subject: ours.digest, Attached: make([]v1.Descriptor, 100_000)}
		refusedFrom(t, keyed, many, ours, deploy.SourceUnverified, "99936 were not looked at")
	})
	t.Run("no JSON makes one that is accepted", func(t *testing.T) {
		for _, text := range []string{`null`, `{}`, `{"attached":[{}],"subject":"` + ours.digest + `"}`, `{"attached":null,"tags":null,"blobs":null}`, `{"subject":"` + ours.digest + `","manifests":{"":""}}`} {
			e := &Evidence{}
			must(t, json.Unmarshal([]byte(text), e))
			for _, p := range []*Policy{keyed, scoped} {
				if by, _, err := p.Verify(t.Context(), e, ours.repository(), ours.digest); err == nil {
					t.Errorf("%s: %q vouches", text, by)
				}
			}
		}
	})
}

// ending is a content whose context ends after so many calls.
type ending struct {
	Content
	left int
	end  context.CancelFunc
}

// Blob counts.
func (e *ending) Blob(ctx context.Context, d v1.Descriptor, w io.Writer) error {
	if e.left--; e.left == 0 {
		e.end()
	}
	return e.Content.Blob(context.WithoutCancel(ctx), d, w)
}

func TestTheContextIsAskedBetweenSignatures(t *testing.T) {
	reg := testenv.NewRegistry(t)
	pair, k := signing.KeyPair(t), validKey(t, "k")
	bundles, legacy, envelopes := pushTo(reg, "team/bundles", "x"), pushTo(reg, "team/legacy", "x"), pushTo(reg, "team/envelopes", "x")
	var layers []signing.LegacyLayer
	for i := range 5 {
		raw := fmt.Append(nil, "garbage ", i)
		signing.PushBundle(t, bundles.ref(), raw)
		signing.PushNotation(t, envelopes.ref(), "application/jose+json", raw)
		layers = append(layers, signing.LegacyLayer{Payload: raw})
	}
	signing.PushLegacy(t, legacy.ref(), layers...)
	keyed := policy(t, Material{Keys: keysOf(pair)})
	for what, c := range map[string]struct {
		p *Policy
		a artifact
	}{
		"bundles": {keyed, bundles}, "the .sig tag": {keyed, legacy}, "envelopes": {policy(t, notationOf(policyDocument(t, "strict", nil, "*", "*"), k)), envelopes},
	} {
		t.Run(what, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			e := &ending{Content: c.a.content(t), left: 2, end: cancel}
			_, _, err := c.p.Verify(ctx, e, c.a.repository(), c.a.digest)
			if !errors.Is(err, context.Canceled) || e.left != 0 {
				t.Errorf("got %v after %d more", err, -e.left)
			}
		})
	}
}
