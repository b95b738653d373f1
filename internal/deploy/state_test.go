package deploy

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sameText compares errors by what they say: JSON keeps no more of them.
var sameText = cmp.Comparer(func(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Error() == b.Error()
})

func TestStateJSON(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	name := Name{Kind: KindKustomization, Namespace: "apps", Name: "web"}
	for _, tt := range []struct {
		name string
		want TargetState
	}{
		{"a target comes back as it went, its changes and their errors included", TargetState{
			Name: name, Source: Name{Kind: KindSource, Namespace: "apps", Name: "web"}, Phase: PhaseDegraded, Reason: ReasonApplyFailed,
			DependsOn: []Name{{Kind: KindHelmRelease, Namespace: "apps", Name: "db"}},
			Changes: []Change{
				{Action: ActionApply, Object: ObjectID{Group: "apps", Kind: "Deployment", Namespace: "apps", Name: "web"}, Err: errors.New("field is immutable")},
				{Action: ActionPrune, Object: ObjectID{Kind: "Namespace", Name: "old"}, Fields: []string{"metadata.labels"}},
			},
			LastGood: &Good{Digest: "sha256:1", Revision: "latest@sha256:1", Hash: "h", At: at},
			History:  []Past{{Revision: "latest@sha256:1", Phase: PhaseReady, Changes: 2, At: at, Took: 1.5}},
			Finished: at,
		}},
		{"a target without a source comes back without one", TargetState{Name: name, Phase: PhasePending}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := json.Marshal(tt.want)
			if err != nil {
				t.Fatal(err)
			}
			var got TargetState
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatalf("unmarshal %s: %v", b, err)
			}
			if d := cmp.Diff(tt.want, got, sameText); d != "" {
				t.Errorf("round trip (-want +got):\n%s", d)
			}
		})
	}
	t.Run("a change that is not JSON of a change is refused", func(t *testing.T) {
		if err := json.Unmarshal([]byte(`{"action": 3}`), new(Change)); err == nil {
			t.Error("no error for a number as action")
		}
	})
}
