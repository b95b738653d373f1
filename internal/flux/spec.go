package flux

import (
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
)

// sourceTimeout is Flux's default and ours: it need not be written.
const sourceTimeout = time.Minute

// source is the spec as Flux takes it.
func (w *writer) source(s deploy.Source) any {
	spec := s.Spec
	unless(&spec.Timeout, sourceTimeout)
	if l := spec.LayerSelector; l != nil && *l == (deploy.LayerSelector{Operation: deploy.OperationExtract}) {
		spec.LayerSelector = nil
	}
	if spec.Provider == deploy.ProviderGeneric {
		spec.Provider = ""
	}
	if r := spec.Receiver; r != nil {
		as := r.Type
		if as == deploy.ReceiverDistribution {
			as = deploy.ReceiverGeneric
		}
		w.lose("receiver", "is an object of its own in Flux: left out; make a Receiver of type "+as+" whose resources name this OCIRepository")
		spec.Receiver = nil
	}
	if spec.Verify != nil {
		v := *spec.Verify
		w.verify(&v)
		spec.Verify = &v
	}
	if spec.Timeout == nil {
		return spec
	}
	return struct { // Flux takes no hours here
		deploy.SourceSpec
		Timeout string `json:"timeout"`
	}{spec, inMinutes(spec.Timeout.Duration)}
}

func inMinutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

// verify puts Secrets in the place of files. Without them Flux would take any keyless signature.
func (w *writer) verify(v *deploy.Verify) {
	secret := &deploy.LocalRef{Name: w.entry.Name + "-verify"}
	moved := func(field, as string) {
		w.lose("verify."+field, fmt.Sprintf("is on this machine, and Flux reads Secrets only: put it into Secret %s/%s %s", w.entry.Namespace, secret.Name, as))
	}
	files := func(paths []string, field, as string) {
		switch {
		case len(paths) == 0:
		case v.SecretRef != nil && v.SecretRef != secret:
			w.lose("verify."+field, "is on this machine, and Flux reads Secrets only: put it into Secret "+w.entry.Namespace+"/"+v.SecretRef.Name+" "+as)
		default:
			v.SecretRef = secret
			moved(field, as)
		}
	}
	files(v.Keys, "keys", "under names that end .pub")
	files(v.Certificates, "certificates", "under names that end .pem")
	if v.TrustPolicy != "" {
		files([]string{v.TrustPolicy}, "trustPolicy", "as trustpolicy.json")
	}
	if v.TrustedRoot != "" {
		v.TrustedRootSecretRef = secret
		moved("trustedRoot", "as trusted_root.json")
	}
	v.Keys, v.Certificates, v.TrustPolicy, v.TrustedRoot = nil, nil, "", ""
}

// kustomization is the spec as Flux takes it.
func (w *writer) kustomization(t deploy.Target) any {
	spec := *t.Kustomization
	spec.SourceRef = w.reference(t.Source)
	if spec.Path == "." {
		spec.Path = ""
	}
	if spec.RetryInterval != nil && spec.Interval != nil && *spec.RetryInterval == *spec.Interval {
		spec.RetryInterval = nil
	}
	if spec.DeletionPolicy == deploy.DeletionMirrorPrune {
		spec.DeletionPolicy = ""
	}
	spec.DependsOn = w.dependencies(t)
	if spec.Wait && len(spec.HealthChecks) > 0 {
		w.lose("healthChecks", "are passed over by Flux where wait is set: written all the same")
	}
	if k := spec.KubeConfig; k != nil {
		spec.KubeConfig = w.kubeConfig(*k)
		spec.Suspend = spec.Suspend || k.Context != ""
	}
	if p := spec.PostBuild; p != nil {
		post := *p
		post.SubstituteFrom = w.substituteFrom(p.SubstituteFrom)
		post.SubstituteStrategy = other(post.SubstituteStrategy, deploy.SubstituteWithVariables)
		spec.PostBuild = &post
	}
	if d := spec.Decryption; d != nil && len(d.Keys) > 0 {
		own := *d
		if own.SecretRef == nil {
			own.SecretRef = &deploy.LocalRef{Name: w.entry.Name + "-decryption"}
		}
		own.Keys = nil
		w.lose("decryption.keys", fmt.Sprintf("are on this machine, and Flux reads Secrets only: put them into Secret %s/%s under names that end .agekey or .asc", w.entry.Namespace, own.SecretRef.Name))
		spec.Decryption = &own
	}
	return struct { // Flux wants prune written in any case
		deploy.KustomizationSpec
		Prune bool `json:"prune"`
	}{spec, spec.Prune}
}

// kubeConfig puts a Secret in the place of a file: without it Flux would apply to its own cluster.
func (w *writer) kubeConfig(k deploy.KubeConfig) *deploy.KubeConfig {
	if k.File != "" {
		k.SecretRef = &deploy.SecretKeyRef{Name: w.entry.Name + "-kubeconfig"}
		k.File = ""
		w.lose("kubeConfig.file", fmt.Sprintf("is on this machine, and Flux reads Secrets only: put it into Secret %s/%s under the key value", w.entry.Namespace, k.SecretRef.Name))
	}
	if k.Context != "" {
		k.Context = ""
		w.lose("kubeConfig.context", "has no counterpart in Flux, which takes the current one: written suspended, make it the current one and resume")
	}
	return &k
}

// substituteFrom puts Secrets in the place of files: without them Flux would put empty texts into the objects.
func (w *writer) substituteFrom(from []deploy.SubstituteFrom) (out []deploy.SubstituteFrom) {
	for i, f := range from {
		if f.File != "" {
			f = deploy.SubstituteFrom{Kind: "Secret", Name: fmt.Sprintf("%s-substitute-%d", w.entry.Name, i), Optional: f.Optional}
			w.lose(fmt.Sprintf("postBuild.substituteFrom[%d].file", i),
				fmt.Sprintf("is on this machine, and Flux reads objects only: put its variables into Secret %s/%s", w.entry.Namespace, f.Name))
		}
		out = append(out, f)
	}
	return out
}

// reference names a source as Flux does.
func (w *writer) reference(source deploy.Name) deploy.SourceRef {
	return deploy.SourceRef{Kind: deploy.KindSource, Name: source.Name, Namespace: other(source.Namespace, w.entry.Namespace)}
}

// dependencies are those of the same kind: Flux knows no others.
func (w *writer) dependencies(t deploy.Target) (out []deploy.DependsOn) {
	for _, d := range t.DependsOn {
		if d.Kind != t.Name.Kind {
			w.lose("dependsOn "+d.Short(w.entry.Namespace), "is of another kind, which Flux cannot wait for: left out")
			continue
		}
		out = append(out, deploy.DependsOn{Name: d.Name, Namespace: other(d.Namespace, w.entry.Namespace), ReadyExpr: t.ReadyExprs[d]})
	}
	return out
}

// unless leaves out a duration that is the default.
func unless(d **metav1.Duration, fallback time.Duration) {
	if *d != nil && (*d).Duration == fallback {
		*d = nil
	}
}

// other is v, unless that is the default.
func other[T comparable](v, fallback T) T {
	var zero T
	if v == fallback {
		return zero
	}
	return v
}
