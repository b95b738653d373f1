package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/kube"
	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// counting makes clients that count their requests.
func counting(t *testing.T) (*kube.Clients, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	cfg := rest.CopyConfig(testenv.Cluster(t).Config)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) { n.Add(1); return next.RoundTrip(r) })
	})
	c, err := kube.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, &n
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// create makes a cluster-scoped object that goes when the test ends.
func create(t *testing.T, c *kube.Clients, resource schema.GroupVersionResource, manifest string) {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &u.Object); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Dynamic.Resource(resource).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Dynamic.Resource(resource).Delete(context.Background(), u.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Log(err)
		}
	})
}

func createCRD(t *testing.T, c *kube.Clients, group string) {
	t.Helper()
	create(t, c, schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}, fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {kind: Thing, plural: things}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`, group))
}

func TestMapper(t *testing.T) {
	thing := func(group string) schema.GroupKind { return schema.GroupKind{Group: group, Kind: "Thing"} }

	t.Run("finds a kind whose CRD appears later", func(t *testing.T) {
		c, _ := counting(t)
		gk := thing("later.example.org")
		if _, err := c.Mapper.RESTMapping(gk); !meta.IsNoMatchError(err) {
			t.Fatalf("want no match before the CRD is there, got %v", err)
		}
		createCRD(t, c, gk.Group)
		testenv.Await(t, 10*time.Second, "kind known", func() error {
			_, err := c.Mapper.RESTMapping(gk)
			return err
		})
	})
	t.Run("asks the server about missing kinds at most once a second", func(t *testing.T) {
		c, n := counting(t)
		gk := thing("missing.example.org")
		began := time.Now()
		for range 500 {
			if _, err := c.Mapper.RESTMapping(gk); !meta.IsNoMatchError(err) {
				t.Fatalf("want no match, got %v", err)
			}
		}
		seconds := int64(time.Since(began)/time.Second) + 1
		if most := 4 + 2*seconds; n.Load() > most { // two requests to begin with, two for each reset
			t.Fatalf("%d requests within %d s, want at most %d", n.Load(), seconds, most)
		}
	})
	t.Run("sees at once what a reset was made for", func(t *testing.T) {
		c, _ := counting(t)
		gk := thing("reset.example.org")
		if _, err := c.Mapper.RESTMapping(gk); !meta.IsNoMatchError(err) {
			t.Fatalf("want no match, got %v", err)
		}
		createCRD(t, c, gk.Group)
		other, _ := counting(t) // a reader of its own says when the server is ready
		testenv.Await(t, 10*time.Second, "discovery has it", func() error {
			other.Mapper.Reset()
			_, err := other.Mapper.RESTMapping(gk)
			return err
		})
		c.Mapper.Reset()
		if _, err := c.Mapper.RESTMapping(gk); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("does not say of a group that is down that its kinds do not exist", func(t *testing.T) {
		c, _ := counting(t)
		create(t, c, schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}, `
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.down.example.org}
spec: {group: down.example.org, version: v1, groupPriorityMinimum: 100, versionPriority: 10, insecureSkipTLSVerify: true, service: {name: none, namespace: default, port: 443}}
`)
		testenv.Await(t, 20*time.Second, "the group is known to be unavailable", func() error {
			_, err := c.Mapper.RESTMapping(thing("down.example.org"))
			if err == nil || meta.IsNoMatchError(err) {
				return fmt.Errorf("got %w", err)
			}
			if !strings.Contains(err.Error(), "down.example.org/v1 is not available now") {
				t.Fatalf("the error does not name the group: %v", err)
			}
			return nil
		})
		if _, err := c.Mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"}); err != nil {
			t.Fatalf("another group suffers: %v", err)
		}
		if _, err := c.Mapper.RESTMapping(thing("nobody.example.org")); !meta.IsNoMatchError(err) {
			t.Fatalf("a really unknown kind is no match, got %v", err)
		}
	})
	t.Run("does not say no match when the whole server is away", func(t *testing.T) {
		c, err := kube.New(&rest.Config{Host: "http://127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Mapper.RESTMapping(thing("x.example.org")); err == nil || meta.IsNoMatchError(err) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestBound(t *testing.T) {
	c, n := counting(t)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := c.Bound(ctx)
	if err != nil {
		t.Fatal(err)
	}
	nodes := schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	t.Run("works, and its watches stay open, while the operation runs", func(t *testing.T) {
		if _, err := b.Dynamic.Resource(nodes).List(context.Background(), metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("ends an open watch with the operation", func(t *testing.T) {
		w, err := b.Dynamic.Resource(nodes).Watch(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		<-w.ResultChan() // the first node: the stream flows
		cancel()
		deadline := time.After(10 * time.Second)
		for open := true; open; {
			select {
			case _, open = <-w.ResultChan():
			case <-deadline:
				t.Fatal("the watch outlived its operation")
			}
		}
	})
	t.Run("sends nothing afterwards", func(t *testing.T) {
		before := n.Load()
		_, err := b.Dynamic.Resource(nodes).List(context.Background(), metav1.ListOptions{})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("want context.Canceled, got %v", err)
		}
		if n.Load() != before {
			t.Fatal("a request was sent")
		}
	})
	t.Run("leaves the shared clients alone", func(t *testing.T) {
		if _, err := c.Dynamic.Resource(nodes).List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOwnedHash(t *testing.T) {
	c, _ := counting(t)
	ns := testenv.Cluster(t).Namespace(t)
	cms := c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(ns)
	apply := func(manager, data string) *unstructured.Unstructured {
		t.Helper()
		u, err := cms.Patch(t.Context(), "a", types.ApplyPatchType, fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":%s}`, data),
			metav1.PatchOptions{FieldManager: manager, Force: new(true)})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	hash := func(u *unstructured.Unstructured) string {
		return kube.OwnedHash(u.GetManagedFields(), "ours", metav1.ManagedFieldsOperationApply)
	}
	ours := hash(apply("ours", `{"a":"1","b":"1"}`))
	t.Run("is the same in metadata as in the whole object", func(t *testing.T) {
		m, err := c.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(ns).Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := kube.OwnedHash(m.ManagedFields, "ours", metav1.ManagedFieldsOperationApply); got != ours || ours == "" {
			t.Fatalf("want %q, got %q", ours, got)
		}
	})
	t.Run("does not change with what others add", func(t *testing.T) {
		if got := hash(apply("theirs", `{"c":"1"}`)); got != ours {
			t.Fatalf("want %q, got %q", ours, got)
		}
	})
	t.Run("changes when somebody takes a field", func(t *testing.T) {
		if got := hash(apply("theirs", `{"a":"2"}`)); got == ours {
			t.Fatal("it did not")
		}
	})
	t.Run("is empty for who owns nothing", func(t *testing.T) {
		if got := kube.OwnedHash(nil, "ours", metav1.ManagedFieldsOperationApply); got != "" {
			t.Fatalf("got %q", got)
		}
	})
}
