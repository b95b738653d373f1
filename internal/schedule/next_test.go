package schedule

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/deploy"
)

var now = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// a and b are targets of source s; b depends on a. known builds a state in which both are Ready at digest 1 and nothing is due; change makes the case.
func known(change func(s *state, a, b *target)) *state {
	s := newState(Limits{Kustomizations: 1, HelmReleases: 1})
	s.loaded, s.configured = true, true
	s.revisions[src("s")] = revision("s", "1")
	for _, spec := range []deploy.Target{entry(ks("a"), "s"), entry(hr("b"), "s", needs(ks("a")))} {
		v := version{"sha256:1", spec.Hash}
		rec := deploy.Record{Target: remembered(spec)}
		t := &target{spec: spec, attempted: &v, ready: &v, checkAt: now.Add(time.Hour)}
		t.note(rec)
		t.stored = t.hash
		s.targets[spec.Name] = t
	}
	change(s, s.targets[ks("a")], s.targets[hr("b")])
	s.arrange()
	return s
}

func running(t *target, p deploy.Phase) {
	t.job = &job{name: t.spec.Name, action: actionRun, version: *t.attempted, stage: stage{phase: p}}
}

func TestNext(t *testing.T) {
	run := func(n deploy.Name, full bool) start { return start{name: n, action: actionRun, full: full} }
	for _, tc := range []struct {
		name   string
		change func(s *state, a, b *target)
		want   decision
	}{
		{"waits for the next check when all is well", func(*state, *target, *target) {}, decision{wake: now.Add(time.Hour)}},
		{"starts nothing before the records are read", func(s *state, a, _ *target) { s.loaded, a.attempted = false, nil }, decision{}},
		{"starts nothing before there is a config", func(s *state, a, _ *target) { s.configured, a.attempted = false, nil }, decision{}},
		{"starts nothing while stopping", func(s *state, a, _ *target) { s.stopping, a.attempted = true, nil }, decision{}},
		{"starts what was never attempted", func(_ *state, a, _ *target) { a.attempted = nil }, decision{start: []start{run(ks("a"), false)}, wake: now.Add(time.Hour)}},
		{"starts what was never attempted in full where a record says that it ran", func(_ *state, a, _ *target) { a.attempted, a.full = nil, true },
			decision{start: []start{run(ks("a"), true)}, wake: now.Add(time.Hour)}},
		{"starts a new digest with the dependency, not with the dependant", func(s *state, _, _ *target) { s.revisions[src("s")] = revision("s", "2") },
			decision{start: []start{run(ks("a"), false)}, wake: now.Add(time.Hour)}},
		{"starts a check that is due", func(_ *state, _, b *target) { b.checkAt = now }, decision{start: []start{run(hr("b"), true)}, wake: now.Add(time.Hour)}},
		{"starts what is asked for", func(_ *state, _, b *target) { b.forced = forceAsked }, decision{start: []start{run(hr("b"), true)}, wake: now.Add(time.Hour)}},
		{"starts what drifted", func(_ *state, _, b *target) { b.forced = forceDrifted }, decision{start: []start{run(hr("b"), true)}, wake: now.Add(time.Hour)}},
		{"keeps the pace of retries of what drifted", func(_ *state, _, b *target) { b.forced, b.failures, b.retryAt = forceDrifted, 1, now.Add(time.Second) },
			decision{wake: now.Add(time.Second)}},
		{"retries what drifted in full", func(_ *state, _, b *target) { b.forced, b.failures, b.retryAt = forceDrifted, 1, now },
			decision{start: []start{run(hr("b"), true)}, wake: now.Add(time.Hour)}},
		{"lets a wait for health go on although something drifted", func(_ *state, _, b *target) { running(b, deploy.PhaseWaiting); b.forced = forceDrifted },
			decision{wake: now.Add(time.Hour)}},
		{"waits for the retry, and holds back the dependant's check", func(_ *state, a, b *target) {
			a.failures, a.ready, a.retryAt, b.checkAt = 1, nil, now.Add(time.Second), now
		},
			decision{wake: now.Add(time.Second)}},
		{"retries when it is time", func(_ *state, a, _ *target) { a.failures, a.ready, a.retryAt = 1, nil, now }, decision{start: []start{run(ks("a"), false)}, wake: now.Add(time.Hour)}},
		{"leaves a suspended target alone", func(_ *state, a, b *target) {
			a.spec.Suspend, a.checkAt, a.forced = true, now, forceAsked
			b.checkAt = time.Time{}
		}, decision{}},
		{"ends a wait for what has changed meanwhile", func(_ *state, a, _ *target) { running(a, deploy.PhaseWaiting); a.forced = forceChanged },
			decision{cancel: []deploy.Name{ks("a")}, wake: now.Add(time.Hour)}},
		{"lets a wait go on that somebody asks to be repeated", func(_ *state, a, _ *target) { running(a, deploy.PhaseWaiting); a.forced = forceAsked }, decision{wake: now.Add(time.Hour)}},
		{"leaves a running target alone", func(_ *state, a, _ *target) { running(a, deploy.PhaseApplying); a.forced = forceAsked }, decision{wake: now.Add(time.Hour)}},
		{"cancels a wait for news", func(s *state, a, _ *target) {
			running(a, deploy.PhaseWaiting)
			s.revisions[src("s")] = revision("s", "2")
		}, decision{cancel: []deploy.Name{ks("a")}, wake: now.Add(time.Hour)}},
		{"does not cancel applying for news", func(s *state, a, _ *target) {
			running(a, deploy.PhaseApplying)
			s.revisions[src("s")] = revision("s", "2")
		}, decision{wake: now.Add(time.Hour)}},
		{"does not cancel twice", func(_ *state, a, _ *target) {
			running(a, deploy.PhaseWaiting)
			a.job.canceled, a.spec.Hash = true, "other"
		}, decision{wake: now.Add(time.Hour)}},
		{"cancels a wait that is not wanted any more", func(_ *state, a, b *target) {
			running(a, deploy.PhasePlanning)
			a.gone, b.gone = true, true
			b.stored, b.rec = "", deploy.Record{}
		}, decision{start: []start{{name: hr("b"), action: actionDelete}}, cancel: []deploy.Name{ks("a")}}},
		{"cancels waits while stopping", func(s *state, a, b *target) {
			s.stopping = true
			running(a, deploy.PhaseWaiting)
			running(b, deploy.PhaseApplying)
		}, decision{cancel: []deploy.Name{ks("a")}}},
		{"deletes dependants first", func(_ *state, a, b *target) { a.gone, b.gone = true, true }, decision{start: []start{{name: hr("b"), action: actionDelete}}}},
		{"waits with a deletion until its retry", func(_ *state, a, b *target) { a.gone, b.gone, b.retryAt = true, true, now.Add(time.Minute) }, decision{wake: now.Add(time.Minute)}},
		{"replaces a release that a changed entry would leave behind", func(_ *state, _, b *target) {
			b.rec.Target.HelmRelease = &deploy.HelmReleaseSpec{ReleaseName: "old"}
			b.forced = forceAsked
		}, decision{start: []start{{name: hr("b"), action: actionReplace}}, wake: now.Add(time.Hour)}},
		{"stores a record that is behind", func(_ *state, a, _ *target) { a.note(deploy.Record{Target: a.rec.Target, Intent: "x"}) }, decision{start: []start{{name: ks("a"), action: actionSave}}, wake: now.Add(time.Hour)}},
		{"waits before it tries to store a record again", func(_ *state, a, _ *target) {
			a.note(deploy.Record{Target: a.rec.Target, Intent: "x"})
			a.saveAt = now.Add(time.Second)
		}, decision{wake: now.Add(time.Second)}},
		{"starts no more than the limit, the longest idle first", func(s *state, a, _ *target) {
			c := *a
			c.spec = entry(ks("c"), "s")
			c.attempted = &version{}
			a.attempted = &version{}
			a.last.Finished, c.last.Finished = now, now.Add(-time.Minute)
			s.targets[ks("c")] = &c
		}, decision{start: []start{run(ks("c"), false)}, wake: now.Add(time.Hour)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := next(now, known(tc.change))
			if len(got.start) == 0 {
				got.start = nil
			}
			if d := cmp.Diff(tc.want, got, cmp.AllowUnexported(decision{}, start{})); d != "" {
				t.Error(d)
			}
		})
	}
}

// An event must stay cheap with a thousand targets: each of them makes the scheduler ask next once.
func BenchmarkNext(b *testing.B) {
	s := known(func(s *state, a, _ *target) {
		for i := range 1000 {
			c := *a
			c.spec.Name = ks(fmt.Sprint("t", i))
			c.spec.DependsOn = []deploy.Name{ks("a")}
			s.targets[c.spec.Name] = &c
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		next(now, s)
	}
}
