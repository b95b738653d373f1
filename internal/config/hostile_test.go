package config

import (
	"fmt"
	"strings"
	"testing"
)

// repeated joins n formatted lines, each given its number.
func repeated(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestHostileFilesAreRefusedWithAShortMessage(t *testing.T) {
	const longest = 64 << 10 // bytes of a message
	for name, c := range map[string]struct{ text, want string }{
		"brackets without end":       {strings.Repeat("[", 100_000), "exceeded max depth"},
		"maps in maps":               {"helmReleases: [{name: a, chartRef: b, values: " + strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000) + "}]", "nested deeper than 200"},
		"keys in keys":               {strings.Repeat("? ", 5000), "a key must be text"},
		"thousands of repeated keys": {repeated(20_000, "a: %d\n"), "... and 19800 more"},
		"merges of merges":           {"a0: &a0 {k0: 1}\n" + mergeChain(2000), "unknown key"},
		"thousands of unknown names": {oneSource + "kustomizations:\n" + repeated(3000, "  - {name: a%d, sourceRef: apq}\n"), "did you mean source/app?"},
		"a circle of thousands":      {oneSource + "kustomizations:\n" + ring(3000), "(2981 more)"},
		"thousands of mirrors":       {"sources:\n- name: a\n  url: oci://r.io/a\n  interval: 1m\n  mirrors:\n" + strings.Repeat("  - oci://m.io/a\n", 50_000), "mirrors[1]: is listed twice"},
		"thousands of event sources": {"notify:\n- name: a\n  type: generic\n  address: https://r.io\n  eventSources:\n" + repeated(50_000, "  - a%d\n"), "there is no a0"},
		"a tag without end":          {"sources: [{name: a, url: oci://r.io/a, interval: 1m, ref: {tag: '" + strings.Repeat("x!", 1<<19) + "'}}]", "want at most 128 letters"},
		"patterns without end":       {"sources: [{name: a, url: oci://r.io/a, interval: 1m, ignore: '" + strings.Repeat("[", 1<<20) + "'}]", "write \\[ for the character"},
		"a syntax error far down":    {strings.Repeat("a: [1, 2, 3]\n", 40_000) + "\t: x", "config.yaml:40001: not valid YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoader()
			l.read(l.parse("config.yaml", []byte(c.text)))
			l.finish()
			got := newError(l.problems).Error()
			if len(got) > longest || !strings.Contains(got, c.want) {
				t.Errorf("%d bytes without %q: %.500s", len(got), c.want, got)
			}
		})
	}
}

func mergeChain(n int) string {
	var b strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "a%d: &a%d {<<: *a%d, k%d: 1}\n", i, i, i-1, i)
	}
	return b.String()
}

// ring is n kustomizations that depend on each other in a circle.
func ring(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  - {name: a%d, sourceRef: app, dependsOn: [a%d]}\n", i, (i+1)%n)
	}
	return b.String()
}
