package expr_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/expr"
)

// fluxReady are the expressions that Flux's documentation gives for kinds with a Ready condition.
const (
	fluxInProgress = `status.conditions.filter(e, e.type == 'Ready').all(e, e.observedGeneration == metadata.generation && e.status == 'Unknown')`
	fluxFailed     = `status.conditions.filter(e, e.type == 'Ready').all(e, e.observedGeneration == metadata.generation && e.status == 'False')`
	fluxCurrent    = `status.conditions.filter(e, e.type == 'Ready').all(e, e.observedGeneration == metadata.generation && e.status == 'True')`
)

type m = map[string]any

// withReady is an object with one Ready condition.
func withReady(status string, generation int64) m {
	return m{
		"apiVersion": "example.org/v1", "kind": "Thing", "metadata": m{"name": "a", "generation": int64(2)},
		"status": m{"conditions": []any{m{"type": "Ready", "status": status, "observedGeneration": generation}}},
	}
}

func TestHealth(t *testing.T) {
	status := func(s m) m { return m{"metadata": m{"generation": int64(2)}, "status": s} }
	tests := []struct {
		name                        string
		inProgress, failed, current string
		obj                         m
		want, message               string // message: a part of it
	}{
		{"is current by the words of Flux", fluxInProgress, fluxFailed, fluxCurrent, withReady("True", 2), expr.Current, ""},
		{"has failed by the words of Flux", fluxInProgress, fluxFailed, fluxCurrent, withReady("False", 2), expr.Failed, ""},
		{"is in progress by the words of Flux", fluxInProgress, fluxFailed, fluxCurrent, withReady("Unknown", 2), expr.InProgress, ""},
		{"is in progress while its condition is of an earlier generation", fluxInProgress, fluxFailed, fluxCurrent, withReady("True", 1), expr.InProgress, "none of its healthCheckExprs"},
		{"is in progress while its status is of an earlier generation", "", "", "true", status(m{"observedGeneration": int64(1)}), expr.InProgress, "generation 1, it is at 2"},
		{"takes generations that are floats", "", "", "status.observedGeneration == metadata.generation", status(m{"observedGeneration": 2.0}), expr.Current, ""},
		{"is in progress without status, whatever is said", "", "true", "true", m{"metadata": m{}}, expr.InProgress, "no status"},
		{"is in progress with an empty status", "", "true", "true", m{"status": m{}}, expr.InProgress, "no status"},
		{"asks inProgress before failed", "true", "true", "true", status(m{"a": "b"}), expr.InProgress, ""},
		{"asks failed before current", "false", "true", "true", status(m{"a": "b"}), expr.Failed, ""},
		{"is in progress where nothing is true", "false", "false", "false", status(m{"a": "b"}), expr.InProgress, "none"},
		{"asks for fields that are not there", "", "has(status.error)", "!has(spec.paused) && !has(data.x)", status(m{"a": "b"}), expr.Current, ""},
		{"takes an optional field", "", "", "status.?phase.orValue('Done') == 'Done'", status(m{"a": "b"}), expr.Current, ""},
		{"sees fields that only this kind has", "", "", "rules.exists(r, r.host == 'a') && extra == 3", m{"rules": []any{m{"host": "a"}}, "extra": int64(3), "status": m{"a": "b"}}, expr.Current, ""},
		{"has the names of macros for fields", "", "", "rules.exists(extra, extra == 'x') && extra == 3", m{"rules": []any{"x"}, "extra": int64(3), "status": m{"a": "b"}}, expr.Current, ""},
		{"takes a field that is a boolean", "", "", "status.ready", status(m{"ready": true}), expr.Current, ""},
		{"does not take text for a boolean", "", "", "status.ready", status(m{"ready": "true"}), expr.InProgress, "current: the expression gives string, want bool"},
		{"says which key is missing", "", "status.phase == 'Failed'", "true", status(m{"a": "b"}), expr.InProgress, "failed: no such key: phase"},
		{"says which field is missing", "", "", "stage.phase == 'Done'", status(m{"a": "b"}), expr.InProgress, "current: no such attribute(s): stage"},
		{"does not show a value that is not what it should be", "", "", "url(status.a).getHost() == 'x'", status(m{"a": "s3cret"}), expr.InProgress, "current: a value has not the form"},
		{"compares quantities", "", "", "quantity(status.size).isGreaterThan(quantity('1Gi'))", status(m{"size": "2Gi"}), expr.Current, ""},
		{"searches by pattern", "", "", "status.version.find('[0-9]+') == '12'", status(m{"version": "v12"}), expr.Current, ""},
		{"takes URLs apart", "", "", "url(status.url).getHost() == 'example.org'", status(m{"url": "https://example.org/x"}), expr.Current, ""},
		{"has the lists of Kubernetes", "", "", "status.n.isSorted() && status.n.sum() == 6", status(m{"n": []any{int64(1), int64(2), int64(3)}}), expr.Current, ""},
		{"has the texts of Flux", "", "", "status.a.upperAscii().split(',')[1] == 'C' && sets.contains(['b'], ['b'])", status(m{"a": "b,c"}), expr.Current, ""},
		{"replaces and joins texts", "", "", "['a', 'b'].join('-').replace('a', 'c') + ['d'].join() + 'xx'.replace('x', 'y', 1) + '%s is %d'.format(['e', 1]) == 'c-bdyxe is 1'", status(m{"a": "b"}), expr.Current, ""},
		{"takes fields of any name, also much like the usual ones", "", "", "date == 1 && rules.size() == 1 && status.all(stat, stat == 'a') && specs == 2", m{"date": int64(1), "specs": int64(2), "rules": []any{"a"}, "status": m{"a": "b"}}, expr.Current, ""},
		{"compares versions", "", "", "semver(status.v).isGreaterThan(semver('1.2.3'))", status(m{"v": "1.10.0"}), expr.Current, ""},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r, err := expr.Health(c.inProgress, c.failed, c.current)
			if err != nil {
				t.Fatal(err)
			}
			got, message := r.Judge(c.obj)
			if got != c.want || !strings.Contains(message, c.message) || strings.Contains(message, "s3cret") {
				t.Errorf("want %s with %q, got %s with %q", c.want, c.message, got, message)
			}
		})
	}
}

func TestHealthRefuses(t *testing.T) {
	tests := []struct {
		name                        string
		inProgress, failed, current string
		want                        string
	}{
		{"a slip in the name of a field", "", "", "stauts.phase == 'x'", "current, column 1: stauts is no field that objects have: did you mean status?"},
		{"one letter less, on the second line", "", "true ||\n has(statu.x)", "true", "failed, line 2, column 6: statu is no field that objects have: did you mean status?"},
		{"one letter more", "", "", "specc.a", "current, column 1: specc is no field that objects have: did you mean spec?"},
		{"another case", "", "", "metaData.name == 'a'", "current, column 1: metaData is no field that objects have: did you mean metadata?"},
		{"what is no CEL", "", "", "status.phase = 'x'", "current, column 14: "},
		{"a number", "", "1 + 1", "true", "failed: the expression gives int, want bool"},
		{"text", "'x'", "", "true", "inProgress: the expression gives string, want bool"},
		{"no current", "", "", "", "current: the expression is empty"},
		{"blanks", "", " ", "true", "failed: the expression is empty"},
		{"an unknown function", "", "", "status.a == frob(1)", "current, column 17: undeclared reference to 'frob'"},
		{"a pattern that is none", "", "", "status.a.matches('(')", "current, column 18: "},
		{"the second line", "", "", "true &&\n  1 == 'a'", "current, line 2, column 5: "},
		{"all that is wrong", "1", "2", "3", "inProgress: the expression gives int, want bool\nfailed: the expression gives int, want bool\ncurrent: the expression gives int, want bool"},
		{"a book", "", "", "true " + strings.Repeat("|| true ", 4000), "current: the expression has 32005 bytes, at most 16384 are allowed"},
		{"a tower of brackets", "", "", strings.Repeat("(", 5000) + "true" + strings.Repeat(")", 5000), "current"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			_, err := expr.Health(c.inProgress, c.failed, c.current)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

func TestHostileExpressionsEnd(t *testing.T) {
	list := make([]any, 2000)
	for i := range list {
		list[i] = strings.Repeat("a", 100)
	}
	obj := m{"status": m{"l": list}}
	for name, text := range map[string]string{
		"a growing text":   "status.l.map(a, status.l.join(a).replace('a', status.l.join('b'))).size() > 0",
		"a long separator": "status.l.join(status.l.join('b')).size() > 0",
		"a short one":      "status.l.join('b').replace('', status.l.join('b')).size() > 0",
		"a counted one":    "status.l.join('b').replace('a', status.l.join('b'), 1000000).size() > 0",
		"a long form":      "('%s%s%s%s%s%s%s%s').format([status.l, status.l, status.l, status.l, status.l, {'a': status.l, 'b': 1}, status.l, status.l]).size() > 0",
		"many parts":       "status.l.map(a, status.l.join('b').split('')).size() > 0",
		"a doubling text":  "[status.l.join('b')].map(a, [a+a].map(b, [b+b].map(c, [c+c].map(d, [d+d].map(e, [e+e].map(f, [f+f].map(g, g+g))))))).size() > 0",
		"loops in loops":   "status.l.all(a, status.l.all(b, status.l.all(c, a == b && b == c)))",
		"a growing list":   "[1,2,3,4,5,6,7,8,9,10].map(a, status.l.map(b, status.l.map(c, status.l))).size() > 0",
	} {
		t.Run(name, func(t *testing.T) {
			r, err := expr.Health("", "", text)
			if err != nil {
				t.Fatal(err)
			}
			if got, message := r.Judge(obj); got != expr.InProgress || (!strings.Contains(message, "make it look at less") && !strings.Contains(message, "too large")) {
				t.Errorf("got %s with %q", got, message)
			}
		})
	}
}

func TestReady(t *testing.T) {
	target := func(status, revision string) m {
		return m{
			"metadata": m{"name": "db", "labels": m{"v": "1"}},
			"spec":     m{"values": m{"password": "s3cret"}},
			"status":   m{"lastAppliedRevision": revision, "conditions": []any{m{"type": "Ready", "status": status}}},
		}
	}
	tests := []struct {
		name, text string
		want       bool
		err        string
	}{
		{"reads the dependency", "dep.status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')", true, ""},
		{"compares it with the target", "dep.status.lastAppliedRevision == self.status.lastAppliedRevision", false, ""},
		{"reads labels", "dep.metadata.labels['v'] == self.metadata.labels['v']", true, ""},
		{"says what is missing", "dep.status.nothing == 1", false, "no such key: nothing"},
		{"shows no values", "url(dep.spec.values.password).getHost() == ''", false, "a value has not the form"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			r, err := expr.Ready(c.text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Judge(target("True", "v1"), target("False", "v2"))
			if got != c.want {
				t.Errorf("got %v", got)
			}
			if (err != nil) != (c.err != "") || (err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "s3cret"))) {
				t.Errorf("want %q, got %v", c.err, err)
			}
		})
	}
	for name, c := range map[string][2]string{
		"an unknown variable":      {"other.status == 1", "readyExpr, column 1: undeclared reference to 'other'"},
		"what may be no boolean":   {"dep.status.ready", "readyExpr: the expression gives dyn, want bool; compare it: … == true"},
		"what is certainly no one": {"'x' + 'y'", "readyExpr: the expression gives string, want bool"},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			_, err := expr.Ready(c[0])
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(c[1], got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCompiledOnce(t *testing.T) {
	t.Run("the same text by any number of callers", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				r, err := expr.Health(fluxInProgress, fluxFailed, fluxCurrent)
				if err != nil {
					t.Error(err)
					return
				}
				if got, _ := r.Judge(withReady("True", 2)); got != expr.Current {
					t.Errorf("got %s", got)
				}
			})
		}
		wg.Wait()
		if n := testing.AllocsPerRun(10, func() { _, _ = expr.Health(fluxInProgress, fluxFailed, fluxCurrent) }); n > 20 {
			t.Errorf("%v allocations: it was compiled again", n)
		}
	})
	t.Run("and not kept without bound", func(t *testing.T) {
		heap := func() uint64 {
			runtime.GC()
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			return s.HeapAlloc
		}
		fill := func(from, to int) {
			for i := from; i < to; i++ {
				if _, err := expr.Ready(fmt.Sprintf("dep.spec.n == %d", i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		fill(0, 300)
		before := heap()
		fill(300, 900)
		if after := heap(); after > before+1<<20 {
			t.Errorf("from %d to %d bytes", before, after)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	i := 0
	for b.Loop() {
		i++
		if _, err := expr.Health("", "", fmt.Sprintf("%s && %d > 0", fluxCurrent, i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	r, err := expr.Health(fluxInProgress, fluxFailed, fluxCurrent)
	if err != nil {
		b.Fatal(err)
	}
	obj := withReady("True", 2)
	b.ReportAllocs()
	for b.Loop() {
		r.Judge(obj)
	}
}
