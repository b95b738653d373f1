// Package deploy_test holds the files of this folder against a real API server.
package deploy_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/config"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// warnings collects what the API server warns of: pod security violations among it.
type warnings struct{ said []string }

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) { w.said = append(w.said, text) }

func TestBaseRunsUnderRestrictedPodSecurity(t *testing.T) {
	cluster := testenv.Cluster(t)
	cfg := rest.CopyConfig(cluster.Config)
	var warned warnings
	cfg.WarningHandler = &warned
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	objects := base(t)
	apply(t, cfg, client, objects)
	if len(warned.said) > 0 {
		t.Errorf("the API server warned: %s", strings.Join(warned.said, "\n"))
	}
	typed := kubernetes.NewForConfigOrDie(cfg)
	testenv.Await(t, time.Minute, "the agent's Deployment becomes available under the restricted policy", func() error {
		d, err := typed.AppsV1().Deployments("towline-system").Get(t.Context(), "towline", metav1.GetOptions{})
		if err == nil && d.Status.AvailableReplicas != 1 {
			err = fmt.Errorf("%d available: %v", d.Status.AvailableReplicas, d.Status.Conditions)
		}
		return err
	})
	d, err := typed.AppsV1().Deployments("towline-system").Get(t.Context(), "towline", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkHardening(t, d)
}

func checkHardening(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	if got := *d.Spec.Replicas; got != 1 {
		t.Errorf("replicas = %d, want 1", got)
	}
	c := d.Spec.Template.Spec.Containers[0]
	if ro := c.SecurityContext.ReadOnlyRootFilesystem; ro == nil || !*ro {
		t.Error("the root file system is not read-only")
	}
	var mounts []string
	for _, m := range c.VolumeMounts {
		mounts = append(mounts, m.MountPath)
	}
	for _, want := range []string{"/etc/towline", "/var/cache/towline", "/run/towline", "/tmp"} {
		if !strings.Contains(strings.Join(mounts, " "), want) {
			t.Errorf("nothing mounted at %s, and the root file system is read-only", want)
		}
	}
}

func TestBaseConfigIsValid(t *testing.T) {
	if _, err := config.Load("base/config.yaml"); err != nil {
		t.Error(err)
	}
}

// The unit sets folders and settings by names that the agent knows.
func TestUnitSpeaksTheAgentsLanguage(t *testing.T) {
	b, err := os.ReadFile("systemd/towline.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Type=notify", "CacheDirectory=towline", "RuntimeDirectory=towline", "DynamicUser=yes", "WatchdogSec="} {
		if !strings.Contains(string(b), "\n"+want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
	if !regexp.MustCompile(`(?m)^ExecStart=\S+/towline run$`).Match(b) {
		t.Error("the unit does not start towline run")
	}
}

func TestDockerfileIsDistrolessAndUnprivileged(t *testing.T) {
	b, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	from := regexp.MustCompile(`(?m)^FROM .*$`).FindAllString(string(b), -1)
	if last := from[len(from)-1]; !strings.Contains(last, "distroless/static") || !strings.Contains(last, ":nonroot") {
		t.Errorf("the image is made %q, want distroless static, nonroot", last)
	}
	if !strings.Contains(string(b), "\nUSER 65532:65532\n") {
		t.Error("the image does not name its user by number: runAsNonRoot needs that")
	}
}

// base renders the kustomize base.
func base(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "base")
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for _, r := range m.Resources() {
		b, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(b, &u.Object); err != nil {
			t.Fatal(err)
		}
		out = append(out, u)
	}
	return out
}

// apply applies namespaces first, the rest in the order of the base.
func apply(t *testing.T, cfg *rest.Config, client dynamic.Interface, objects []*unstructured.Unstructured) {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))
	for _, first := range []bool{true, false} {
		for _, u := range objects {
			if (u.GetKind() == "Namespace") == first {
				if err := applyOne(t.Context(), mapper, client, u); err != nil {
					t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
				}
			}
		}
	}
}

func applyOne(ctx context.Context, mapper meta.RESTMapper, client dynamic.Interface, u *unstructured.Unstructured) error {
	m, err := mapper.RESTMapping(u.GroupVersionKind().GroupKind(), u.GroupVersionKind().Version)
	if err != nil {
		return err
	}
	body, err := u.MarshalJSON()
	if err != nil {
		return err
	}
	force := true
	opts := metav1.PatchOptions{FieldManager: "test", Force: &force}
	_, err = client.Resource(m.Resource).Namespace(u.GetNamespace()).Patch(ctx, u.GetName(), types.ApplyPatchType, body, opts)
	return err
}
