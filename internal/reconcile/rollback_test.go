package reconcile_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// roller is an engine that can go back.
type roller struct {
	engine
	rollback func(ctx context.Context, revision int) (int, error)
}

func (r *roller) Rollback(ctx context.Context, _ deploy.Target, revision int, progress deploy.Progress) (int, error) {
	progress(deploy.PhaseApplying, "")
	return r.rollback(ctx, revision)
}

func TestRollback(t *testing.T) {
	release := work(deploy.KindHelmRelease).Target
	t.Run("is the engine's", func(t *testing.T) {
		r, _ := reconciler(&roller{rollback: func(_ context.Context, revision int) (int, error) { return revision - 1, nil }})
		if to, err := r.Rollback(t.Context(), release, 4, nil); to != 3 || err != nil {
			t.Errorf("%d, %v", to, err)
		}
	})
	t.Run("is not there for engines that cannot", func(t *testing.T) {
		r, _ := reconciler(&engine{})
		if _, err := r.Rollback(t.Context(), work(deploy.KindKustomization).Target, 1, nil); err == nil || err.Error() != "kustomization/ns/a has no revisions of its own to go back to" {
			t.Errorf("%v", err)
		}
	})
	t.Run("turns a panic into an error", func(t *testing.T) {
		r, _ := reconciler(&roller{rollback: func(context.Context, int) (int, error) { panic("oh") }})
		if _, err := r.Rollback(t.Context(), release, 1, nil); err == nil || strings.Contains(err.Error(), "oh") {
			t.Errorf("%v", err)
		}
	})
	t.Run("ends an engine that hangs, at the longest timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			slow := release
			slow.HelmRelease = &deploy.HelmReleaseSpec{Rollback: &deploy.Rollback{Timeout: &metav1.Duration{Duration: 3 * time.Minute}}}
			r, _ := reconciler(&roller{rollback: func(ctx context.Context, _ int) (int, error) { <-ctx.Done(); return 0, ctx.Err() }})
			started := time.Now()
			_, err := r.Rollback(t.Context(), slow, 1, nil)
			if took := time.Since(started); took != 13*time.Minute || err == nil || !strings.HasPrefix(err.Error(), "gave up after 13m0s") {
				t.Errorf("it took %s: %v", took, err)
			}
		})
	})
}
