//go:build cloud

package login

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
)

// azureCloud answers for Microsoft's login and for a registry, over TLS behind the proxy of the environment.
var azureCloud atomic.Pointer[http.HandlerFunc]

// The trusted certificates and the proxy are read once in a process's life: they are set before any test.
func init() {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		(*azureCloud.Load())(w, r)
	}))
	cert := must(certificate("login.microsoftonline.com", "team.azurecr.io"))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	dir := must(os.MkdirTemp("", "login"))
	defer os.RemoveAll(dir)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", ca)
	must(x509.SystemCertPool()) // reads it
	proxy := httptest.NewServer(tunnel(server.Listener.Addr().String()))
	os.Setenv("HTTPS_PROXY", proxy.URL)
	os.Setenv("NO_PROXY", "")
	os.Unsetenv("no_proxy")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// certificate is one that signs itself.
func certificate(hosts ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: hosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, err
}

// tunnel is a proxy that leads every connection to one address.
func tunnel(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := net.Dial("tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		fmt.Fprint(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(out, in); out.Close() }()
		_, _ = io.Copy(in, out)
		in.Close()
	}
}

// endpoint is a service of a cloud at a local address.
func endpoint(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// home is an empty one, which must stay so, and no identity of the developer's in the environment.
func home(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for _, v := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN", "AZURE_ENVIRONMENT", "GOOGLE_APPLICATION_CREDENTIALS"} {
		t.Setenv(v, "")
	}
	t.Cleanup(func() {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("left in $HOME: %v, %v", entries, err)
		}
	})
}

func fresh(provider string) *ambient { return newAmbient(ambients[provider].cloud) }

func TestAWS(t *testing.T) {
	const registry = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/app"
	home(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "canary-secret-key")
	var calls atomic.Int32
	refuse := false
	s := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		auth := r.Header.Get("Authorization")
		if refuse || !strings.Contains(auth, "AKIAEXAMPLE/") || !strings.Contains(auth, "/eu-central-1/ecr/") {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"__type": "AccessDeniedException", "message": "no, not with canary-secret-key"}`)
			return
		}
		fmt.Fprintf(w, `{"authorizationData": [{"authorizationToken": %q, "expiresAt": %d, "proxyEndpoint": "https://x"}]}`,
			base64.StdEncoding.EncodeToString([]byte("AWS:ecr-token")), time.Now().Add(12*time.Hour).Unix())
	})
	t.Setenv("AWS_ENDPOINT_URL_ECR", s.URL)
	t.Run("logs in once for many pulls", func(t *testing.T) {
		a := fresh("aws")
		for range 3 {
			want(t, a, registry, authn.AuthConfig{Username: "AWS", Password: "ecr-token"})
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
	t.Run("a refusal is told without secrets", func(t *testing.T) {
		refuse = true
		refused(t, fresh("aws"), registry, "AccessDeniedException")
	})
	t.Run("other hosts get nothing", func(t *testing.T) {
		anonymous(t, fresh("aws"), "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example", "ecr.amazonaws.com", "ghcr.io")
	})
}

func TestGCP(t *testing.T) {
	const registry = "europe-docker.pkg.dev/project/app"
	home(t)
	status := http.StatusOK
	s := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		if !strings.HasSuffix(r.URL.Path, "/service-accounts/default/token") || r.Header.Get("Metadata-Flavor") != "Google" || status != http.StatusOK {
			fmt.Fprint(w, `ya29.canary`)
			return
		}
		fmt.Fprint(w, `{"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"}`)
	})
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(s.URL, "http://"))
	t.Run("logs in at the metadata server", func(t *testing.T) {
		a := fresh("gcp")
		want(t, a, registry, authn.AuthConfig{Username: googleUser, Password: "ya29.token"})
		status = http.StatusForbidden // one token is good for all of its registries
		want(t, a, "gcr.io/project/app", authn.AuthConfig{Username: googleUser, Password: "ya29.token"})
	})
	t.Run("a refusal is told without secrets", func(t *testing.T) { refused(t, fresh("gcp"), registry, "metadata server") })
	t.Run("a file of credentials that is named and missing is told", func(t *testing.T) {
		t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
		refused(t, fresh("gcp"), registry, "/nowhere.json")
	})
	t.Run("other hosts get nothing", func(t *testing.T) {
		anonymous(t, fresh("gcp"), "gcr.io.evil.example", "notgcr.io", "pkg.dev.example.com", "ghcr.io")
	})
}

func TestAzure(t *testing.T) {
	const registry = "team.azurecr.io/app"
	home(t)
	t.Setenv("AZURE_TENANT_ID", "tenant")
	t.Setenv("AZURE_CLIENT_ID", "client")
	t.Setenv("AZURE_CLIENT_SECRET", "canary-secret")
	var calls atomic.Int32
	serve := func(h http.HandlerFunc) { azureCloud.Store(&h) }
	serve(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		switch _ = r.ParseForm(); {
		case r.Host == "login.microsoftonline.com" && r.Form.Get("client_secret") == "canary-secret":
			fmt.Fprintf(w, `{"access_token": "aad", "token_type": "Bearer", "expires_in": "3600", "expires_on": "%d", "not_before": "0"}`,
				time.Now().Add(time.Hour).Unix())
		case r.Host == "team.azurecr.io" && r.URL.Path == "/oauth2/exchange" && r.Form.Get("access_token") == "aad":
			fmt.Fprint(w, `{"refresh_token": "acr-token"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	t.Run("exchanges the identity's token at the registry, once for many pulls", func(t *testing.T) {
		a := fresh("azure")
		for range 3 {
			want(t, a, registry, authn.AuthConfig{IdentityToken: "acr-token"})
		}
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls", n)
		}
	})
	t.Run("a refusal is told without secrets", func(t *testing.T) {
		serve(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error": "invalid_client", "error_description": "canary-secret is wrong"}`)
		})
		refused(t, fresh("azure"), registry, "invalid_client")
	})
	t.Run("other hosts get nothing", func(t *testing.T) {
		anonymous(t, fresh("azure"), "team.azurecr.io.evil.example", "azurecr.io.example.com", "ghcr.io")
	})
}

func TestCloudBuildHasAll(t *testing.T) {
	if diff := cmp.Diff([]string{"aws", "azure", "gcp"}, Providers()); diff != "" {
		t.Error(diff)
	}
	for _, p := range Providers() {
		if k, err := Keychain(p); k == nil || err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func want(t *testing.T, k authn.Keychain, repo string, want authn.AuthConfig) {
	t.Helper()
	got, err := resolve(t, k, repo)
	got.Auth = ""
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func refused(t *testing.T, k authn.Keychain, repo, reason string) {
	t.Helper()
	_, err := resolve(t, k, repo)
	if err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "tried ") {
		t.Fatalf("got %v, want %q", err, reason)
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("%q leaks", err)
	}
}

func anonymous(t *testing.T, k authn.Keychain, hosts ...string) {
	t.Helper()
	for _, host := range hosts {
		if got, err := resolve(t, k, host+"/team/app"); err != nil || got != (authn.AuthConfig{}) {
			t.Errorf("%s: credentials, or %v", host, err)
		}
	}
}
