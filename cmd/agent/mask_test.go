package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

// serviceWith is a Service as a server shows it, whose ports were filled from a secret.
func serviceWith(port int64, token string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": "web", "annotations": map[string]any{
			deploy.AnnotationSecretFields: "/metadata/annotations/token,/spec/ports/*/port", "token": token, "copied": "with " + token + " in it",
			"kubectl.kubernetes.io/last-applied-configuration": "canary",
		}},
		"spec": map[string]any{"type": "ClusterIP", "ports": []any{map[string]any{"name": "http", "port": port, "targetPort": port}}},
	}}
}

func TestWhatWasFilledFromSecretsIsMasked(t *testing.T) {
	plain := serviceWith(8080, "x")
	plain.SetAnnotations(nil)
	for name, c := range map[string]struct {
		before, after *unstructured.Unstructured
		want          string
	}{
		"one sees which values differ, copies of the server too": {serviceWith(4711, "canary-a"), serviceWith(4712, "canary-a"), ` spec:
   ports:
   - name: http
-    port: '*** (before)'
-    targetPort: '*** (before)'
+    port: '*** (after)'
+    targetPort: '*** (after)'
   type: ClusterIP
`},
		"a value of before that no secret is any more stays masked": {serviceWith(4711, "canary-a"), plain, ` apiVersion: v1
 kind: Service
 metadata:
-  annotations:
-    copied: '***'
-    kubectl.kubernetes.io/last-applied-configuration: '***'
-    token: '***'
-    towline.dev/secret-fields: /metadata/annotations/token,/spec/ports/*/port
   name: web
 spec:
   ports:
   - name: http
-    port: '*** (before)'
-    targetPort: '*** (before)'
+    port: '*** (after)'
+    targetPort: '*** (after)'
   type: ClusterIP
`},
		"one that goes": {serviceWith(4711, "canary-a"), nil, `-apiVersion: v1
-kind: Service
-metadata:
-  annotations:
-    copied: '***'
-    kubectl.kubernetes.io/last-applied-configuration: '***'
-    token: '***'
-    towline.dev/secret-fields: /metadata/annotations/token,/spec/ports/*/port
-  name: web
-spec:
-  ports:
-  - name: http
-    port: '***'
-    targetPort: '***'
-  type: ClusterIP
`},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := show("kustomization/web", deploy.Difference{Change: deploy.Change{Object: deploy.ObjectID{Kind: "Service", Name: "web"}}, Before: c.before, After: c.after})
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(s.Diff, "\n") // behind the hunk's header
			if d := cmp.Diff(c.want, body); d != "" {
				t.Error(d)
			}
			b, err := json.Marshal(s)
			if err != nil || strings.Contains(string(b), "canary") || strings.Contains(string(b), "471") {
				t.Errorf("%v: %s", err, b)
			}
		})
	}
	t.Run("a build prints it with leave only", func(t *testing.T) {
		for _, leave := range []bool{false, true} {
			var out bytes.Buffer
			if err := writeObjects(&out, []*unstructured.Unstructured{serviceWith(4711, "canary-a")}, leave); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(out.String(), "4711") && strings.Contains(out.String(), "canary-a"); got != leave || !leave && strings.Contains(out.String(), "canary") {
				t.Errorf("with leave %v:\n%s", leave, out.String())
			}
		}
	})
}
