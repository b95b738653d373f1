package main_test

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// versions FILE writes the resourceVersions of what the script's namespace holds: equal files are a cluster that nobody wrote to.
func cmdVersions(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	var lines []string
	for _, r := range []schema.GroupVersionResource{
		{Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "secrets"}, {Version: "v1", Resource: "services"},
		{Group: "apps", Version: "v1", Resource: "deployments"},
	} {
		list, err := w.client.Resource(r).Namespace(w.namespace).List(ctx, metav1.ListOptions{})
		ts.Check(err)
		for _, u := range list.Items {
			lines = append(lines, fmt.Sprintf("%s/%s %s\n", r.Resource, u.GetName(), u.GetResourceVersion()))
		}
	}
	slices.Sort(lines)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(lines, "")), 0o600))
}
