package notify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/towline/towline/internal/deploy"
)

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loaded is what an account says, in a line.
func loaded(t *testing.T, a *account) string {
	t.Helper()
	address, token, err := a.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return address + " " + token
}

func TestAccountFiles(t *testing.T) {
	t.Run("are read each time, also below $CREDENTIALS_DIRECTORY", func(t *testing.T) {
		dir := t.TempDir()
		t.Setenv("CREDENTIALS_DIRECTORY", dir)
		write(t, filepath.Join(dir, "token"), "one\n")
		a := &account{sink: deploy.Sink{Spec: deploy.SinkSpec{
			AddressFile: write(t, filepath.Join(t.TempDir(), "address"), "  https://a.example/x\n"), TokenFile: "token",
		}}}
		if diff := cmp.Diff("https://a.example/x one", loaded(t, a)); diff != "" {
			t.Error(diff)
		}
		write(t, filepath.Join(dir, "token"), "two")
		if diff := cmp.Diff("https://a.example/x two", loaded(t, a)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a Secret comes before them", func(t *testing.T) {
		a := &account{
			sink:   deploy.Sink{Spec: deploy.SinkSpec{SecretRef: &deploy.LocalRef{Name: "alerts"}, Address: "https://config.example"}},
			secret: tokens,
		}
		if diff := cmp.Diff("https://config.example "+canary, loaded(t, a)); diff != "" {
			t.Error(diff)
		}
	})
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	for name, c := range map[string]struct{ path, want string }{
		"that are not there are named":          {filepath.Join(dir, "none"), "addressFile: stat " + filepath.Join(dir, "none")},
		"that are empty are no address":         {write(t, filepath.Join(dir, "empty"), " \n"), "is empty"},
		"that are too long are not read":        {write(t, filepath.Join(dir, "long"), strings.Repeat("x", maxCredential+1)), "is longer than"},
		"that are pipes are not waited for":     {pipe, "is no regular file"},
		"of a service that systemd did not run": {"token", "there is no CREDENTIALS_DIRECTORY"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &account{sink: deploy.Sink{Spec: deploy.SinkSpec{AddressFile: c.path}}}
			if _, _, err := a.load(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// vault is a Secret that changes, and is counted when it is read.
type vault struct {
	data  map[string][]byte
	err   error
	reads int
}

func (v *vault) read(context.Context, string, string) (map[string][]byte, error) {
	v.reads++
	return v.data, v.err
}

func TestAccountSecret(t *testing.T) {
	v := &vault{}
	fresh := func() *account {
		*v = vault{data: map[string][]byte{"address": []byte("https://a.example\n"), "token": []byte("one")}}
		return &account{sink: deploy.Sink{Namespace: "default", Spec: deploy.SinkSpec{SecretRef: &deploy.LocalRef{Name: "alerts"}}}, secret: v.read}
	}
	expect := func(t *testing.T, a *account, want string, reads int) {
		t.Helper()
		if diff := cmp.Diff(want, loaded(t, a)); diff != "" {
			t.Error(diff)
		}
		if v.reads != reads {
			t.Errorf("read %d times, want %d", v.reads, reads)
		}
	}
	refusal := func(t *testing.T, a *account, want string) {
		t.Helper()
		if _, _, err := a.load(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	t.Run("is read once a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := fresh()
			expect(t, a, "https://a.example one", 1)
			v.data = map[string][]byte{"address": []byte("https://b.example")}
			expect(t, a, "https://a.example one", 1)
			time.Sleep(secretAge)
			expect(t, a, "https://b.example ", 2)
		})
	})
	t.Run("is read again when it did not work", func(t *testing.T) {
		a := fresh()
		expect(t, a, "https://a.example one", 1)
		v.data["token"] = []byte("two")
		a.forget()
		expect(t, a, "https://a.example two", 2)
	})
	t.Run("is used on while the API server does not answer, and asked for once a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := fresh()
			expect(t, a, "https://a.example one", 1)
			v.err = errors.New("connection refused")
			a.forget()
			expect(t, a, "https://a.example one", 2)
			expect(t, a, "https://a.example one", 2)
			time.Sleep(secretAge)
			expect(t, a, "https://a.example one", 3)
		})
	})
	for name, gone := range map[string]error{
		"is not used any more when it is gone":       apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "alerts"),
		"is not used any more when there is no such": fmt.Errorf("Secret default/alerts: %w", fs.ErrNotExist),
		"is not used any more when we may not do so": apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "alerts", nil),
	} {
		t.Run(name, func(t *testing.T) {
			a := fresh()
			expect(t, a, "https://a.example one", 1)
			v.err = gone
			a.forget()
			refusal(t, a, "read Secret default/alerts")
			v.err = errors.New("connection refused")
			refusal(t, a, "connection refused")
		})
	}
	t.Run("an API server that never answered is waited for, a Secret that is not there is not", func(t *testing.T) {
		a := fresh()
		v.err = errors.New("connection refused")
		if _, _, err := a.load(t.Context()); !errors.As(err, new(unreached)) {
			t.Errorf("got %v", err)
		}
		v.err = apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "alerts")
		if _, _, err := a.load(t.Context()); err == nil || errors.As(err, new(unreached)) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("one without our keys is no Secret for alerts", func(t *testing.T) {
		a := fresh()
		v.data = map[string][]byte{"url": []byte("https://a.example")}
		refusal(t, a, "the Secret default/alerts has neither of the keys address and token")
	})
	t.Run("without an address there is no account", func(t *testing.T) {
		a := fresh()
		delete(v.data, "address")
		refusal(t, a, "the sink has no address")
	})
	t.Run("without a cluster there is no Secret", func(t *testing.T) {
		a := fresh()
		a.secret = nil
		refusal(t, a, "there is no cluster to read it from")
	})
}
