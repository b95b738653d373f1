package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// kapply FILE applies the objects of a file of the script, with its variables filled in, as a user would who is no kubectl.
func cmdApply(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	for doc := range strings.SplitSeq(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		ts.Check(yaml.Unmarshal([]byte(doc), &u.Object))
		gk := u.GroupVersionKind().GroupKind()
		ns := u.GetNamespace()
		if ns == "" {
			ns = w.namespace
		}
		r, name, err := w.resource(gk.String() + "/" + ns + "/" + u.GetName())
		ts.Check(err)
		body, err := json.Marshal(u)
		ts.Check(err)
		_, err = r.Patch(ctx, name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: "user", Force: new(true)})
		ts.Check(err)
	}
}

// secret-file NAME KEY=FILE… makes a Secret in the script's namespace out of files: of the script, of the sources of the tests, or of this machine.
func cmdFileSecret(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	data := map[string][]byte{}
	for _, arg := range args[1:] {
		key, path, ok := strings.Cut(arg, "=")
		if !ok {
			ts.Fatalf("secret-file: %q: want KEY=FILE", arg)
		}
		if !filepath.IsAbs(path) {
			path = ts.MkAbs(path)
		}
		b, err := os.ReadFile(path)
		ts.Check(err)
		data[key] = b
	}
	client, err := kubernetes.NewForConfig(w.cluster.Config)
	ts.Check(err)
	_, err = client.CoreV1().Secrets(w.namespace).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Data: data}, metav1.CreateOptions{})
	ts.Check(err)
}
