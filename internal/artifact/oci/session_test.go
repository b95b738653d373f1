package oci_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/distribution"
)

func TestTokens(t *testing.T) {
	reg := testenv.NewRegistry(t)
	reg.RequireToken(user, password)
	a := access(t, reg.Host(), robot, oci.Route{})
	r := newClient(t).Repository(a)
	push(t, r, "v1", []byte("layer"), nil)
	digest := func(t *testing.T) {
		t.Helper()
		if _, err := r.Digest(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
	}
	digest(t)
	t.Run("are used until they are refused", func(t *testing.T) {
		reg.Reset()
		digest(t)
		digest(t)
		if n := reg.Count("", ""); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
	t.Run("a refused one is renewed once", func(t *testing.T) {
		reg.ExpireTokens()
		reg.Reset()
		digest(t)
		if heads, tokens, all := reg.Count(http.MethodHead, ""), reg.Count("", "/token"), reg.Count("", ""); heads != 2 || tokens != 1 || all != 3 {
			t.Errorf("%d HEADs, %d tokens, %d requests, want 2, 1, 3", heads, tokens, all)
		}
	})
	t.Run("many who are refused at once share the new one", func(t *testing.T) {
		reg.ExpireTokens()
		reg.Reset()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := r.Digest(t.Context(), "v1"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := reg.Count("", "/token"); n != 1 {
			t.Errorf("%d tokens, want 1", n)
		}
	})
	t.Run("refusal without end is an error after one renewal", func(t *testing.T) {
		reg.Fail(testenv.Fault{Kind: testenv.FaultStatus, Status: 401, Method: http.MethodHead})
		defer reg.Heal()
		reg.Reset()
		_, err := r.Digest(t.Context(), "v1")
		expect(t, err, oci.ErrUnauthorized)
		if n := reg.Count(http.MethodHead, ""); n > 2 {
			t.Errorf("%d HEADs, want at most 2", n)
		}
	})
}

func TestScopes(t *testing.T) {
	reg := distribution.New(t, distribution.Options{Token: &distribution.Credentials{User: user, Password: password}})
	c := newClient(t)
	r := c.Repository(access(t, reg.Host(), robot, oci.Route{}))
	push(t, r, "v1", []byte("layer"), nil)
	t.Run("reading does not ask for leave to write, although somebody has it", func(t *testing.T) {
		reg.Reset()
		if _, err := r.Digest(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
		if reg.Count("", "/token") != 1 || reg.Count("", "scope=repository%3Ateam%2Fapp%3Apull&") != 1 {
			t.Errorf("requests: %+v", reg.Requests())
		}
	})
	t.Run("writing again takes the login that is there", func(t *testing.T) {
		reg.Reset()
		push(t, r, "v2", []byte("layer"), nil)
		if n := reg.Count("", "/token"); n != 0 {
			t.Errorf("%d tokens, want none", n)
		}
	})
}

func TestChangedMaterial(t *testing.T) {
	reg := testenv.NewRegistry(t)
	reg.RequireAuth(user, "old")
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		must(t, os.WriteFile(file, []byte(password), 0o600))
	}
	write("old")
	lookups := 0
	a := access(t, reg.Host(), robot, oci.Route{})
	a.Login = func(context.Context) (authn.Authenticator, error) {
		lookups++
		raw, err := os.ReadFile(file)
		return &authn.Basic{Username: user, Password: string(raw)}, err
	}
	c := newClient(t)
	push(t, c.Repository(a), "v1", []byte("layer"), nil)

	t.Run("is looked up again after a refusal, and used at once", func(t *testing.T) {
		r := c.Repository(a)
		_, err := r.Digest(t.Context(), "v1")
		must(t, err)
		reg.RequireAuth(user, "new")
		write("new")
		lookups = 0
		if _, err := r.Digest(t.Context(), "v1"); err != nil || lookups != 1 {
			t.Errorf("%d look-ups, error %v", lookups, err)
		}
	})
	t.Run("unchanged, it is not tried twice", func(t *testing.T) {
		reg.RequireAuth(user, "newest")
		reg.Reset()
		_, err := c.Repository(a).Digest(t.Context(), "v1")
		expect(t, err, oci.ErrUnauthorized)
		if n := reg.Count("", ""); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
	t.Run("is used before the next request where its fingerprint says so", func(t *testing.T) {
		mark := "1"
		a.Changed, a.Owner = func() string { return mark }, "files"
		write("newest")
		r := c.Repository(a)
		_, err := r.Digest(t.Context(), "v1")
		must(t, err)
		reg.RequireAuth(user, "last")
		write("last")
		mark = "2"
		reg.Reset()
		if _, err := r.Digest(t.Context(), "v1"); err != nil || reg.Count(http.MethodHead, "") != 1 {
			t.Errorf("%d HEADs, error %v: want one, and it accepted", reg.Count(http.MethodHead, ""), err)
		}
		lookups = 0
		if _, err := r.Digest(t.Context(), "v1"); err != nil || lookups != 0 {
			t.Errorf("%d look-ups, error %v", lookups, err)
		}
	})
}

func TestRoutesAreReadAgainAfterTLSFailures(t *testing.T) {
	first := distribution.New(t, distribution.Options{ClientCA: true})
	other := distribution.New(t, distribution.Options{ClientCA: true})
	route := oci.Route{CA: first.CA, Cert: first.Client, Key: first.ClientKey}
	a := access(t, first.Host(), authn.AuthConfig{}, oci.Route{})
	a.Route = func(context.Context) (oci.Route, error) { return route, nil }
	r := newClient(t).Repository(a)
	push(t, r, "v1", []byte("layer"), nil)

	route = oci.Route{CA: other.CA, Cert: other.Client, Key: other.ClientKey}
	a.Changed = func() string { return "another" }
	_, err := newClient(t).Repository(a).Digest(t.Context(), "v1")
	expect(t, err, oci.ErrNetwork)
	route = oci.Route{CA: first.CA, Cert: first.Client, Key: first.ClientKey}
	if _, err := r.Digest(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
}

func TestRoutesThatCannotBeTaken(t *testing.T) {
	reg := distribution.New(t, distribution.Options{ClientCA: true})
	other := distribution.New(t, distribution.Options{ClientCA: true})
	junk := []byte("-----BEGIN CERTIFICATE-----\n" + "aHVudGVyMg==" + "\n-----END CERTIFICATE-----\n")
	cases := []struct {
		name  string
		route oci.Route
		says  string
	}{
		{"no PEM as CA", oci.Route{CA: []byte(password)}, "ca: no certificate in PEM"},
		{"a CA that is no certificate", oci.Route{CA: append(append([]byte{}, reg.CA...), junk...)}, "ca: certificate 2 cannot be read"},
		{"a certificate without a key", oci.Route{Cert: reg.Client}, "key: missing"},
		{"a key without a certificate", oci.Route{Key: reg.ClientKey}, "cert: missing"},
		{"no PEM as certificate", oci.Route{Cert: []byte(password), Key: reg.ClientKey}, "cert: no certificate in PEM"},
		{"no PEM as key", oci.Route{Cert: reg.Client, Key: []byte(password)}, "key: "},
		{"another's key", oci.Route{Cert: reg.Client, Key: other.ClientKey}, "key: private key does not match"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := newClient(t).Repository(access(t, reg.Host(), robot, c.route)).Digest(t.Context(), "v1")
			expect(t, err, oci.ErrRoute)
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
	if n := len(reg.Requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	t.Run("one that cannot be looked up", func(t *testing.T) {
		a := access(t, reg.Host(), robot, oci.Route{})
		gone := errors.New("the Secret is gone")
		a.Route = func(context.Context) (oci.Route, error) { return oci.Route{}, gone }
		_, err := newClient(t).Repository(a).Digest(t.Context(), "v1")
		expect(t, err, gone)
	})
}

func TestExpiryDuringAnUpload(t *testing.T) {
	reg := testenv.NewRegistry(t)
	reg.RequireToken(user, password)
	r := newClient(t).Repository(access(t, reg.Host(), robot, oci.Route{}))
	push(t, r, "v1", []byte("layer"), nil)
	layer := []byte(strings.Repeat("much ", 100_000))
	opened := 0
	err := r.PutBlob(t.Context(), blobOf("", layer), func() (io.ReadCloser, error) {
		if opened++; opened == 1 {
			reg.ExpireTokens() // between the place and the content
		}
		return opens(layer)()
	})
	if err != nil || opened != 2 {
		t.Fatalf("opened %d times, error %v", opened, err)
	}
	var n counting
	if err := r.Blob(t.Context(), blobOf("", layer), &n); err != nil || int(n) != len(layer) {
		t.Errorf("%d bytes, error %v", n, err)
	}
}

type counting int

func (c *counting) Write(p []byte) (int, error) { *c += counting(len(p)); return len(p), nil }
