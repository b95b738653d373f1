package deploy

import (
	"strings"
	"testing"
)

func TestLabelledTarget(t *testing.T) {
	t.Parallel()
	short := Name{Kind: KindKustomization, Namespace: "apps", Name: "web"}
	if got := LabelledTarget(short.LabelValue()); got != short.String() {
		t.Errorf("%q, want %q", got, short)
	}
	long := Name{Kind: KindHelmRelease, Namespace: strings.Repeat("n", 30), Name: strings.Repeat("a", 30)}
	if got := LabelledTarget(long.LabelValue()); got != long.LabelValue() || len(got) > 63 {
		t.Errorf("%q", got)
	}
	if got := LabelledTarget("somebody-else"); got != "somebody-else" {
		t.Errorf("%q", got)
	}
}
