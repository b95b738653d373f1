package oci_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/internal/artifact/oci"
)

func TestRedirects(t *testing.T) {
	layer := []byte("a layer that lies elsewhere")
	var refuse atomic.Bool
	var credentials atomic.Value
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		credentials.Store(req.Header.Get("Authorization") + req.Header.Get("Cookie"))
		if refuse.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write(layer)
	}))
	t.Cleanup(elsewhere.Close)
	var authorized atomic.Bool
	host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		authorized.Store(req.Header.Get("Authorization") != "")
		http.Redirect(w, req, elsewhere.URL+"/blob?X-Signature="+password, http.StatusTemporaryRedirect)
	})
	r := newClient(t).Repository(access(t, host, robot, oci.Route{}))
	t.Run("a blob on another host is fetched without credentials", func(t *testing.T) {
		var got bytes.Buffer
		if err := r.Blob(t.Context(), blobOf("", layer), &got); err != nil || !bytes.Equal(got.Bytes(), layer) {
			t.Fatalf("blob %q, error %v", got.Bytes(), err)
		}
		if !authorized.Load() || credentials.Load() != "" {
			t.Errorf("the registry got credentials: %t; the other host got %q", authorized.Load(), credentials.Load())
		}
	})
	t.Run("its refusal does not tell the signed URL", func(t *testing.T) {
		refuse.Store(true)
		expect(t, r.Blob(t.Context(), blobOf("", layer), io.Discard), oci.ErrUnauthorized)
	})
	t.Run("another host that is gone does not tell it either", func(t *testing.T) {
		elsewhere.Close()
		expect(t, r.Blob(t.Context(), blobOf("", layer), io.Discard), oci.ErrNetwork)
	})
	t.Run("going round in circles ends", func(t *testing.T) {
		n := 0
		host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
			n++
			http.Redirect(w, req, req.URL.Path+"?"+strconv.Itoa(n), http.StatusFound)
		})
		expect(t, newClient(t).Repository(access(t, host, robot, oci.Route{})).Blob(t.Context(), blobOf("", layer), io.Discard), oci.ErrNetwork)
		if n > 11 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestWhereRedirectsMayLead(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, "https://169.254.169.254"+req.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(s.Close)
	base := oci.NewTransport()
	t.Cleanup(base.CloseIdleConnections)
	base.Proxy = nil
	base.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) { // registry.test lies here
		if strings.HasPrefix(addr, "169.254.") {
			t.Errorf("%s was dialled", addr)
		}
		var d net.Dialer
		return d.DialContext(ctx, network, strings.TrimPrefix(s.URL, "http://"))
	}
	repo, err := name.NewRepository("registry.test/team/app", name.Insecure)
	must(t, err)
	a := access(t, "registry.test", robot, oci.Route{})
	a.Repo, a.Insecure = repo, true
	_, err = oci.New(base, "test").Repository(a).Digest(t.Context(), "v1")
	expect(t, err, oci.ErrUnavailable)
	if err == nil || !strings.Contains(err.Error(), "refused to follow the registry to 169.254.169.254") {
		t.Errorf("error %v", err)
	}
}

func TestAnEndlessAnswerBehindARedirectIsNotRead(t *testing.T) {
	var sent atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/v2/":
			http.Redirect(w, req, "/welcome", http.StatusFound)
		case "/welcome":
			forever(w, req, "welcome", &sent)
		default:
			w.Header().Set("Docker-Content-Digest", hashOf(nil).String())
		}
	}))
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := newClient(t).Repository(access(t, strings.TrimPrefix(s.URL, "http://"), robot, oci.Route{})).Digest(ctx, "v1")
	if n := sent.Load(); err != nil || n > 48<<20 {
		t.Errorf("%d bytes were taken, error %v", n, err)
	}
}
