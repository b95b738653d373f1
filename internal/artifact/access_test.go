package artifact_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// cluster is Secrets by name, and what a service account names.
type cluster struct {
	secrets map[string]map[string][]byte
	pull    []string
}

func (c cluster) Secret(_ context.Context, namespace, name string) (map[string][]byte, error) {
	if data, ok := c.secrets[namespace+"/"+name]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("secret %s/%s: %w", namespace, name, fs.ErrNotExist)
}

func (c cluster) PullSecrets(context.Context, string, string) ([]string, error) { return c.pull, nil }

func TestCredentialFiles(t *testing.T) {
	r := testenv.NewRegistry(t)
	r.PushFiles("apps/web", "v1", files, nil)
	r.RequireAuth("robot", "right")
	dir := t.TempDir()
	user, pass := filepath.Join(dir, "user"), filepath.Join(dir, "pass")
	writeFile(t, user, []byte("robot\n"))
	writeFile(t, pass, []byte("hunter2\n"))
	src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) {
		s.CredentialFiles = &deploy.CredentialFiles{Username: user, Password: pass}
	})
	s := newStore(t)
	_, err := s.Resolve(t.Context(), src)
	if err == nil || reasonOf(t, err) != deploy.SourceUnauthorized || !strings.Contains(err.Error(), "credentialFiles") || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("error %v", err)
	}
	t.Run("are read again when they change", func(t *testing.T) {
		writeFile(t, pass, []byte("right\n"))
		resolve(t, s, src)
		r.RequireAuth("robot", "newer")
		writeFile(t, pass, []byte("newer\n"))
		if err := os.Chtimes(pass, time.Now(), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		resolve(t, s, src)
	})
	t.Run("that name no host are not sent to a mirror", func(t *testing.T) {
		near := testenv.NewRegistry(t)
		near.PushFiles("apps/web", "v1", files, nil)
		near.RequireAuth("robot", "newer") // would be let in with them
		src := src
		src.Spec.Mirrors = []string{near.URL("apps/web")}
		fetch(t, newStore(t), src)
		if near.Count("GET", "/blobs/") != 0 || r.Count("GET", "/blobs/") != 1 {
			t.Errorf("url: %v, mirror: %v", asked(r), asked(near))
		}
	})
	t.Run("that are missing are named", func(t *testing.T) {
		src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) {
			s.CredentialFiles = &deploy.CredentialFiles{Token: filepath.Join(dir, "none")}
		})
		_, err := s.Resolve(t.Context(), src)
		if err == nil || reasonOf(t, err) != deploy.SourceNoCredentials || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	})
}

func TestServiceAccount(t *testing.T) {
	r := testenv.NewRegistry(t)
	r.PushFiles("apps/web", "v1", files, nil)
	r.RequireToken("robot", "hunter2")
	s := newStore(t, func(o *artifact.Options) {
		o.Secrets = cluster{
			secrets: map[string]map[string][]byte{
				"apps/elsewhere": {".dockerconfigjson": []byte(dockerConfig("elsewhere.test", "x", "y"))},
				"apps/here":      {".dockerconfigjson": []byte(dockerConfig(r.Host(), "robot", "hunter2"))},
			},
			pull: []string{"elsewhere", "here"},
		}
	})
	src := source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}, func(s *deploy.SourceSpec) { s.ServiceAccountName = "puller" })
	fetch(t, s, src)
	t.Run("adds to the secretRef", func(t *testing.T) {
		src := src
		src.Spec.SecretRef = &deploy.LocalRef{Name: "elsewhere"}
		resolve(t, s, src)
	})
	t.Run("a secret that is missing is an error that names it", func(t *testing.T) {
		src := src
		src.Spec.SecretRef = &deploy.LocalRef{Name: "none"}
		_, err := s.Resolve(t.Context(), src)
		if err == nil || reasonOf(t, err) != deploy.SourceNoCredentials || !strings.Contains(err.Error(), "apps/none") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a provider that is not built in says so", func(t *testing.T) {
		src := src
		src.Spec.Provider = deploy.ProviderAWS
		src.Spec.SecretRef, src.Spec.ServiceAccountName = nil, ""
		_, err := s.Resolve(t.Context(), src)
		if err == nil || reasonOf(t, err) != deploy.SourceNoCredentials || !strings.Contains(err.Error(), "-tags") {
			t.Errorf("error %v", err)
		}
	})
}

func TestCredentialHelperOfTheDockerConfig(t *testing.T) {
	r := testenv.NewRegistry(t)
	r.PushFiles("apps/web", "v1", files, nil)
	r.RequireAuth("robot", "hunter2")
	home := t.TempDir()
	writeFile(t, filepath.Join(home, "config.json"), []byte(`{"credHelpers":{"`+r.Host()+`":"towline-test"}}`))
	helper := filepath.Join(home, "docker-credential-towline-test")
	writeFile(t, helper, []byte("#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"robot\",\"Secret\":\"hunter2\"}'\n"))
	if err := os.Chmod(helper, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", home)
	t.Setenv("PATH", home+string(os.PathListSeparator)+os.Getenv("PATH"))
	fetch(t, newStore(t, func(o *artifact.Options) { o.Keychain = nil }), source(r.URL("apps/web"), deploy.Ref{Tag: "v1"}))
}
