package helm

import (
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// noise is text that cannot be compressed.
func noise(size int) string {
	src := rand.NewChaCha8([32]byte{1})
	b := make([]byte, size*3/4)
	_, _ = src.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

func TestTooBig(t *testing.T) {
	e := newEnv(t)
	group := strings.ReplaceAll(e.ns, "-", "") + ".big.example.org"
	files := map[string]string{
		"crds/ship.yaml": strings.ReplaceAll(shipCRD, "GROUP", group), "templates/small.yaml": configMapNamed("small"),
		"values.yaml": "some: value\n", "templates/hook.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hook, annotations: {helm.sh/hook: pre-install}}\n",
	}
	for _, name := range []string{"one", "two", "three", "four"} {
		files["templates/"+name+".yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata:\n  blob: {{ .Files.Get \"blob.txt\" | quote }}\n  extra: " + name + noise(300<<10) + "\n"
	}
	files["blob.txt"] = "small"
	target := e.target("", func(s *deploy.HelmReleaseSpec) {
		s.Install = &deploy.Install{CreateNamespace: true}
		s.TargetNamespace = e.ns + "-new"
	})
	t.Run("is refused before anything is touched, and it is said what is big", func(t *testing.T) {
		e.counter.take()
		_, err := e.run(t.Context(), target, e.revision(testenv.Chart("big", "1.0.0", files)), false)
		wantFailure(t, err, deploy.ReasonInstallFailed, "a Secret holds 1024 KiB")
		for _, words := range []string{"its manifest has 12", "the biggest of its 5 objects: ConfigMap/", " with 300 KiB", "nothing was changed"} {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%q lacks %q", err, words)
			}
		}
		if w := writes(e.counter.take()); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}
	})
	t.Run("what can be compressed is not", func(t *testing.T) {
		fine := map[string]string{}
		for _, name := range []string{"one", "two"} {
			fine["templates/"+name+".yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {blob: \"" + strings.Repeat("the same again ", 50_000) + "\"}\n"
		}
		e.bring(e.target("", func(s *deploy.HelmReleaseSpec) { s.ReleaseName = "fine" }), e.revision(testenv.Chart("fine", "1.0.0", fine)))
	})
	t.Run("values may be what is big", func(t *testing.T) {
		_, err := e.run(t.Context(), e.target(`{"blob":"`+noise(1500<<10)+`"}`, func(s *deploy.HelmReleaseSpec) { s.ReleaseName = "fine" }),
			e.revision(plain("1.0.0", map[string]string{"m": configMapNamed("m")})), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "values 1500 KiB")
	})
}
