package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/towline/towline/internal/applier"
	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/helm"
	"github.com/towline/towline/internal/kube"
)

// engines bring targets to their state, or say what would change: one per kind.
type engines struct {
	manifests *applier.Engine
	releases  *helm.Engine
}

// newEngines builds them over the agent's own clients; its state is in the namespace. No request is made.
func newEngines(clients *kube.Clients, namespace string, log *zap.Logger) engines {
	own := values{clients.Kubernetes}
	clusters := kube.NewPool(clients, own.secret)
	return engines{
		manifests: applier.New(applier.Options{
			Clients:   clients,
			Clusters:  clusters,
			Builder:   build.New(build.Options{Read: own.read}),
			Namespace: namespace,
			Log:       log,
		}),
		releases: helm.New(helm.Options{Clients: clients, Clusters: clusters, Read: own.read, Patch: build.Patch, Log: log}),
	}
}

// values reads what targets name in the cluster: variables, keys, kubeconfigs. Its errors are those of the API server.
type values struct{ client kubernetes.Interface }

func (v values) read(ctx context.Context, kind, namespace, name string) (map[string][]byte, error) {
	switch kind {
	case "Secret":
		return v.secret(ctx, namespace, name)
	case "ConfigMap":
		return v.configMap(ctx, namespace, name)
	}
	return nil, fmt.Errorf("a %s holds no values: want a ConfigMap or a Secret", kind) // the config lets no other kind pass
}

func (v values) secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	s, err := v.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return s.Data, nil
}

func (v values) configMap(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	cm, err := v.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, text := range cm.Data {
		out[k] = []byte(text)
	}
	maps.Copy(out, cm.BinaryData)
	return out, nil
}

// needsValues reports whether building a target asks the cluster for something.
func needsValues(t deploy.Target) bool {
	if h := t.HelmRelease; h != nil {
		return slices.ContainsFunc(h.ValuesFrom, func(f deploy.ValuesFrom) bool { return f.File == "" })
	}
	k := t.Kustomization
	if k.Decryption != nil && k.Decryption.SecretRef != nil {
		return true
	}
	if k.PostBuild != nil {
		for _, from := range k.PostBuild.SubstituteFrom {
			if from.File == "" {
				return true
			}
		}
	}
	return false
}
