package login

import (
	"strings"
	"testing"
)

func TestKeychain(t *testing.T) {
	for _, p := range []string{"", "generic"} {
		t.Run("no provider is no keychain and no error: "+p, func(t *testing.T) {
			if k, err := Keychain(p); k != nil || err != nil {
				t.Errorf("got %v, %v", k, err)
			}
		})
	}
	t.Run("an unknown provider is named with those that there are", func(t *testing.T) {
		_, err := Keychain("ibm")
		if err == nil || !strings.Contains(err.Error(), `"ibm"`) || !strings.Contains(err.Error(), "aws, azure, gcp") {
			t.Errorf("got %v", err)
		}
	})
}
