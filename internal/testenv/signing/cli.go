// Package signing signs artifacts for tests the way that their publishers do: with the cosign and notation commands, and where those need services on the
// internet, with a Fulcio, CT log, Rekor and timestamp authority of its own.
package signing

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// envBin names the folder with the binaries, for tests that run elsewhere.
const envBin = "TOWLINE_BIN"

// Cosign is the path of the cosign command.
func Cosign(t testing.TB) string {
	t.Helper()
	return binary(t, "cosign")
}

// Notation is the path of the notation command.
func Notation(t testing.TB) string {
	t.Helper()
	return binary(t, "notation")
}

// binary looks into $TOWLINE_BIN, or into bin beside the module's go.mod.
func binary(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv(envBin)
	if dir == "" {
		dir = filepath.Join(moduleRoot(t), "bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make bin/%s", err, name)
	}
	return path
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	must(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		t.Fatal("no go.mod above the working directory")
	}
}

// run runs a command to its end in a home of its own, so that nothing of the developer's machine gets in, and fails the test with what it wrote where it fails.
func run(t testing.TB, env []string, path string, args ...string) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Env = append([]string{"HOME=" + home, "XDG_CONFIG_HOME=" + home, "DOCKER_CONFIG=" + home, "PATH=" + os.Getenv("PATH")}, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, out.String())
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
