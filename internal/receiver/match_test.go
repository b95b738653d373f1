package receiver

import (
	"strings"
	"testing"

	"github.com/towline/towline/internal/deploy"
)

func TestWhatAPollIsPointlessAfter(t *testing.T) {
	const url = "oci://registry.internal:5000/team/web"
	tag := deploy.SourceSpec{URL: url, Ref: &deploy.Ref{Tag: "stable"}}
	verified := deploy.SourceSpec{URL: url, Ref: &deploy.Ref{Tag: "stable"}, Verify: &deploy.Verify{}}
	semver := deploy.SourceSpec{URL: url, Ref: &deploy.Ref{Semver: "*", Tag: "stable"}}
	digest := deploy.SourceSpec{URL: url, Ref: &deploy.Ref{Digest: "sha256:00", Tag: "stable"}}
	own, other := []string{"team/web"}, []string{"team/webshop"}
	for name, c := range map[string]struct {
		source  deploy.SourceSpec
		notices []notice
		says    string // empty: it is polled
	}{
		"its own tag":                                  {tag, []notice{{repositories: own, tags: []string{"stable"}}}, ""},
		"another tag":                                  {tag, []notice{{repositories: own, tags: []string{"v2"}}}, `another tag: "v2"`},
		"another repository":                           {tag, []notice{{repositories: other}}, `another repository: "team/webshop"`},
		"a longer repository":                          {tag, []notice{{repositories: []string{"cache/team/web"}}}, ""},
		"a shorter repository":                         {tag, []notice{{repositories: []string{"web"}}}, ""},
		"one that only ends alike":                     {tag, []notice{{repositories: []string{"eam/web"}}}, "another repository"},
		"one by another case":                          {tag, []notice{{repositories: []string{"Team/Web/"}}}, ""},
		"neither tag nor repository":                   {tag, []notice{{}}, ""},
		"a digest in the place of a tag":               {tag, []notice{{tags: []string{"sha256:00"}}}, ""},
		"something else":                               {tag, []notice{{other: "pull", repositories: own}}, `no push: "pull"`},
		"nothing":                                      {tag, nil, "it says nothing"},
		"one of several":                               {tag, []notice{{other: "pull"}, {repositories: other}, {repositories: own}}, ""},
		"a signature that is waited for":               {verified, []notice{{tags: []string{"sha256-00.sig"}}}, ""},
		"a signature that nobody waits for":            {tag, []notice{{tags: []string{"sha256-00.sig"}}}, "another tag"},
		"another tag, where signatures are waited for": {verified, []notice{{tags: []string{"v2"}}}, "another tag"},
		"any tag, with a version constraint":           {semver, []notice{{tags: []string{"v2"}}}, ""},
		"any tag, with a digest":                       {digest, []notice{{tags: []string{"v2"}}}, ""},
		"a folder":                                     {deploy.SourceSpec{URL: "file:///srv/app"}, []notice{{}}, ""},
		"a name without end":                           {tag, []notice{{repositories: []string{strings.Repeat("x", 5000)}}}, "another repository"},
	} {
		t.Run(name, func(t *testing.T) {
			got := pointless(c.source, c.notices)
			if (got == "") != (c.says == "") || !strings.Contains(got, c.says) || len(got) > 2*maxShown {
				t.Errorf("got %q, want what says %q", got, c.says)
			}
		})
	}
}
