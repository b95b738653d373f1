package artifact_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

func TestKeyless(t *testing.T) {
	const issuer, subject = "https://ci.example", "https://ci.example/team/app/release.yaml@refs/heads/main"
	services, others := signing.NewSigstore(t), signing.NewSigstore(t)
	release := signing.Signer{Subject: subject, Issuer: issuer}
	root := filepath.Join(t.TempDir(), "trusted_root.json")
	writeFile(t, root, services.TrustedRootJSON(t))
	from := func(r *testenv.Registry) deploy.Source {
		return source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) {
			s.Verify = &deploy.Verify{TrustedRoot: root, MatchOIDCIdentity: []deploy.OIDCIdentity{
				{Issuer: "^https://elsewhere$", Subject: ".*"}, {Issuer: "^https://ci\\.example$", Subject: "^https://ci\\.example/team/app/"},
			}}
		})
	}
	for name, sign := range map[string]func(*signing.Sigstore, testing.TB, signing.Signer, string){
		"bundle": (*signing.Sigstore).Keyless, "sig tag": (*signing.Sigstore).KeylessLegacy,
	} {
		t.Run(name, func(t *testing.T) {
			for what, c := range map[string]struct {
				by   *signing.Sigstore
				who  signing.Signer
				want string // the reason; empty where it is accepted
				says string
			}{
				"the release workflow":                   {services, release, "", subject + " (" + issuer + ")"},
				"another workflow":                       {services, signing.Signer{Subject: "https://ci.example/team/other/", Issuer: issuer}, deploy.SourceUnverified, "none of the identities"},
				"another issuer":                         {services, signing.Signer{Subject: subject, Issuer: "https://ci.example.evil"}, deploy.SourceUnverified, "none of the identities"},
				"a certificate that had expired by then": {services, signing.Signer{Subject: subject, Issuer: issuer, Late: time.Hour}, deploy.SourceUnverified, "expired"},
				"no certificate transparency":            {services, signing.Signer{Subject: subject, Issuer: issuer, NoSCT: true}, deploy.SourceUnverified, "no good signature"},
				"another root":                           {others, release, deploy.SourceUnverified, "no good signature"},
			} {
				t.Run(what, func(t *testing.T) {
					r := testenv.NewRegistry(t)
					digest := r.PushFiles("apps/web", "v1", files, nil)
					sign(c.by, t, c.who, r.Host()+"/apps/web@"+digest)
					s, src := newStore(t), from(r)
					pin := resolve(t, s, src)
					r.Reset()
					rev, err := s.Fetch(t.Context(), src, pin)
					switch {
					case c.want == "" && (err != nil || !strings.Contains(rev.VerifiedBy, c.says)):
						t.Errorf("revision %+v, error %v", rev, err)
					case c.want != "" && (err == nil || reasonOf(t, err) != c.want || !strings.Contains(err.Error(), c.says)):
						t.Errorf("error %v, want one for %s that says %q", err, c.want, c.says)
					case c.want != "" && layerRequests(r, digest) != 0:
						t.Errorf("the layer was asked for: %v", asked(r))
					}
				})
			}
		})
	}
	t.Run("a changed trusted root is another policy, and takes back what is cached", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		digest := r.PushFiles("apps/web", "v1", files, nil)
		services.Keyless(t, release, r.Host()+"/apps/web@"+digest)
		dir := filepath.Join(t.TempDir(), "cache")
		s, src := newStore(t, func(o *artifact.Options) { o.CacheDir = dir }), from(r)
		good := fetch(t, s, src)
		writeFile(t, root, others.TrustedRootJSON(t))
		pin := resolve(t, s, src)
		if pin.Digest != digest || pin.Policy == good.Policy {
			t.Fatalf("pin %+v", pin)
		}
		if _, err := s.Fetch(t.Context(), src, pin); err == nil || reasonOf(t, err) != deploy.SourceUnverified {
			t.Errorf("error %v", err)
		}
		if _, rev, err := cachedIn(t, dir, src); err == nil {
			t.Errorf("a start without a registry would serve %+v", rev)
		}
		writeFile(t, root, services.TrustedRootJSON(t))
		r.Close()
		if _, rev, err := cachedIn(t, dir, src); err != nil || rev.Digest != digest {
			t.Errorf("with the old root again: %+v %v", rev, err)
		}
	})
}
