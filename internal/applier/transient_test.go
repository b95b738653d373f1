package applier_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/deploy"
)

// admit answers every review with yes.
func admit(rw http.ResponseWriter, r *http.Request) {
	var review struct {
		Request struct {
			UID string `json:"uid"`
		} `json:"request"`
	}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(rw, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":%q,"allowed":true}}`, review.Request.UID)
}

func TestWebhookOfTheSameArtifact(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	sample := httptest.NewTLSServer(http.HandlerFunc(admit)) // every such server has the same certificate
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sample.Certificate().Raw}))
	sample.Close()
	free := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	address := free.Addr().String()
	_ = free.Close()
	t.Cleanup(func() {
		_ = w.kube.Kubernetes.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(context.Background(), w.ns, metav1.DeleteOptions{})
	})
	var once sync.Once
	var first time.Time // guarded by w.mu
	refused := 0
	w.interfere(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if r.Method != http.MethodPatch || err != nil || resp.StatusCode != http.StatusInternalServerError {
			return resp, err
		}
		w.mu.Lock()
		refused++
		if first.IsZero() {
			first = time.Now()
		}
		started := time.Since(first) > 6*time.Second // longer than other errors are tried again
		w.mu.Unlock()
		if started {
			once.Do(func() {
				srv := &httptest.Server{Listener: must(net.Listen("tcp", address))(t), Config: &http.Server{Handler: http.HandlerFunc(admit), ReadHeaderTimeout: time.Minute}}
				srv.StartTLS()
				t.Cleanup(srv.Close)
			})
		}
		return resp, err
	})
	thing := func(name string) string {
		return fmt.Sprintf("apiVersion: %s/v1\nkind: Thing\nmetadata: {name: %s, namespace: %s}\nspec: {size: 1}\n---\n", group, name, w.ns)
	}
	rest := crd(group, "Thing") +
		fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: %s}
webhooks:
- name: check.%s
  clientConfig: {url: "https://%s/", caBundle: %s}
  rules: [{apiGroups: [%s], apiVersions: ["*"], operations: ["*"], resources: ["*"]}]
  failurePolicy: Fail
  sideEffects: None
  admissionReviewVersions: [v1]
---
`, w.ns, group, address, ca, group) + w.configMap("a", "1")
	w.target.Timeout = 2 * time.Minute
	w.text = thing("first") + rest
	w.converge(false)
	if refused > 0 {
		t.Fatalf("the webhook was in place %d times before the objects of its own artifact, which wait for the kind that is defined there", refused)
	}
	w.text = thing("first") + thing("one") + rest // from now on it is asked
	w.converge(false)
	u := must(w.kube.Dynamic.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "things"}).Namespace(w.ns).Get(t.Context(), "one", metav1.GetOptions{}))(t)
	wantEqual(t, "label", u.GetLabels()[deploy.LabelTarget], "kustomization.apps.web")
	if refused < 2 {
		t.Fatalf("the webhook was missing %d times: the test shows nothing", refused)
	}
	if err := w.engine.Delete(t.Context(), w.target, nil); err != nil {
		t.Fatal(err)
	}
}

func TestDeadAggregatedAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.ns + ".example.org"
	custom := fmt.Sprintf("apiVersion: %s/v1\nkind: Thing\nmetadata: {name: one, namespace: %s}\nspec: {size: 1}\n---\n", group, w.ns)
	w.text = crd(group, "Thing") + custom + w.configMap("a", "1") + w.configMap("old", "1")
	w.converge(false)
	services := w.kube.Dynamic.Resource(schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
	name := "v1." + group
	// Without the label the server leaves the APIService of a CRD as somebody made it.
	dead := `{"metadata":{"labels":{"kube-aggregator.kubernetes.io/automanaged":null}},"spec":{"insecureSkipTLSVerify":true,"service":{"namespace":"` + w.ns + `","name":"none","port":443}}}`
	must(services.Patch(t.Context(), name, types.MergePatchType, []byte(dead), metav1.PatchOptions{}))(t)
	t.Cleanup(func() { _ = services.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	down := func() bool {
		_, err := w.kube.Dynamic.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "things"}).Namespace(w.ns).Get(t.Context(), "one", metav1.GetOptions{})
		return err != nil
	}
	for deadline := time.Now().Add(20 * time.Second); !down(); {
		if time.Now().After(deadline) {
			t.Fatal("the group is still served")
		}
	}
	w.restart()
	w.step(t, "hurts only its objects", func(t *testing.T) {
		w.text = crd(group, "Thing") + strings.Replace(custom, "size: 1", "size: 2", 1) + w.configMap("a", "2") + w.configMap("old", "1")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonApplyFailed, true, "1 of 4 objects", "Thing."+group)
		wantEqual(t, "value", w.value("a"), "2")
	})
	w.step(t, "and those that are dropped stay in the inventory, while others are pruned", func(t *testing.T) {
		w.text = crd(group, "Thing") + w.configMap("a", "3")
		_, err := w.run(t.Context(), false)
		wantFailure(t, err, deploy.ReasonPruneFailed, true, "Thing."+group)
		wantEqual(t, "values", w.value("a")+w.value("old"), "3")
		wantEqual(t, "it is remembered", strings.Contains(w.inventory(), "/Thing/"), true)
	})
}

func TestDependencyCycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	needs := func(name, other string) string {
		return w.marked(name, "1", fmt.Sprintf("config.kubernetes.io/depends-on: /namespaces/%s/ConfigMap/%s", w.ns, other))
	}
	w.text = needs("a", "b") + needs("b", "a") + w.configMap("free", "1")
	_, err := w.run(t.Context(), false)
	wantFailure(t, err, deploy.ReasonApplyFailed, true, "2 of 3 objects", "/a:", "/b:", "cyclic")
	wantEqual(t, "values", w.value("a")+w.value("b")+w.value("free"), "1")
}
