package config

import (
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

// checkKubeConfig checks which cluster a target is for.
func (e *entry) checkKubeConfig(c *deploy.KubeConfig) {
	const path = "kubeConfig"
	e.checkFileInFull(path+".file", c.File)
	if c.Context == "" {
		e.emptyIfWritten(path+".context", "want the name of a context, or drop it for the current one")
	}
	if r := c.SecretRef; r != nil {
		e.checkSecretRef(path+".secretRef", &deploy.LocalRef{Name: r.Name})
		switch key := r.Key; {
		case key == "":
			e.emptyIfWritten(path+".secretRef.key", "want a key of the Secret, or drop it for value, else value.yaml")
		case len(validation.IsConfigMapKey(key)) > 0:
			e.bad(path+".secretRef.key", "%q is not a key of a Secret: want letters, digits, - _ and .", key)
		}
	}
	switch n := count(c.SecretRef != nil, c.File != ""); {
	case n > 1:
		e.bad(path, "says twice where the kubeconfig is: want secretRef or file")
	case n == 0 && !e.brokenBelow(path) && !e.anyWritten(path, "file"):
		e.bad(path, "does not say where the kubeconfig is: want secretRef or file")
	}
}
