package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
)

func TestPKI(t *testing.T) {
	dir := t.TempDir()
	keys, err := newPKI(dir)
	must(t, err)

	t.Run("the apiserver's certificate is valid for every name by which it is called", func(t *testing.T) {
		for _, name := range []string{"127.0.0.1", "localhost", "10.96.0.1", "kubernetes.default.svc"} {
			_, err := parse(t, keys.serving).Verify(x509.VerifyOptions{DNSName: name, Roots: pool(t, keys.ca)})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("clients are who the authorizer expects", func(t *testing.T) {
		type identity struct {
			User   string
			Groups []string
		}
		got := map[string]identity{}
		for name, pair := range map[string]keyPair{"admin": keys.admin, "controllers": keys.controllers, "scheduler": keys.scheduler} {
			cert := parse(t, pair)
			if _, err := cert.Verify(x509.VerifyOptions{Roots: pool(t, keys.ca), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			got[name] = identity{cert.Subject.CommonName, cert.Subject.Organization}
		}
		want := map[string]identity{
			"admin":       {"towline-test-admin", []string{"system:masters"}},
			"controllers": {"system:kube-controller-manager", nil},
			"scheduler":   {"system:kube-scheduler", nil},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("identities (-want +got):\n%s", diff)
		}
	})
	t.Run("an ordinary client can't pass for the aggregator", func(t *testing.T) {
		_, err := parse(t, keys.admin).Verify(x509.VerifyOptions{
			Roots: pool(t, keys.frontProxyCA), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if err == nil {
			t.Error("the administrator's certificate is accepted by the front proxy's authority")
		}
	})
	t.Run("the files are the owner's only and the pairs match", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		must(t, err)
		if len(files) == 0 {
			t.Fatal("no files")
		}
		for _, file := range files {
			info, err := os.Stat(file)
			must(t, err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", file, info.Mode())
			}
		}
		for _, name := range []string{"serving", "front-proxy", "ca"} {
			if _, err := tls.LoadX509KeyPair(keys.path(name+".crt"), keys.path(name+".key")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("the kubeconfig needs no other file and leads to the apiserver", func(t *testing.T) {
		content, err := kubeconfig(4321, keys, keys.admin)
		must(t, err)
		file := filepath.Join(t.TempDir(), "kubeconfig")
		must(t, writeAtomically(file, content))
		config, err := clientcmd.BuildConfigFromFlags("", file)
		must(t, err)
		if config.Host != "https://127.0.0.1:4321" {
			t.Errorf("host = %q", config.Host)
		}
		if diff := cmp.Diff(string(keys.ca.cert), string(config.CAData)); diff != "" {
			t.Errorf("authority (-want +got):\n%s", diff)
		}
		_, err = tls.X509KeyPair(config.CertData, config.KeyData)
		must(t, err)
	})
}

func TestWriteAtomically(t *testing.T) {
	t.Run("replaces the file, for its owner only, and leaves nothing else", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "kubeconfig")
		must(t, os.WriteFile(file, []byte("old and longer"), 0o644))
		must(t, writeAtomically(file, []byte("new")))
		content, err := os.ReadFile(file)
		must(t, err)
		info, err := os.Stat(file)
		must(t, err)
		if string(content) != "new" || info.Mode().Perm() != 0o600 {
			t.Errorf("content %q, mode %v", content, info.Mode())
		}
		entries, err := os.ReadDir(dir)
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("entries: %v", entries)
		}
	})
	t.Run("leaves nothing when the file can't be replaced", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, "kubeconfig", "in-the-way"), 0o700))
		if err := writeAtomically(filepath.Join(dir, "kubeconfig"), []byte("new")); err == nil {
			t.Error("no error")
		}
		entries, err := os.ReadDir(dir)
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("entries: %v", entries)
		}
	})
}

func parse(t *testing.T, pair keyPair) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(pair.cert)
	if block == nil {
		t.Fatal("no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}

func pool(t *testing.T, ca *authority) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ca.parsed)
	return roots
}
