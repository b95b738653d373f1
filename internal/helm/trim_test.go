package helm

import (
	"strconv"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

func TestSurplus(t *testing.T) {
	for _, tc := range []struct {
		name, history string
		keep          int
		want          string
	}{
		{"nothing of what may stay", "superseded deployed", 2, ""},
		{"the oldest", "superseded superseded deployed", 2, "1"},
		{"not the deployed one, however old", "deployed failed failed failed", 2, "2 3"},
		{"not the last good one where none is deployed", "superseded superseded failed failed", 2, "1 3"},
		{"not the newest", "deployed failed", 1, ""},
		{"failed ones that never were good", "failed failed failed", 1, "1 2"},
		{"nothing of nothing", "", 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var history []*release.Release
			for i, s := range strings.Fields(tc.history) {
				history = append(history, &release.Release{Version: i + 1, Info: &release.Info{Status: release.Status(s)}})
			}
			var got []string
			for _, r := range surplus(history, tc.keep) {
				got = append(got, strconv.Itoa(r.Version))
			}
			wantEqual(t, "surplus", strings.Join(got, " "), tc.want)
		})
	}
}

// TestFailuresInARowLeaveNothing fails more often than revisions are kept, with another object each time.
func TestFailuresInARowLeaveNothing(t *testing.T) {
	e := newEnv(t)
	two := 2
	target := e.target("", func(s *deploy.HelmReleaseSpec) { s.MaxHistory = &two })
	e.bring(target, e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")})))
	refused := "apiVersion: v1\nkind: Service\nmetadata: {name: refused-of-NAME}\nspec: {ports: [{port: 99999}]}\n"
	for i := range 4 {
		name := "tried-" + strconv.Itoa(i)
		_, err := e.run(t.Context(), target, e.revision(plain("1.1."+strconv.Itoa(i), map[string]string{"a": configMapNamed("a"), "b": configMapNamed(name), "c": strings.ReplaceAll(refused, "NAME", name)})), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "99999")
		wantEqual(t, "objects", e.configMaps(e.ns), "a "+name)
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed "+strconv.Itoa(i+2)+":failed")
	}
	e.bring(target, e.revision(plain("1.2.0", map[string]string{"a": configMapNamed("a")})))
	wantEqual(t, "objects", e.configMaps(e.ns), "a")
	wantEqual(t, "history", e.history(e.ns, "web"), "5:failed 6:deployed")
}
