package oci_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/distribution"
)

func TestUploadsThatCannotBeRead(t *testing.T) {
	reg := distribution.New(t, distribution.Options{})
	r := newClient(t).Repository(access(t, reg.Host(), authn.AuthConfig{}, oci.Route{}))
	broken := errors.New("the disk is broken")
	d := v1.Descriptor{Digest: hashOf([]byte("x")), Size: 1 << 20}
	for name, open := range map[string]func() (io.ReadCloser, error){
		"not opened": func() (io.ReadCloser, error) { return nil, broken },
		"not read on": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("begin"), failing{broken})), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := r.PutBlob(t.Context(), d, open); !errors.Is(err, broken) || errors.Is(err, oci.ErrNetwork) {
				t.Errorf("error %v, want what the disk said", err)
			}
		})
	}
	t.Run("a manifest is not stored under a digest that it does not have", func(t *testing.T) {
		if err := r.PutManifest(t.Context(), "application/json", []byte("{}"), d.Digest.String()); err == nil {
			t.Error("no error")
		}
	})
}

// failing is a reader that does nothing else.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestUploadsElsewhere(t *testing.T) {
	layer := []byte("a layer")
	for name, location := range map[string]string{
		"a relative path with a state": "/upload/1?_state=a%2Bb%3D",
		"another host":                 "http://ELSEWHERE/upload/1?_state=a%2Bb%3D",
	} {
		t.Run(name, func(t *testing.T) {
			var got atomic.Value
			put := func(w http.ResponseWriter, req *http.Request) {
				raw, _ := io.ReadAll(req.Body)
				got.Store(fmt.Sprintf("%s %s %s %s %t", req.Method, req.FormValue("_state"), req.FormValue("digest"), raw, req.Header.Get("Authorization") != ""))
				w.WriteHeader(http.StatusCreated)
			}
			elsewhere := hostile(t, put)
			host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
				switch req.Method {
				case http.MethodHead:
					w.WriteHeader(http.StatusNotFound)
				case http.MethodPost:
					w.Header().Set("Location", strings.ReplaceAll(location, "ELSEWHERE", elsewhere))
					w.WriteHeader(http.StatusAccepted)
				default:
					put(w, req)
				}
			})
			must(t, newClient(t).Repository(access(t, host, robot, oci.Route{})).PutBlob(t.Context(), blobOf("", layer), opens(layer)))
			want := fmt.Sprintf("PUT a+b= %s a layer %t", hashOf(layer), !strings.Contains(location, "ELSEWHERE"))
			if got.Load() != want {
				t.Errorf("got %q, want %q", got.Load(), want)
			}
		})
	}
}

func TestAnEarlyRefusalOfAnUploadIsTold(t *testing.T) {
	host := hostile(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.Method {
		case http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case http.MethodPost:
			w.Header().Set("Location", "/upload/1")
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	layer := bytes.Repeat([]byte("layer"), 4<<20)
	file := filepath.Join(t.TempDir(), "layer")
	must(t, os.WriteFile(file, layer, 0o600))
	r := newClient(t).Repository(access(t, host, robot, oci.Route{}))
	err := r.PutBlob(t.Context(), blobOf("", layer), func() (io.ReadCloser, error) { return os.Open(file) })
	expect(t, err, oci.ErrRateLimited)
}

func TestAReferrerWithoutATypeGetsThatOfItsStoring(t *testing.T) {
	reg := testenv.NewRegistry(t)
	reg.RefuseReferrers(true)
	r := newClient(t).Repository(access(t, reg.Host(), authn.AuthConfig{}, oci.Route{}))
	subject := push(t, r, "v1", []byte("layer"), nil)
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Subject: &subject})
	must(t, err)
	raw = bytes.Replace(raw, []byte(`"manifests":null`), []byte(`"manifests":[]`), 1)
	must(t, r.PutManifest(t.Context(), string(types.OCIImageIndex), raw, hashOf(raw).String()))
	all, err := r.Referrers(t.Context(), subject.Digest.String())
	if err != nil || len(all) != 1 || all[0].MediaType != types.OCIImageIndex {
		t.Errorf("referrers %+v, error %v", all, err)
	}
}
