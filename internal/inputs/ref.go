// Package inputs says when something that targets are made of, beside their artifact, has changed: ConfigMaps, Secrets and files that they name.
package inputs

import (
	"slices"

	"github.com/towline/towline/internal/deploy"
)

// ref names one input: an object of the agent's own cluster, or a file on its machine.
type ref struct {
	kind, namespace, name string
	file                  string
}

const (
	kindConfigMap = "ConfigMap"
	kindSecret    = "Secret"
)

// String is Kind/namespace/name, or the path of a file.
func (r ref) String() string {
	if r.file != "" {
		return r.file
	}
	return r.kind + "/" + r.namespace + "/" + r.name
}

// refsOf are the inputs of a target, each once.
func refsOf(t deploy.Target) []ref {
	var refs []ref
	add := func(kind, name, file string) {
		r := ref{kind: kind, namespace: t.Name.Namespace, name: name}
		if file != "" {
			r = ref{file: file}
		}
		if !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	if _, k := t.Access(); k != nil {
		if k.SecretRef != nil {
			add(kindSecret, k.SecretRef.Name, "")
		} else {
			add("", "", k.File)
		}
	}
	if k := t.Kustomization; k != nil {
		if k.PostBuild != nil {
			for _, from := range k.PostBuild.SubstituteFrom {
				add(from.Kind, from.Name, from.File)
			}
		}
		if k.Decryption != nil {
			if k.Decryption.SecretRef != nil {
				add(kindSecret, k.Decryption.SecretRef.Name, "")
			}
			for _, file := range k.Decryption.Keys {
				add("", "", file)
			}
		}
	}
	if h := t.HelmRelease; h != nil {
		for _, from := range h.ValuesFrom {
			add(from.Kind, from.Name, from.File)
		}
	}
	return refs
}
