package verify

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// artifact is one in a registry.
type artifact struct {
	host   string
	repo   string
	digest string
}

// push pushes an artifact of its own to a repository of its own.
func push(t *testing.T, reg *testenv.Registry) artifact {
	t.Helper()
	repo := "team/" + strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, t.Name()))
	return pushTo(reg, repo, t.Name())
}

func pushTo(reg *testenv.Registry, repo, content string) artifact {
	return artifact{host: reg.Host(), repo: repo, digest: reg.PushFiles(repo, "v1", map[string]string{"a.yaml": content}, nil)}
}

// pushImage pushes an empty image to any registry.
func pushImage(t *testing.T, repository string) (digest string) {
	t.Helper()
	tag, err := name.NewTag(repository + ":v1")
	must(t, err)
	must(t, remote.Write(tag, empty.Image))
	h, err := empty.Image.Digest()
	must(t, err)
	return h.String()
}

func (a artifact) ref() string        { return a.repository() + "@" + a.digest }
func (a artifact) repository() string { return a.host + "/" + a.repo }

// content is the artifact's repository as the agent reads it.
func (a artifact) content(t testing.TB) *oci.Repository {
	t.Helper()
	repo, err := name.NewRepository(a.repository())
	must(t, err)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	return oci.New(base, "test").Repository(oci.Access{
		Repo: repo, Owner: "test", Login: func(context.Context) (authn.Authenticator, error) { return authn.Anonymous, nil },
	})
}

func policy(t *testing.T, m Material) *Policy {
	t.Helper()
	p, err := New(m)
	must(t, err)
	return p
}

// accepted verifies at the registry, then from the evidence alone after its way through JSON, and returns who vouched.
func accepted(t *testing.T, p *Policy, a artifact) string {
	t.Helper()
	by, ev, err := p.Verify(t.Context(), a.content(t), a.repository(), a.digest)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	again, _, err := p.Verify(t.Context(), throughJSON(t, ev), a.repository(), a.digest)
	if err != nil {
		t.Fatalf("refused with the evidence: %v", err)
	}
	if by != again {
		t.Errorf("%q vouches at the registry, and %q in the evidence", by, again)
	}
	return by
}

func throughJSON(t *testing.T, ev *Evidence) *Evidence {
	t.Helper()
	raw, err := json.Marshal(ev)
	must(t, err)
	if len(raw) > maxEvidence {
		t.Errorf("the evidence has %d bytes", len(raw))
	}
	out := &Evidence{}
	must(t, json.Unmarshal(raw, out))
	return out
}

// refused verifies at the registry and wants a reason and a text in the message.
func refused(t *testing.T, p *Policy, a artifact, reason, text string) {
	t.Helper()
	refusedFrom(t, p, a.content(t), a, reason, text)
}

func refusedFrom(t *testing.T, p *Policy, c Content, a artifact, reason, text string) {
	t.Helper()
	by, ev, err := p.Verify(t.Context(), c, a.repository(), a.digest)
	if err == nil || by != "" || ev != nil {
		t.Fatalf("accepted: %q vouches", by)
	}
	var f *deploy.Failure
	if !errors.As(err, &f) || f.Reason != reason || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v\nwant %s: …%s…", err, reason, text)
	}
	if strings.ContainsAny(err.Error(), "\n\r\t") || len(err.Error()) > 4096 {
		t.Errorf("the message is no line of bounded length: %d bytes", len(err.Error()))
	}
}
