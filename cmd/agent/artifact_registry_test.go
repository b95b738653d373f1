package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/testenv/distribution"
)

// TestArtifactsInAnotherRegistry publishes, lists, tags, pulls and compares in the distribution project's registry, however it is guarded.
func TestArtifactsInAnotherRegistry(t *testing.T) {
	agent, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	robot := distribution.Credentials{User: "robot", Password: "sesame"}
	for _, c := range []struct {
		name   string
		guard  distribution.Options
		docker bool // credentials come from the docker config
	}{
		{name: "open"},
		{name: "HTTPS and basic authentication", guard: distribution.Options{TLS: true, Basic: &robot}},
		{name: "client certificates and tokens", guard: distribution.Options{ClientCA: true, Token: &robot}, docker: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := distribution.New(t, c.guard)
			work := t.TempDir()
			var flags []string
			for flag, content := range map[string][]byte{"ca-file": r.CA, "cert-file": r.Client, "key-file": r.ClientKey} {
				if content != nil {
					write(t, filepath.Join(work, flag), content)
					flags = append(flags, "--"+flag, filepath.Join(work, flag))
				}
			}
			env := append(os.Environ(), "DOCKER_CONFIG="+work, "NO_COLOR=1", "TOWLINE_REGISTRY_CREDS=")
			switch {
			case c.docker:
				config, err := json.Marshal(map[string]any{"auths": map[string]any{r.Host(): map[string]string{"username": robot.User, "password": robot.Password}}})
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(work, "config.json"), config)
			case c.guard.Basic != nil:
				env = append(env, "TOWLINE_REGISTRY_CREDS=robot:sesame")
			}
			run := func(args ...string) string {
				t.Helper()
				cmd := exec.Command(agent, append(args, flags...)...)
				cmd.Dir, cmd.Env = work, env
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("towline %s: %v\n%s", strings.Join(args, " "), err, out)
				}
				return string(out)
			}
			write(t, filepath.Join(work, "deploy", "a.yaml"), []byte("kind: ConfigMap\n"))
			url := "oci://" + r.Host() + "/apps/web"
			first := run("push", "artifact", url+":v1", "-f", "deploy", "--reproducible", "-o", "json")
			if again := run("push", "artifact", url+":v1", "-f", "deploy", "--reproducible", "-o", "json"); again != first {
				t.Errorf("pushed again:\n%s\nat first:\n%s", again, first)
			}
			run("tag", "artifact", url+":v1", "--tag", "latest")
			run("push", "artifact", url+":hostile", "-f", "deploy", "--revision", "\x1b]0;title\a\x1b[31m")
			if out := run("list", "artifacts", url) + run("pull", "artifact", url+":hostile", "-o", "hostile"); strings.ContainsAny(out, "\x1b\a") {
				t.Errorf("an annotation steers the terminal: %q", out)
			}
			if list := run("list", "artifacts", url); !strings.Contains(list, ":v1 ") || !strings.Contains(list, ":latest ") {
				t.Errorf("listed:\n%s", list)
			}
			run("pull", "artifact", url, "--output", "out")
			if b, err := os.ReadFile(filepath.Join(work, "out", "a.yaml")); err != nil || string(b) != "kind: ConfigMap\n" {
				t.Errorf("pulled %q, %v", b, err)
			}
			run("diff", "artifact", url, "--path", "out")
			if n := r.Count("POST", "/blobs/uploads/"); n != 2 {
				t.Errorf("%d uploads, want one of the config and one of the layer: equal content is not sent twice", n)
			}
		})
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
