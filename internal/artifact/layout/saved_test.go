package layout

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

// TestWhatCosignSaves reads what the cosign command itself writes: the artifact, and its signature in cosign's older form.
func TestWhatCosignSaves(t *testing.T) {
	r := testenv.NewRegistry(t)
	digest := r.PushFiles("apps/web", "v1", map[string]string{"a.yaml": "a: 1"}, nil)
	ref := r.Host() + "/apps/web@" + digest
	signing.SignLegacy(t, signing.KeyPair(t), ref)
	dir := filepath.Join(t.TempDir(), "saved")
	cmd := exec.CommandContext(t.Context(), signing.Cosign(t), "save", "--allow-http-registry", "--dir", dir, r.Host()+"/apps/web:v1")
	cmd.Env = []string{"HOME=" + t.TempDir(), "TUF_MIRROR=http://127.0.0.1:1"}
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	l, err := Open(dir)
	must(t, err)
	// It keeps no tag: the one artifact that there is is what a source without a tag follows.
	if got, err := l.Digest(t.Context(), defaultTag); got != digest || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	signature, err := l.Digest(t.Context(), strings.Replace(digest, ":", "-", 1)+".sig")
	must(t, err)
	if _, err := l.Manifest(t.Context(), signature); err != nil {
		t.Error(err)
	}
}
