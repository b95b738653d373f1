package distribution

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

// client trusts the registry's CA and shows its client certificate, if there are any.
func client(t *testing.T, r *Registry) *http.Client {
	t.Helper()
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	conf.RootCAs.AppendCertsFromPEM(r.CA)
	if r.Client != nil {
		pair, err := tls.X509KeyPair(r.Client, r.ClientKey)
		if err != nil {
			t.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	tr := &http.Transport{TLSClientConfig: conf}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// get is the status and body of an answer.
func get(t *testing.T, c *http.Client, url string, sign func(*http.Request)) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	sign(req)
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, body
}

func TestGuards(t *testing.T) {
	nobody := func(*http.Request) {}
	owner := Credentials{"robot", "secret"}
	robot := func(r *http.Request) { r.SetBasicAuth(owner.User, owner.Password) }
	t.Run("a client certificate is demanded", func(t *testing.T) {
		r := New(t, Options{ClientCA: true})
		if status, _ := get(t, client(t, r), "https://"+r.Host()+"/v2/", nobody); status != http.StatusOK {
			t.Errorf("status %d with it", status)
		}
		r.Client = nil
		res, err := client(t, r).Get("https://" + r.Host() + "/v2/") //nolint:noctx // fails at once
		if err == nil {
			_ = res.Body.Close()
			t.Error("it was let in without one")
		}
	})
	t.Run("basic authentication is demanded", func(t *testing.T) {
		r := New(t, Options{Basic: &owner})
		for want, sign := range map[int]func(*http.Request){http.StatusOK: robot, http.StatusUnauthorized: nobody} {
			if status, _ := get(t, client(t, r), "http://"+r.Host()+"/v2/", sign); status != want {
				t.Errorf("status %d, want %d", status, want)
			}
		}
	})
	t.Run("a token opens what it was asked for, and nothing else", func(t *testing.T) {
		r := New(t, Options{Token: &owner})
		c, base := client(t, r), "http://"+r.Host()
		if status, _ := get(t, c, base+"/token?scope=repository:a:pull", nobody); status != http.StatusUnauthorized {
			t.Errorf("status %d for a token without credentials", status)
		}
		_, body := get(t, c, base+"/token?service=registry&scope=repository:a:pull", robot)
		var answer struct{ Token string }
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatal(err)
		}
		bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+answer.Token) }
		for path, want := range map[string]int{"/v2/a/tags/list": http.StatusNotFound, "/v2/b/tags/list": http.StatusUnauthorized} {
			if status, _ := get(t, c, base+path, bearer); status != want {
				t.Errorf("%s: status %d, want %d", path, status, want)
			}
		}
		if n := r.Count(http.MethodGet, "/token"); n != 2 {
			t.Errorf("%d requests for tokens were counted, want 2", n)
		}
	})
}
