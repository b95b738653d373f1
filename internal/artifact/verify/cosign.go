package verify

import (
	"context"
	"errors"
	"strings"

	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
)

// cosign accepts an artifact that one of the keys or one of the identities has signed, in either of Cosign's two formats: bundles among the referrers (bundle.go), which
// is what version 3 writes, and the .sig tag of version 2 (legacy.go). Both are always looked at: a bundle that is not good does not hide a signature that is.
type cosign struct {
	keys    []key
	keyless *keyless
}

func newCosign(m Material) (scheme, error) {
	if len(m.Keys) == 0 && len(m.Identities) == 0 {
		return nil, noPolicy("cosign has nothing to verify with: give at least one public key (a Secret's keys have to end with .pub), or matchOIDCIdentity with a trusted root")
	}
	keys, err := newKeys(m.Keys)
	if err != nil {
		return nil, err
	}
	k, err := newKeyless(m.Identities, m.TrustedRoot)
	if err != nil {
		return nil, err
	}
	return &cosign{keys: keys, keyless: k}, nil
}

func (c *cosign) verify(ctx context.Context, r *reader, _, digest string) (string, error) {
	f := &findings{}
	by, more := c.bundles(ctx, r, digest, f)
	if by == "" && more {
		by = c.legacy(ctx, r, digest, f)
	}
	if by == "" {
		if err := ctx.Err(); err != nil && f.unread == nil {
			f.unread = context.Cause(ctx)
		}
		return "", f.err(digest)
	}
	return by, nil
}

// claim is a signature that was found, in the forms that the two kinds of signers need.
type claim struct {
	// keyed is the signature for a check with keys, certified for one with certificates; certified is nil where there is no certificate.
	keyed, certified sigstore.SignedEntity
	// artifact says what is signed. It is made anew for each try.
	artifact func() sigstore.ArtifactPolicyOption
}

// check says who made the signature, if it is anybody who is trusted. The result is what was signed.
func (c *cosign) check(cl claim) (by string, res *sigstore.VerificationResult, err error) {
	// The libraries read what anybody may have pushed. A hole in their parsing must not end the agent.
	defer func() {
		if p := recover(); p != nil {
			by, res, err = "", nil, bad("it cannot be read: %v", p)
		}
	}()
	for _, k := range c.keys {
		for _, way := range k.ways {
			res, err := way.Verify(cl.keyed, sigstore.NewPolicy(cl.artifact(), sigstore.WithKey()))
			if err == nil {
				return "cosign key " + k.name, res, nil
			}
		}
	}
	var why []string
	if len(c.keys) > 0 {
		why = append(why, "not signed with "+c.names())
	}
	switch {
	case c.keyless == nil:
	case cl.certified == nil:
		why = append(why, "it was made with a key, not with a certificate")
	default:
		by, res, err := c.keyless.check(cl.certified, cl.artifact())
		if err == nil {
			return by, res, nil
		}
		why = append(why, err.Error())
	}
	return "", nil, errors.New(strings.Join(why, ", "))
}

func (c *cosign) names() string {
	names := make([]string, len(c.keys))
	for i, k := range c.keys {
		names[i] = k.name
	}
	return strings.Join(names, " or ")
}
