package receiver

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/internal/deploy"
)

// FuzzDecode lets each type read anything: it must not panic, and what is said of it must be short and without its secrets.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no payloads: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	spec := deploy.SourceSpec{URL: "oci://registry.internal/team/web", Ref: &deploy.Ref{Tag: "stable"}}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, kind := range deploy.ReceiverTypes {
			for _, contentType := range []string{"application/json", "application/x-www-form-urlencoded"} {
				notices, err := decode(kind, http.Header{"X-Github-Event": {"package"}, "Content-Type": {contentType}}, body)
				if err != nil {
					if len(err.Error()) > 200 || strings.Contains(err.Error(), "canary") {
						t.Errorf("%s: %v", kind, err)
					}
					continue
				}
				if why := pointless(spec, notices); len(why) > 2000 {
					t.Errorf("%s: says %d bytes", kind, len(why))
				}
			}
		}
	})
}
