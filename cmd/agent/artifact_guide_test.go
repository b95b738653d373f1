package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/testenv"
)

// block finds the fenced blocks of a guide.
var block = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// TestPublishingGuide runs every command of the guide, as one script, and loads its config.
func TestPublishingGuide(t *testing.T) {
	root, err := testenv.Root()
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile(filepath.Join(root, "docs", "publishing.md"))
	if err != nil {
		t.Fatal(err)
	}
	agent, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	registry := testenv.NewRegistry(t)
	work := t.TempDir()
	if err := os.Symlink(agent, filepath.Join(work, "towline")); err != nil {
		t.Fatal(err)
	}
	var script []string
	for _, b := range block.FindAllStringSubmatch(string(guide), -1) {
		switch b[1] {
		case "sh":
			script = append(script, b[2])
		case "yaml":
			path := filepath.Join(work, "config.yaml")
			if err := os.WriteFile(path, []byte(b[2]), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(path); err != nil {
				t.Errorf("the config of the guide: %v", err)
			}
		default:
			t.Errorf("a block of %s: nothing runs it", b[1])
		}
	}
	if len(script) < 8 {
		t.Fatalf("%d blocks of commands", len(script))
	}
	cmd := exec.Command("bash", "-euxo", "pipefail", "-c", strings.ReplaceAll(strings.Join(script, "\n"), "registry.example.org", registry.Host()))
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PATH="+work+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+work, "DOCKER_CONFIG="+work, "NO_COLOR=1", "TOWLINE_REGISTRY_CREDS=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"web:stable and ./deploy differ: 0 added, 0 removed, 1 changed", "+  farewell: goodbye", "REVISION", "@sha1:"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands did not print %q:\n%s", want, out)
		}
	}
}
