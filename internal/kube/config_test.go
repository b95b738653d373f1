package kube_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/testenv"
)

func TestLoad(t *testing.T) {
	t.Run("reads a kubeconfig that works", func(t *testing.T) {
		cfg, err := kube.Load(testenv.Cluster(t).Kubeconfig, "")
		if err != nil {
			t.Fatal(err)
		}
		if cfg.QPS != -1 || !strings.HasPrefix(cfg.UserAgent, "towline/") || cfg.WarningHandler == nil {
			t.Fatalf("not tuned: %v %q", cfg.QPS, cfg.UserAgent)
		}
		c, err := kube.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Kubernetes.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Discovery.ServerVersion(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("takes KUBECONFIG where no path is given", func(t *testing.T) {
		t.Setenv("KUBECONFIG", testenv.Cluster(t).Kubeconfig)
		if _, err := kube.Load("", ""); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("says what to do where there is no cluster", func(t *testing.T) {
		t.Setenv("HOME", t.TempDir())
		t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
		if _, err := kube.Load("", ""); err == nil || !strings.Contains(err.Error(), "--kubeconfig") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("names a file that is missing, broken, or lacks the context", func(t *testing.T) {
		broken := filepath.Join(t.TempDir(), "broken")
		if err := os.WriteFile(broken, []byte("{not yaml"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range [][2]string{{"/none/kubeconfig", ""}, {broken, ""}, {testenv.Cluster(t).Kubeconfig, "nowhere"}} {
			if _, err := kube.Load(c[0], c[1]); err == nil || !strings.Contains(err.Error(), "load kubeconfig") {
				t.Errorf("%v: got %v", c, err)
			}
		}
	})
}
