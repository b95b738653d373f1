//go:build !aws && !azure && !gcp && !cloud

package login

import (
	"strings"
	"testing"
)

func TestDefaultBuildHasNoCloud(t *testing.T) {
	if got := Providers(); len(got) != 0 {
		t.Errorf("providers: %v", got)
	}
	for _, p := range []string{"aws", "azure", "gcp"} {
		t.Run(p+" says how to build it in, and what else to do", func(t *testing.T) {
			if Supports(p) {
				t.Error("supported")
			}
			k, err := Keychain(p)
			if k != nil || err == nil {
				t.Fatalf("got %v, %v", k, err)
			}
			for _, want := range []string{"-tags " + p, "cloud", "secretRef"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}
