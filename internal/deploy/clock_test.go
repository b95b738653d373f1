package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestSuspectClock(t *testing.T) {
	begins := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "api.example.org"}, NotBefore: begins, NotAfter: begins.AddDate(1, 0, 0)}
	invalid := func(c *x509.Certificate) error {
		return fmt.Errorf("get: %w", x509.CertificateInvalidError{Cert: c, Reason: x509.Expired})
	}
	boot := time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		err  error
		now  time.Time
		want string
	}{
		"a certificate that begins after now": {
			invalid(cert), boot,
			`clock suspect: the certificate "CN=api.example.org" begins at 2026-03-01T00:00:00Z, and this machine's clock says 1970-01-01T00:01:00Z: is the clock right?`,
		},
		"a clock that was set between the error and the question": {invalid(cert), begins.Add(time.Hour), "clock suspect"},
		"a certificate that has ended":                            {invalid(cert), begins.AddDate(1, 0, 1), ""},
		"another thing that is wrong with it":                     {x509.CertificateInvalidError{Cert: cert, Reason: x509.NotAuthorizedToSign}, boot, ""},
		"no certificate":                                          {errors.New("connection refused"), boot, ""},
		"nothing":                                                 {nil, boot, ""},
		"one that is known already":                               {fmt.Errorf("apply: %w", NewClockError(cert, boot, nil)), begins.AddDate(2, 0, 0), "says 1970-01-01T00:01:00Z"},
		"a subject that others wrote": {
			invalid(&x509.Certificate{Subject: pkix.Name{CommonName: "a\x1b[31m" + strings.Repeat("x", 200)}, NotBefore: begins, NotAfter: begins.AddDate(1, 0, 0)}), boot, `\x1b[31mxxx`,
		},
		"names in place of a subject": {
			invalid(&x509.Certificate{DNSNames: []string{"a.example.org"}, NotBefore: begins, NotAfter: begins.AddDate(1, 0, 0)}), boot, `"a.example.org"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := SuspectClock(c.err, c.now)
			switch {
			case (got == nil) != (c.want == ""):
				t.Errorf("got %v, want %q", got, c.want)
			case got != nil && (!strings.Contains(got.Error(), c.want) || len(got.Error()) > 400):
				t.Errorf("got %v, want %q", got, c.want)
			}
		})
	}
}

// TestSuspectClockOfAServer is a real server whose certificate begins in an hour.
func TestSuspectClockOfAServer(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "late"}, NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	resp, err := client.Get(server.URL)
	if err == nil {
		_ = resp.Body.Close()
		t.Fatal("the certificate was believed")
	}
	if got := SuspectClock(err, time.Now()); got == nil || got.Certificate != `"CN=late"` || !got.Begins.Equal(cert.NotBefore) {
		t.Errorf("%v is read as %v", err, got)
	}
}
