package enginetest_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"testing"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/reconcile"
	"github.com/towline/towline/internal/reconcile/enginetest"
)

// world is the smallest thing that an engine can manage: the digest that each target is at.
type world map[deploy.Name]string

func (w world) Plan(ctx context.Context, work deploy.Work) (*deploy.Plan, error) {
	p := &deploy.Plan{}
	if w[work.Target.Name] != work.Revision.Digest {
		p.Changes = []deploy.Change{{Action: deploy.ActionApply}}
	}
	return p, ctx.Err()
}

func (w world) Apply(ctx context.Context, work deploy.Work, p *deploy.Plan, progress deploy.Progress) ([]deploy.Change, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if work.Revision.Digest == "broken" {
		return nil, &deploy.Failure{Reason: deploy.ReasonApplyFailed, Err: errors.New("broken")}
	}
	w[work.Target.Name] = work.Revision.Digest
	if work.Revision.Digest == "slow" {
		progress(deploy.PhaseWaiting, "")
		<-ctx.Done()
		return p.Changes, ctx.Err()
	}
	return p.Changes, nil
}

func (w world) Delete(ctx context.Context, t deploy.Target, _ deploy.Progress) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	delete(w, t.Name)
	return nil
}

func TestTheSuitePassesForAnEngineThatKeepsTheContract(t *testing.T) {
	w := world{}
	enginetest.Run(t, enginetest.Fixture{
		Engine: func(testing.TB) reconcile.Engine { return w },
		Case: func(t *testing.T) enginetest.Case {
			name := deploy.Name{Kind: deploy.KindKustomization, Namespace: "ns", Name: path.Base(t.Name())}
			at := func(digest string) deploy.Work {
				return deploy.Work{
					Target:   deploy.Target{Name: name, Source: deploy.Name{Kind: deploy.KindSource, Namespace: "ns", Name: "s"}, Kustomization: &deploy.KustomizationSpec{}},
					Revision: deploy.Revision{Digest: digest},
				}
			}
			return enginetest.Case{First: at("1"), Second: at("2"), Slow: at("slow"), Broken: at("broken"), At: func(v *deploy.Work) error {
				want := ""
				if v != nil {
					want = v.Revision.Digest
				}
				if got := w[name]; got != want {
					return fmt.Errorf("at %q, want %q", got, want)
				}
				return nil
			}}
		},
	})
}
