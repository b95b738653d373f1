package kube

import (
	"context"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/deploy"
)

func TestPoolForgets(t *testing.T) {
	own, err := New(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	const text = `{"current-context":"c","contexts":[{"name":"c","context":{"cluster":"c"}}],"clusters":[{"name":"c","cluster":{"server":"http://127.0.0.1:1"}}]}`
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	p := NewPool(own, func(context.Context, string, string) (map[string][]byte, error) {
		return map[string][]byte{"value": []byte(text)}, nil
	})
	p.now = func() time.Time { return now }
	ask := func(secret, account string) *Clients {
		t.Helper()
		k := &deploy.KustomizationSpec{ServiceAccountName: account}
		if secret != "" {
			k.KubeConfig = &deploy.KubeConfig{SecretRef: &deploy.SecretKeyRef{Name: secret}}
		}
		c, err := p.For(t.Context(), deploy.Target{Name: deploy.Name{Namespace: "ns"}, Kustomization: k})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	cluster, remote, local, used := ask("s", ""), ask("s", "a"), ask("", "a"), ask("u", "a")
	t.Run("nothing that is asked for now and then", func(t *testing.T) {
		for range 10 {
			now = now.Add(50 * time.Minute)
			if ask("s", "") != cluster || ask("s", "a") != remote || ask("", "a") != local || ask("u", "a") != used {
				t.Fatal("made again")
			}
		}
	})
	t.Run("what nobody asked for in an hour", func(t *testing.T) {
		for range 3 {
			now = now.Add(25 * time.Minute)
			ask("u", "a")
		}
		if len(p.clusters) != 2 || len(p.clusters[reference{}].accounts) != 0 {
			t.Errorf("kept: %v", p.clusters)
		}
		if ask("s", "") == cluster || ask("", "a") == local || ask("u", "a") != used {
			t.Error("the wrong ones")
		}
	})
	t.Run("an account that is not used while its cluster is", func(t *testing.T) {
		ask("s", "b")
		for range 3 {
			now = now.Add(25 * time.Minute)
			ask("s", "")
		}
		if n := len(p.clusters[reference{namespace: "ns", secret: "s"}].accounts); n != 0 {
			t.Errorf("%d accounts", n)
		}
	})
}
