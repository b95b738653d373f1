package helm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	helmkube "helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/releaseutil"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/towline/towline/internal/deploy"
)

// Render is what a release would send: the CRDs of the chart where an install creates them, the manifests in Helm's order, the hooks. No cluster is asked: lookup finds
// nothing, and .Capabilities are those of the Kubernetes version that this agent was built with. Of the options, Read and Patch are used.
func Render(ctx context.Context, o Options, t deploy.Target, r deploy.Revision) ([]*unstructured.Unstructured, error) {
	setGlobals()
	if err := ctx.Err(); err != nil { // the SDK does not look
		return nil, err
	}
	t, secret, err := resolve(ctx, o.Read, t)
	if err != nil {
		return nil, err
	}
	p, err := prepare(deploy.Work{Target: t, Revision: r}, doInstall)
	if err != nil {
		return nil, err
	}
	at := placeOf(t)
	in := action.NewInstall(&action.Configuration{
		Capabilities: chartutil.DefaultCapabilities.Copy(),
		KubeClient:   &helmkube.Client{}, // the SDK puts a printing one in its place
		Releases:     storage.Init(driver.NewMemory()),
		Log:          func(string, ...any) {},
	})
	in.ReleaseName, in.Namespace = at.name, at.namespace
	in.ClientOnly, in.DryRun, in.DryRunOption, in.Replace = true, true, "client", true
	in.SkipCRDs, in.SkipSchemaValidation = true, true
	post := labellerOf(t, o.Patch, secret)
	in.PostRenderer = post
	fail := func(err error) error {
		return fmt.Errorf("render chart %s: %w", p.chart.Name(), maskOf(t.HelmRelease.Values, p.chart.Name(), at.name, at.namespace).error(err))
	}
	rel, err := in.RunWithContext(ctx, p.chart, p.values)
	if err != nil {
		return nil, fail(err)
	}
	install := orZero(t.HelmRelease.Install)
	var texts []string
	if install.CRDs != deploy.CRDsSkip {
		for _, crd := range p.crds {
			texts = append(texts, string(crd.File.Data))
		}
	}
	texts = append(texts, rel.Manifest)
	if !install.DisableHooks {
		for _, h := range rel.Hooks {
			marked, err := edit(strings.NewReader(h.Manifest), post.secret.mark) // nothing else is done to hooks
			if err != nil {
				return nil, fail(err)
			}
			texts = append(texts, marked.String())
		}
	}
	var out []*unstructured.Unstructured
	for _, text := range texts {
		objects, err := parseObjects(text)
		if err != nil {
			return nil, fail(err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

// parseObjects reads the documents of a text in order.
func parseObjects(text string) ([]*unstructured.Unstructured, error) {
	docs := releaseutil.SplitManifests(text)
	keys := make([]string, 0, len(docs))
	for k := range docs {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { // manifest-10 after manifest-9
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	var out []*unstructured.Unstructured
	for _, k := range keys {
		b, err := yaml.YAMLToJSON([]byte(docs[k]))
		if err != nil {
			return nil, fmt.Errorf("the rendered manifests are not valid YAML: %w", err)
		}
		if string(b) == "null" {
			continue
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(b); err != nil {
			return nil, fmt.Errorf("the rendered manifests hold something that is no Kubernetes object: %w", err)
		}
		out = append(out, u)
	}
	return out, nil
}
