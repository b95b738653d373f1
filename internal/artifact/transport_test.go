package artifact_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/distribution"
	"github.com/towline/towline/internal/testenv/signing"
)

// Whoever has these, or whatever says canary, is in no error.
const (
	robot    = "robot"
	password = "right-canary"
	wrong    = "wrong-canary"
)

// guarded is a registry, and what it takes to get in.
type guarded struct {
	host      string
	ca        []byte
	cert, key []byte
	proxy     *testenv.Proxy
	login     bool
}

// access is how the test itself gets in, without the proxy.
func (g guarded) access(t testing.TB) oci.Access {
	t.Helper()
	return oci.Access{
		Repo: must(name.NewRepository(g.host + "/team/app"))(t),
		Login: func(context.Context) (authn.Authenticator, error) {
			if g.login {
				return authn.FromConfig(authn.AuthConfig{Username: robot, Password: password}), nil
			}
			return authn.Anonymous, nil
		},
		Route: func(context.Context) (oci.Route, error) { return oci.Route{CA: g.ca, Cert: g.cert, Key: g.key}, nil },
	}
}

// team is the repository that every guarded registry of these tests holds: v1 with a bundle and a Notation signature, legacy with a .sig tag, and a chart.
type team struct {
	from     *testenv.Registry
	key      signing.Pair
	notation *signing.NotationKey
	subjects []string // with referrers
}

func newTeam(t testing.TB) *team {
	t.Helper()
	r := testenv.NewRegistry(t)
	k := &team{from: r, key: signing.KeyPair(t), notation: signing.NewNotationKey(t, "signer", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))}
	digest := r.PushFiles("team/app", "v1", files, nil)
	legacy := r.PushFiles("team/app", "legacy", map[string]string{"a.yaml": "a: 1"}, nil)
	r.PushChart("team/app", "1.2.3", testenv.Chart("app", "1.2.3", map[string]string{"templates/cm.yaml": "kind: ConfigMap"}))
	signing.Sign(t, k.key, r.Host()+"/team/app@"+digest)
	signing.NotationSign(t, k.notation, signing.FormatJWS, r.Host()+"/team/app@"+digest)
	signing.SignLegacy(t, k.key, r.Host()+"/team/app@"+legacy)
	k.subjects = []string{digest}
	return k
}

// copyTo brings everything to a registry that may not know the referrers API: then the list is at the referrers tag.
func (k *team) copyTo(t testing.TB, g guarded) {
	t.Helper()
	transport := oci.NewTransport()
	client := oci.New(transport, "test")
	t.Cleanup(func() {
		client.Close()
		transport.CloseIdleConnections()
	})
	from, to := client.Repository(guarded{host: k.from.Host()}.access(t)), client.Repository(g.access(t))
	lists := map[string]bool{} // whoever signed may have made them too
	for _, subject := range k.subjects {
		lists[strings.ReplaceAll(subject, ":", "-")] = true
	}
	for _, tag := range must(from.Tags(t.Context()))(t) {
		if lists[tag] {
			continue
		}
		put(t, from, to, must(from.Digest(t.Context(), tag))(t), tag)
	}
	for _, subject := range k.subjects {
		all := must(from.Referrers(t.Context(), subject))(t)
		for _, d := range all {
			put(t, from, to, d.Digest.String(), d.Digest.String())
		}
		raw := must(json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: all}))(t)
		if err := to.PutManifest(t.Context(), string(types.OCIImageIndex), raw, strings.ReplaceAll(subject, ":", "-")); err != nil {
			t.Fatal(err)
		}
	}
}

// put copies one manifest with its blobs.
func put(t testing.TB, from, to *oci.Repository, digest, reference string) {
	t.Helper()
	raw := must(from.Manifest(t.Context(), digest))(t)
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	for _, d := range append(m.Layers, m.Config) {
		var b bytes.Buffer
		if err := from.Blob(t.Context(), d, &b); err != nil {
			t.Fatal(err)
		}
		if err := to.PutBlob(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }); err != nil {
			t.Fatal(err)
		}
	}
	mediaType := string(m.MediaType)
	if mediaType == "" {
		mediaType = string(types.OCIManifestSchema1)
	}
	if err := to.PutManifest(t.Context(), mediaType, raw, reference); err != nil {
		t.Fatal(err)
	}
}

// sources are one of each kind of content.
func (k *team) sources(t testing.TB, url string, way func(*deploy.SourceSpec)) map[string]deploy.Source {
	t.Helper()
	dir := t.TempDir()
	key, cert, trust := filepath.Join(dir, "cosign.pub"), filepath.Join(dir, "signer.crt"), filepath.Join(dir, "trustpolicy.json")
	writeFile(t, key, k.key.Public)
	writeFile(t, cert, k.notation.Certificate)
	writeFile(t, trust, []byte(`{"version":"1.0","trustPolicies":[{"name":"all","registryScopes":["*"],"signatureVerification":{"level":"strict"},
		"trustStores":["ca:team"],"trustedIdentities":["*"]}]}`))
	verified := func(v deploy.Verify) func(*deploy.SourceSpec) {
		return func(s *deploy.SourceSpec) {
			way(s)
			s.Verify = &v
		}
	}
	return map[string]deploy.Source{
		"manifests": source(url, deploy.Ref{Tag: "v1"}, way),
		"a chart by a list of tags": source(url, deploy.Ref{Semver: "1.x"}, way, func(s *deploy.SourceSpec) {
			s.LayerSelector = &deploy.LayerSelector{MediaType: testenv.MediaHelmChart, Operation: deploy.OperationCopy}
		}),
		"a bundle":             source(url, deploy.Ref{Tag: "v1"}, verified(deploy.Verify{Keys: []string{key}})),
		"a .sig tag":           source(url, deploy.Ref{Tag: "legacy"}, verified(deploy.Verify{Keys: []string{key}})),
		"a Notation signature": source(url, deploy.Ref{Tag: "v1"}, verified(deploy.Verify{Provider: deploy.VerifyNotation, TrustPolicy: trust, Certificates: []string{cert}})),
	}
}

// way is how a source is told to get in: by Secrets, or by files.
type way struct {
	name string
	set  func(*deploy.SourceSpec)
	// spoil is the Secret, or file, to write over, and with what.
	secrets map[string]map[string][]byte
	want    string // the reason once it is spoiled
	spoil   func(testing.TB, map[string]map[string][]byte)
}

func (g guarded) byTLSSecret() way {
	data := map[string][]byte{"ca.crt": g.ca}
	if g.cert != nil {
		data["tls.crt"], data["tls.key"] = g.cert, g.key
	}
	return way{"certSecretRef", func(s *deploy.SourceSpec) { s.CertSecretRef = &deploy.LocalRef{Name: "tls"} },
		map[string]map[string][]byte{"apps/tls": data}, deploy.SourceNetwork, func(t testing.TB, secrets map[string]map[string][]byte) {
			t.Helper()
			stranger := distribution.New(t, distribution.Options{ClientCA: true})
			secrets["apps/tls"] = map[string][]byte{"ca.crt": stranger.CA, "tls.crt": stranger.Client, "tls.key": stranger.ClientKey}
		}}
}

func (g guarded) byTLSFiles(t testing.TB) way {
	t.Helper()
	dir := t.TempDir()
	f := deploy.CertFiles{CA: filepath.Join(dir, "ca.crt")}
	writeFile(t, f.CA, g.ca)
	if g.cert != nil {
		f.Cert, f.Key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
		writeFile(t, f.Cert, g.cert)
		writeFile(t, f.Key, g.key)
	}
	return way{"certFiles", func(s *deploy.SourceSpec) { s.CertFiles = &f }, nil, deploy.SourceNetwork, func(t testing.TB, _ map[string]map[string][]byte) {
		t.Helper()
		writeFile(t, f.CA, distribution.New(t, distribution.Options{TLS: true}).CA)
	}}
}

func (g guarded) byProxy() way {
	data := map[string][]byte{"address": []byte(g.proxy.URL("", "").String()), "username": []byte(robot), "password": []byte(password + "\n")}
	return way{"proxySecretRef", func(s *deploy.SourceSpec) { s.ProxySecretRef = &deploy.LocalRef{Name: "proxy"} },
		map[string]map[string][]byte{"apps/proxy": data}, deploy.SourceUnauthorized, func(_ testing.TB, secrets map[string]map[string][]byte) {
			secrets["apps/proxy"] = map[string][]byte{"address": data["address"], "username": []byte(robot), "password": []byte(wrong)}
		}}
}

func (g guarded) byLogin() way {
	config := func(pass string) map[string][]byte {
		return map[string][]byte{".dockerconfigjson": []byte(dockerConfig(g.host, robot, pass))}
	}
	return way{"secretRef", func(s *deploy.SourceSpec) { s.SecretRef = &deploy.LocalRef{Name: "pull"} },
		map[string]map[string][]byte{"apps/pull": config(password)}, deploy.SourceUnauthorized, func(_ testing.TB, secrets map[string]map[string][]byte) {
			secrets["apps/pull"] = config(wrong)
		}}
}

// with goes two ways at once; what is spoiled is the first.
func (w way) with(other way) way {
	first := w.set
	w.set = func(s *deploy.SourceSpec) {
		first(s)
		other.set(s)
	}
	w.secrets = maps.Clone(w.secrets)
	if w.secrets == nil {
		w.secrets = map[string]map[string][]byte{}
	}
	maps.Copy(w.secrets, other.secrets)
	w.name += " and " + other.name
	return w
}

func TestOneTransportForEverything(t *testing.T) {
	content := newTeam(t)
	second := func(t *testing.T, o distribution.Options, g guarded) guarded {
		t.Helper()
		r := distribution.New(t, o)
		g.host, g.ca, g.cert, g.key, g.login = r.Host(), r.CA, r.Client, r.ClientKey, o.Basic != nil || o.Token != nil
		return g
	}
	robots := &distribution.Credentials{User: robot, Password: password}
	proxied := guarded{proxy: testenv.NewProxy(t, robot, password)}
	first := testenv.NewRegistry(t)
	content.copyTo(t, guarded{host: first.Host()})
	token := testenv.NewRegistry(t)
	content.copyTo(t, guarded{host: token.Host()})
	first.RequireAuth(robot, password)
	token.RequireToken(robot, password)

	for what, c := range map[string]struct {
		g    guarded
		ways func(guarded) []way
		full bool // holds the content already
	}{
		"TLS":                 {second(t, distribution.Options{TLS: true}, guarded{}), func(g guarded) []way { return []way{g.byTLSSecret(), g.byTLSFiles(t)} }, false},
		"mTLS":                {second(t, distribution.Options{ClientCA: true}, guarded{}), func(g guarded) []way { return []way{g.byTLSSecret(), g.byTLSFiles(t)} }, false},
		"proxy":               {second(t, distribution.Options{}, proxied), func(g guarded) []way { return []way{g.byProxy()} }, false},
		"proxy and mTLS":      {second(t, distribution.Options{ClientCA: true}, proxied), func(g guarded) []way { return []way{g.byProxy().with(g.byTLSSecret())} }, false},
		"basic":               {second(t, distribution.Options{Basic: robots}, guarded{}), func(g guarded) []way { return []way{g.byLogin()} }, false},
		"token":               {second(t, distribution.Options{Token: robots}, guarded{}), func(g guarded) []way { return []way{g.byLogin()} }, false},
		"token, TLS":          {second(t, distribution.Options{Token: robots, TLS: true}, guarded{}), func(g guarded) []way { return []way{g.byLogin().with(g.byTLSFiles(t))} }, false},
		"basic, first":        {guarded{host: first.Host()}, func(g guarded) []way { return []way{g.byLogin()} }, true},
		"token, first":        {guarded{host: token.Host()}, func(g guarded) []way { return []way{g.byLogin()} }, true},
		"token, first, proxy": {guarded{host: token.Host(), proxy: proxied.proxy}, func(g guarded) []way { return []way{g.byLogin().with(g.byProxy())} }, true},
	} {
		t.Run(what, func(t *testing.T) {
			if !c.full {
				content.copyTo(t, c.g)
			}
			for _, w := range c.ways(c.g) {
				t.Run(w.name, func(t *testing.T) { content.everythingGoes(t, c.g, w) })
			}
		})
	}
}

// everythingGoes fetches each kind of content one way, and then in vain, since the way is spoiled.
func (k *team) everythingGoes(t *testing.T, g guarded, w way) {
	secrets := map[string]map[string][]byte{}
	maps.Copy(secrets, w.secrets)
	store := func() *artifact.Store {
		return newStore(t, func(o *artifact.Options) { o.Secrets = cluster{secrets: secrets} })
	}
	sources := k.sources(t, "oci://"+g.host+"/team/app", w.set)
	before := 0
	if g.proxy != nil {
		before = len(g.proxy.Requests())
	}
	for what, src := range sources {
		rev := fetch(t, store(), src)
		if (src.Spec.Verify != nil) != (rev.VerifiedBy != "") || (src.Spec.LayerSelector != nil) != (rev.File != "") {
			t.Errorf("%s: revision %+v", what, rev)
		}
	}
	if g.proxy != nil {
		for _, q := range g.proxy.Requests()[before:] {
			if q.Host != g.host || q.Refused {
				t.Errorf("through the proxy: %+v", q)
			}
		}
		if len(g.proxy.Requests()) == before {
			t.Error("nothing went through the proxy")
		}
	}
	pins := map[string]deploy.Pin{}
	for what, src := range sources {
		pins[what] = resolve(t, store(), src)
	}
	w.spoil(t, secrets)
	for what, src := range sources {
		s := store()
		_, rerr := s.Resolve(t.Context(), src)
		_, ferr := s.Fetch(t.Context(), src, pins[what])
		for _, err := range []error{rerr, ferr} {
			if err == nil || reasonOf(t, err) != w.want {
				t.Errorf("%s: error %v, want one for %s", what, err, w.want)
			} else if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "PRIVATE KEY") || strings.Contains(err.Error(), "-----") {
				t.Errorf("%s: the error tells a secret: %v", what, err)
			}
		}
	}
}

func TestCertFilesAreRotated(t *testing.T) {
	content := newTeam(t)
	r := distribution.New(t, distribution.Options{ClientCA: true})
	g := guarded{host: r.Host(), ca: r.CA, cert: r.Client, key: r.ClientKey}
	content.copyTo(t, g)
	w := g.byTLSFiles(t)
	src := content.sources(t, "oci://"+g.host+"/team/app", w.set)["a bundle"]
	s := newStore(t)
	good := fetch(t, s, src)
	later := func(n int) { // file systems count time coarsely
		for _, path := range []string{src.Spec.CertFiles.CA, src.Spec.CertFiles.Cert, src.Spec.CertFiles.Key} {
			if err := os.Chtimes(path, time.Now(), time.Now().Add(time.Duration(n)*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.spoil(t, nil)
	later(1)
	if _, err := s.Resolve(t.Context(), src); err == nil || reasonOf(t, err) != deploy.SourceNetwork {
		t.Errorf("with the files of another registry: %v", err)
	}
	writeFile(t, src.Spec.CertFiles.CA, g.ca)
	later(2)
	if pin := resolve(t, s, src); pin.Digest != good.Digest {
		t.Errorf("pin %+v", pin)
	}
	if err := os.Remove(src.Spec.CertFiles.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), src); err == nil || reasonOf(t, err) != deploy.SourceNoCredentials || !strings.Contains(err.Error(), "tls.key") {
		t.Errorf("without the key: %v", err)
	}
}

func TestClockThatIsSlow(t *testing.T) {
	t.Run("the registry's certificate begins in the future", func(t *testing.T) {
		r := distribution.New(t, distribution.Options{TLS: true, NotBefore: time.Now().Add(30 * time.Minute), NotAfter: time.Now().Add(time.Hour)})
		w := guarded{host: r.Host(), ca: r.CA}.byTLSFiles(t)
		_, err := newStore(t).Resolve(t.Context(), source("oci://"+r.Host()+"/team/app", deploy.Ref{Tag: "v1"}, w.set))
		if err == nil || reasonOf(t, err) != deploy.SourceNotYetValid || !strings.Contains(err.Error(), "set the clock") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("the signer's certificate begins in the future", func(t *testing.T) {
		r := testenv.NewRegistry(t)
		digest := r.PushFiles("apps/web", "v1", files, nil)
		tomorrow := time.Now().Add(24 * time.Hour)
		k := &team{from: r, key: signing.KeyPair(t), notation: signing.NewNotationKey(t, "early", tomorrow, tomorrow.Add(time.Hour))}
		signing.NotationSignAt(t, k.notation, r.Host()+"/apps/web@"+digest, tomorrow.Add(time.Minute), time.Time{})
		src := k.sources(t, r.URL("apps/web"), func(*deploy.SourceSpec) {})["a Notation signature"]
		s := newStore(t)
		pin := resolve(t, s, src)
		r.Reset()
		_, err := s.Fetch(t.Context(), src, pin)
		if err == nil || reasonOf(t, err) != deploy.SourceNotYetValid || layerRequests(r, digest) != 0 {
			t.Errorf("error %v, requests %v", err, asked(r))
		}
	})
}
