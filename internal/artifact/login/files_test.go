package login

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
)

// write makes a file in a fresh folder or, with a full path, there.
func write(t *testing.T, path, content string) string {
	t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(t.TempDir(), path)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFiles(t *testing.T) {
	const secret = "canary-secret"
	tests := map[string]struct {
		paths Paths
		want  authn.AuthConfig
		err   string
	}{
		"username and password are basic, without their newlines": {
			paths: Paths{Username: write(t, "u", "robot\n"), Password: write(t, "p", secret+"\r\n")},
			want:  authn.AuthConfig{Username: "robot", Password: secret},
		},
		"a token is a bearer token":        {paths: Paths{Token: write(t, "t", secret+"\n")}, want: authn.AuthConfig{RegistryToken: secret}},
		"a file of a newline is empty":     {paths: Paths{Token: write(t, "t", "\n")}, err: "is empty"},
		"an empty file is an error":        {paths: Paths{Token: write(t, "t", "")}, err: "is empty"},
		"two lines are no token":           {paths: Paths{Token: write(t, "t", secret+"\n"+secret)}, err: "more than one line"},
		"a user's name has no colon":       {paths: Paths{Username: write(t, "u", secret+":"), Password: write(t, "p", "x")}, err: "holds a colon"},
		"a file over 1 MiB is refused":     {paths: Paths{Token: write(t, "t", strings.Repeat(secret, maxFile/len(secret)+1))}, err: "larger than 1 MiB"},
		"a missing file is named":          {paths: Paths{Token: "/nowhere/token"}, err: "/nowhere/token does not exist"},
		"a folder is no file":              {paths: Paths{Token: t.TempDir()}, err: "not a regular file"},
		"a password alone is not enough":   {paths: Paths{Password: write(t, "p", secret)}, err: "username and password"},
		"two kinds at once are refused":    {paths: Paths{Token: write(t, "t", secret), DockerConfig: "/x"}, err: "dockerConfig, or token, or"},
		"nothing at all is refused":        {err: "dockerConfig, or token, or"},
		"a docker config that is none":     {paths: Paths{DockerConfig: write(t, "c", secret)}, err: "not a docker config"},
		"a docker config without anything": {paths: Paths{DockerConfig: write(t, "c", "{}")}, err: "it has no auths, credHelpers or credsStore"},
		"a docker config's longest path wins": {
			paths: Paths{DockerConfig: write(t, "c", `{"auths": {
				"r.example.com": {"username": "a", "password": "b"}, "r.example.com/team": {"username": "t", "password": "canary-secret"}
			}}`)},
			want: authn.AuthConfig{Username: "t", Password: secret},
		},
		"a docker config is anonymous elsewhere": {paths: Paths{DockerConfig: write(t, "c", `{"auths": {"other.example.com": {"username": "a", "password": "b"}}}`)}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := resolve(t, Files(tt.paths), "r.example.com/team/app")
			if tt.err == "" {
				got.Auth = "" // the same in base64
				if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
					t.Errorf("%v\n%s", err, diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q quotes the content", err)
			}
		})
	}
}

func TestReadFile(t *testing.T) {
	t.Run("a relative path is below the credentials directory", func(t *testing.T) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "key"), "k")
		t.Setenv(credentialsDirectory, dir)
		if got, err := ReadFile("key"); err != nil || string(got) != "k" {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := ReadFile("../key"); err == nil || !strings.Contains(err.Error(), "leads out of") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("without that directory a relative path is an error that says so", func(t *testing.T) {
		t.Setenv(credentialsDirectory, "")
		if _, err := ReadFile("key"); err == nil || !strings.Contains(err.Error(), "$CREDENTIALS_DIRECTORY, which is not set") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a named pipe does not hold the reader", func(t *testing.T) {
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFile(pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("what may not be read is told with the user", func(t *testing.T) {
		err := unreadable("/x", &fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES})
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "may not be read by the agent's user") {
			t.Errorf("got %v", err)
		}
	})
}

func TestFingerprintFollowsTheFiles(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "..data")
	for _, v := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, v), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, v, "token"), v)
	}
	swap := func(to string) {
		t.Helper()
		if err := os.Symlink(to, link+"_tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+"_tmp", link); err != nil {
			t.Fatal(err)
		}
	}
	swap("v1")
	k := Files(Paths{Token: filepath.Join(link, "token")})
	last := k.Fingerprint()
	changed := func(t *testing.T, want string) {
		t.Helper()
		now := k.Fingerprint()
		if now == last {
			t.Error("the fingerprint is the old one")
		}
		last = now
		if got, err := resolve(t, k, "r.example.com/app"); want != "" && (err != nil || got.RegistryToken != want) {
			t.Errorf("got %q, %v", got.RegistryToken, err)
		}
	}
	t.Run("it stays while nothing changes", func(t *testing.T) {
		if now := k.Fingerprint(); now != last {
			t.Errorf("%q, then %q", last, now)
		}
	})
	t.Run("a swapped symlink is a change", func(t *testing.T) { swap("v2"); changed(t, "v2") })
	t.Run("a written file is a change", func(t *testing.T) { write(t, filepath.Join(dir, "v2", "token"), "longer"); changed(t, "longer") })
	t.Run("a replaced file of the same size and time is a change", func(t *testing.T) {
		path := filepath.Join(dir, "v2", "token")
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path+".new", "longed")
		if err := os.Chtimes(path+".new", info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		changed(t, "longed")
	})
	t.Run("a removed file is a change", func(t *testing.T) {
		if err := os.Remove(filepath.Join(dir, "v2", "token")); err != nil {
			t.Fatal(err)
		}
		changed(t, "")
	})
}
