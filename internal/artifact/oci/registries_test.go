package oci_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/goleak"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/distribution"
)

const user, password = "robot", "hunter2" // the password must be in no error

func TestMain(m *testing.M) {
	// The second registry never ends its notifier.
	// Servers wait half a second for a client's last words after an answer that was cut.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"),
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// newClient is a client that leaves no connection behind.
func newClient(t *testing.T) *oci.Client {
	t.Helper()
	base := oci.NewTransport()
	base.Proxy = nil
	c := oci.New(base, "test")
	t.Cleanup(func() {
		c.Close()
		base.CloseIdleConnections()
	})
	return c
}

// access is a repository at a host.
func access(t *testing.T, host string, conf authn.AuthConfig, route oci.Route) oci.Access {
	t.Helper()
	repo, err := name.NewRepository(host + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	return oci.Access{
		Repo:  repo,
		Login: func(context.Context) (authn.Authenticator, error) { return authn.FromConfig(conf), nil },
		Route: func(context.Context) (oci.Route, error) { return route, nil },
	}
}

func hashOf(raw []byte) v1.Hash {
	sum := sha256.Sum256(raw)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func blobOf(mediaType string, raw []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: hashOf(raw), Size: int64(len(raw))}
}

func opens(raw []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// push puts an artifact of one layer, with a subject where one is given, and returns its manifest.
func push(t *testing.T, r *oci.Repository, reference string, layer []byte, subject *v1.Descriptor) v1.Descriptor {
	t.Helper()
	config := []byte("{}")
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: blobOf("application/vnd.test.config", config),
		Layers: []v1.Descriptor{blobOf("application/vnd.test.layer", layer)}, Subject: subject,
	}
	must(t, r.PutBlob(t.Context(), m.Config, opens(config)))
	must(t, r.PutBlob(t.Context(), m.Layers[0], opens(layer)))
	raw, err := json.Marshal(m)
	must(t, err)
	d := blobOf(string(types.OCIManifestSchema1), raw)
	if reference == "" {
		reference = d.Digest.String()
	}
	must(t, r.PutManifest(t.Context(), string(d.MediaType), raw, reference))
	return d
}

// counter is what both registries tell about the requests that they got.
type counter interface {
	Host() string
	Count(method, text string) int
	Reset()
}

// exercise does everything that a repository can.
func exercise(t *testing.T, c *oci.Client, a oci.Access, reg counter) {
	ctx, r := t.Context(), c.Repository(a)
	layer := bytes.Repeat([]byte("towline "), 200_000)
	want := push(t, r, "v1", layer, nil)
	push(t, r, "v2", []byte("other"), nil)

	digest, err := r.Digest(ctx, "v1")
	if err != nil || digest != want.Digest.String() {
		t.Fatalf("digest %s, error %v, want %s", digest, err, want.Digest)
	}
	raw, err := r.Manifest(ctx, digest)
	if err != nil || hashOf(raw) != want.Digest {
		t.Fatalf("manifest %s, error %v", raw, err)
	}
	var got bytes.Buffer
	if err := r.Blob(ctx, blobOf("", layer), &got); err != nil || !bytes.Equal(got.Bytes(), layer) {
		t.Fatalf("%d bytes of the blob, error %v", got.Len(), err)
	}
	tags, err := r.Tags(ctx)
	slices.Sort(tags)
	if d := cmp.Diff([]string{"v1", "v2"}, tags); d != "" || err != nil {
		t.Fatalf("error %v; tags (-want +got):\n%s", err, d)
	}
	if none, err := r.Referrers(ctx, digest); err != nil || len(none) > 0 {
		t.Fatalf("referrers %v, error %v, want none", none, err)
	}
	for _, of := range []string{"a signature", "an attestation"} {
		signature := push(t, r, "", []byte(of), &want)
		all, err := r.Referrers(ctx, digest)
		if err != nil || !slices.ContainsFunc(all, func(d v1.Descriptor) bool {
			return d.Digest == signature.Digest && d.Size == signature.Size && d.ArtifactType == "application/vnd.test.config"
		}) {
			t.Fatalf("referrers %v, error %v, want %s among them", all, err, signature.Digest)
		}
	}
	if all, err := r.Referrers(ctx, digest); err != nil || len(all) != 2 {
		t.Fatalf("referrers %v, error %v, want both", all, err)
	}
	if _, err := r.Digest(ctx, "v9"); !errors.Is(err, oci.ErrNotFound) {
		t.Fatalf("error %v, want not found", err)
	}
	nothing := hashOf([]byte("nothing"))
	if _, err := r.Manifest(ctx, nothing.String()); !errors.Is(err, oci.ErrNotFound) {
		t.Fatalf("error %v, want not found", err)
	}
	if err := r.Blob(ctx, v1.Descriptor{Digest: nothing, Size: 7}, io.Discard); !errors.Is(err, oci.ErrNotFound) {
		t.Fatalf("error %v, want not found", err)
	}

	reg.Reset()
	if _, err := r.Digest(ctx, "v1"); err != nil || reg.Count("", "") != 1 || reg.Count(http.MethodHead, "/manifests/v1") != 1 {
		t.Errorf("an unchanged tag took %d requests, error %v, want one HEAD", reg.Count("", ""), err)
	}
	reg.Reset()
	must(t, r.PutBlob(ctx, blobOf("", layer), func() (io.ReadCloser, error) { return nil, errors.New("must not be read") }))
	if reg.Count("", "") != 1 {
		t.Errorf("a blob that is there took %d requests, want one HEAD", reg.Count("", ""))
	}
}

func TestEveryWayIn(t *testing.T) {
	login := authn.AuthConfig{Username: user, Password: password}
	owner := &distribution.Credentials{User: user, Password: password}
	plain := func(prepare func(*testenv.Registry)) func(t *testing.T) (counter, oci.Route) {
		return func(t *testing.T) (counter, oci.Route) {
			reg := testenv.NewRegistry(t)
			prepare(reg)
			return reg, oci.Route{}
		}
	}
	second := func(o distribution.Options) func(t *testing.T) (counter, oci.Route) {
		return func(t *testing.T) (counter, oci.Route) {
			reg := distribution.New(t, o)
			return reg, oci.Route{CA: reg.CA, Cert: reg.Client, Key: reg.ClientKey}
		}
	}
	cases := []struct {
		name  string
		start func(t *testing.T) (counter, oci.Route)
	}{
		{"open", plain(func(*testenv.Registry) {})},
		{"basic", plain(func(r *testenv.Registry) { r.RequireAuth(user, password) })},
		{"token", plain(func(r *testenv.Registry) { r.RequireToken(user, password) })},
		{"second registry, open", second(distribution.Options{})},
		{"second registry, TLS", second(distribution.Options{TLS: true})},
		{"second registry, client certificate", second(distribution.Options{ClientCA: true})},
		{"second registry, basic", second(distribution.Options{Basic: owner})},
		{"second registry, token", second(distribution.Options{Token: owner})},
		{"second registry, client certificate and token", second(distribution.Options{ClientCA: true, Token: owner})},
		{"second registry, TLS and basic", second(distribution.Options{TLS: true, Basic: owner})},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			reg, route := c.start(t)
			exercise(t, newClient(t), access(t, reg.Host(), login, route), reg)
		})
		t.Run(c.name+", through a proxy", func(t *testing.T) {
			reg, route := c.start(t)
			proxy := testenv.NewProxy(t, "proxy user", "p@ss/"+password)
			route.Proxy = proxy.URL("proxy user", "p@ss/"+password)
			exercise(t, newClient(t), access(t, reg.Host(), login, route), reg)
			seen := proxy.Requests()
			if len(seen) == 0 {
				t.Error("the proxy saw nothing")
			}
			for _, q := range seen {
				if q.Refused || route.CA != nil && q.Method != http.MethodConnect {
					t.Errorf("the proxy saw %+v", q)
				}
			}
		})
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	owner := &distribution.Credentials{User: user, Password: password}
	good := authn.AuthConfig{Username: user, Password: password}
	bad := authn.AuthConfig{Username: user, Password: password + "!"}
	other := distribution.New(t, distribution.Options{ClientCA: true})
	cases := []struct {
		name    string
		options distribution.Options
		login   authn.AuthConfig
		route   func(*distribution.Registry) oci.Route
		want    error
		says    string
	}{
		{"a wrong password", distribution.Options{Basic: owner}, bad, nil, oci.ErrUnauthorized, "401"},
		{"a wrong password at the token service", distribution.Options{Token: owner}, bad, nil, oci.ErrUnauthorized, "get a token: the registry answered 401"},
		{"an unknown authority", distribution.Options{TLS: true}, good, nil, oci.ErrNetwork, "set certSecretRef or certFiles"},
		{"another authority", distribution.Options{TLS: true}, good, func(*distribution.Registry) oci.Route {
			return oci.Route{CA: other.CA}
		}, oci.ErrNetwork, "set certSecretRef or certFiles"},
		{"no client certificate", distribution.Options{ClientCA: true}, good, trusting, oci.ErrNetwork, "tls.crt and tls.key"},
		{"another's client certificate", distribution.Options{ClientCA: true}, good, func(r *distribution.Registry) oci.Route {
			return oci.Route{CA: r.CA, Cert: other.Client, Key: other.ClientKey}
		}, oci.ErrNetwork, "tls.crt and tls.key"},
		{
			"a certificate of tomorrow", distribution.Options{TLS: true, NotBefore: tomorrow, NotAfter: tomorrow.AddDate(1, 0, 0)},
			good, trusting, oci.ErrClock, "set the clock",
		},
		{
			"a certificate of yesterday", distribution.Options{TLS: true, NotBefore: yesterday.AddDate(-1, 0, 0), NotAfter: yesterday},
			good, trusting, oci.ErrNetwork, "renew it, or set the clock",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			reg := distribution.New(t, c.options)
			var route oci.Route
			if c.route != nil {
				route = c.route(reg)
			}
			_, err := newClient(t).Repository(access(t, reg.Host(), c.login, route)).Digest(t.Context(), "v1")
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), password) {
				t.Errorf("error %v, want %v that says %q", err, c.want, c.says)
			}
		})
	}
	for _, options := range []distribution.Options{{}, {TLS: true}} {
		t.Run("a proxy that wants other credentials", func(t *testing.T) {
			reg, proxy := distribution.New(t, options), testenv.NewProxy(t, "proxy", password)
			_, err := newClient(t).Repository(access(t, reg.Host(), good, oci.Route{CA: reg.CA, Proxy: proxy.URL("proxy", password+"!")})).Digest(t.Context(), "v1")
			if !errors.Is(err, oci.ErrUnauthorized) || !strings.Contains(err.Error(), "proxySecretRef") || strings.Contains(err.Error(), password) {
				t.Errorf("error %v, want one that names proxySecretRef", err)
			}
		})
		t.Run("a proxy that is not there", func(t *testing.T) {
			reg := distribution.New(t, options)
			gone := &url.URL{Scheme: "http", Host: "127.0.0.1:1", User: url.UserPassword("proxy", password)}
			_, err := newClient(t).Repository(access(t, reg.Host(), good, oci.Route{CA: reg.CA, Proxy: gone})).Digest(t.Context(), "v1")
			if !errors.Is(err, oci.ErrNetwork) || strings.Contains(err.Error(), password) {
				t.Errorf("error %v, want a network error", err)
			}
		})
	}
}

var tomorrow, yesterday = time.Now().AddDate(0, 0, 1), time.Now().AddDate(0, 0, -1)

func trusting(r *distribution.Registry) oci.Route { return oci.Route{CA: r.CA} }
