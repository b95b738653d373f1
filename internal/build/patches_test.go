package build_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
)

func TestImages(t *testing.T) {
	const digest = "sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3"
	for _, tc := range []struct {
		name, image string
		change      deploy.Image
		want        string
	}{
		{"get a tag", "nginx:1.0", deploy.Image{Name: "nginx", NewTag: "2.0"}, "nginx:2.0"},
		{"get a digest in place of the tag", "nginx:1.0", deploy.Image{Name: "nginx", Digest: digest}, "nginx@" + digest},
		{"get a digest where they had none", "nginx", deploy.Image{Name: "nginx", Digest: digest}, "nginx@" + digest},
		{"get a digest and a name", "nginx:1.0", deploy.Image{Name: "nginx", NewName: "r.example:5000/x/nginx", Digest: digest}, "r.example:5000/x/nginx@" + digest},
		{"get another digest", "nginx@sha256:" + strings.Repeat("0", 64), deploy.Image{Name: "nginx", Digest: digest}, "nginx@" + digest},
		{"get a tag in place of the digest", "nginx@" + digest, deploy.Image{Name: "nginx", NewTag: "2.0"}, "nginx:2.0"},
		{"get tag and digest", "nginx:1.0", deploy.Image{Name: "nginx", NewTag: "2.0", Digest: digest}, "nginx:2.0@" + digest},
		{"keep the tag under a new name", "nginx:1.0", deploy.Image{Name: "nginx", NewName: "r.example/nginx"}, "r.example/nginx:1.0"},
		{"keep the digest under a new name", "nginx@" + digest, deploy.Image{Name: "nginx", NewName: "r.example/nginx"}, "r.example/nginx@" + digest},
		{"of another name stay", "nginx-extra:1.0", deploy.Image{Name: "nginx", NewTag: "2.0"}, "nginx-extra:1.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, files{"a.yaml": strings.Replace(deployment, "nginx:1.0", tc.image, 1)})
			objects, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{Images: []deploy.Image{tc.change}}), dir)
			if err != nil {
				t.Fatal(err)
			}
			template := objects[0].Object["spec"].(map[string]any)["template"].(map[string]any)
			if d := cmp.Diff([]any{map[string]any{"name": "web", "image": tc.want}}, template["spec"].(map[string]any)["containers"]); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPatchesChoose(t *testing.T) {
	dir := write(t, files{"a.yaml": strings.Join([]string{
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: one, labels: {tier: front}, annotations: {owner: a}}\nspec: {replicas: 1}\n",
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web-db, namespace: one, labels: {tier: back}, annotations: {owner: b}}\nspec: {replicas: 1}\n",
		"apiVersion: example.com/v1beta1\nkind: Deployment\nmetadata: {name: web, namespace: two, labels: {tier: back}}\nspec: {replicas: 1}\n",
		"apiVersion: v1\nkind: Thing\nmetadata: {name: web}\nspec: {replicas: 1}\n",
	}, "---\n")})
	const web, db, other, thing = "Deployment.apps/one/web", "StatefulSet.apps/one/web-db", "Deployment.example.com/two/web", "Thing/web"
	for _, tc := range []struct {
		name   string
		target deploy.Selector
		want   []string
	}{
		{"by group", deploy.Selector{Group: "apps"}, []string{web, db}},
		{"by a pattern of groups", deploy.Selector{Group: "apps|example.*"}, []string{web, db, other}},
		{"by version", deploy.Selector{Version: "v1"}, []string{web, db, thing}},
		{"by a pattern of versions", deploy.Selector{Version: "v1.+"}, []string{other}},
		{"by kind", deploy.Selector{Kind: "Deployment"}, []string{web, other}},
		{"by a pattern of kinds", deploy.Selector{Kind: "(Stateful|Daemon)Set"}, []string{db}},
		{"by the whole name", deploy.Selector{Name: "web"}, []string{web, other, thing}},
		{"by a pattern of names", deploy.Selector{Name: "web-.*"}, []string{db}},
		{"by namespace", deploy.Selector{Namespace: "one"}, []string{web, db}},
		{"by a pattern of namespaces", deploy.Selector{Namespace: "t.o"}, []string{other}},
		{"by label", deploy.Selector{LabelSelector: "tier=back"}, []string{db, other}},
		{"by a list of labels", deploy.Selector{LabelSelector: "tier in (front, none)"}, []string{web}},
		{"by annotation", deploy.Selector{AnnotationSelector: "owner=b"}, []string{db}},
		{"by all of it", deploy.Selector{Group: "apps", Version: "v1", Kind: ".*", Name: "web.*", Namespace: "one", LabelSelector: "tier", AnnotationSelector: "owner!=b"}, []string{web}},
		{"nothing, without an error", deploy.Selector{Kind: "None"}, nil},
	} {
		for kind, patch := range map[string]string{
			"strategic merge": "apiVersion: any/v1\nkind: Any\nmetadata: {name: any}\nspec: {replicas: 2}\n",
			"JSON 6902":       "- {op: replace, path: /spec/replicas, value: 2}\n",
		} {
			t.Run(tc.name+", as "+kind, func(t *testing.T) {
				spec := deploy.KustomizationSpec{Patches: []deploy.Patch{{Patch: patch, Target: &tc.target}}}
				objects, err := build.New(build.Options{}).Build(t.Context(), target(spec), dir)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, o := range objects {
					if o.Object["spec"].(map[string]any)["replicas"] == int64(2) {
						got = append(got, deploy.IDOf(o).String())
					}
				}
				if d := cmp.Diff(tc.want, got); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

func TestPatchesDelete(t *testing.T) {
	f := files{"a.yaml": deployment, "b.yaml": configMap("b")}
	for name, tc := range map[string]struct {
		patch deploy.Patch
		want  []string
	}{
		"the object that they name":      {deploy.Patch{Patch: "$patch: delete\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"}, []string{"Deployment.apps/web"}},
		"the objects that a target has":  {deploy.Patch{Patch: "$patch: delete\napiVersion: v1\nkind: Any\nmetadata: {name: any}\n", Target: &deploy.Selector{Kind: "Deploy.*"}}, []string{"ConfigMap/b"}},
		"all":                            {deploy.Patch{Patch: "$patch: delete\napiVersion: v1\nkind: Any\nmetadata: {name: any}\n", Target: &deploy.Selector{Name: ".*"}}, nil},
		"nothing that a target has not":  {deploy.Patch{Patch: "$patch: delete\napiVersion: v1\nkind: Any\nmetadata: {name: any}\n", Target: &deploy.Selector{Name: "no"}}, []string{"Deployment.apps/web", "ConfigMap/b"}},
		"a field of the object, as null": {deploy.Patch{Patch: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: null}\n"}, []string{"Deployment.apps/web", "ConfigMap/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := build.New(build.Options{}).Build(t.Context(), target(deploy.KustomizationSpec{Patches: []deploy.Patch{tc.patch}}), write(t, f))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, ids(objects)); d != "" {
				t.Error(d)
			}
			if strings.Contains(name, "field") && len(objects[0].GetLabels()) > 0 {
				t.Errorf("the labels are %v", objects[0].GetLabels())
			}
		})
	}
}
