package receiver

import (
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/deploy"
	registry "github.com/towline/towline/internal/testenv/distribution"
)

// TestRealRegistryNotifies lets the distribution project's registry send what it sends.
func TestRealRegistryNotifies(t *testing.T) {
	s := serve(t, nil)
	r := registry.New(t, registry.Options{
		Notify: s.url + pathOf("web"), NotifyHeaders: http.Header{"Authorization": {"Bearer " + canary}},
	})
	s.Set([]deploy.Source{source(t, "web", deploy.ReceiverDistribution, func(spec *deploy.SourceSpec) { spec.URL = "oci://" + r.Host() + "/team/web" })})
	push := func(reference string) {
		ref, err := name.ParseReference(r.Host()+"/"+reference, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		img, err := random.Image(1<<10, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	count := func(result string) (n int64) {
		s.Count(func(_ deploy.Name, got string, count int64) {
			if got == result {
				n = count
			}
		})
		return n
	}
	push("team/other:stable")
	push("team/web:testing")
	// Two images of three blobs each, and their manifests. Each event comes by itself.
	await(t, "what is not about the source is passed over", func() bool { return count("ignored") == 8 })
	if n := s.of("web"); n != 0 {
		t.Errorf("polled %d times", n)
	}
	push("team/web:stable")
	await(t, "the push is polled", func() bool { return s.of("web") == 1 })
	if count("refused") != 0 || count("accepted") != 1 {
		t.Errorf("%d refused, %d accepted: %q", count("refused"), count("accepted"), s.warnings())
	}
}
