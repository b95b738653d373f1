package main

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/towline/towline/internal/artifact"
	"github.com/towline/towline/internal/deploy"
)

// pullSecrets finds the credentials that a source names.
type pullSecrets struct{ client kubernetes.Interface }

// keychain reads the source's secretRef in the source's namespace.
func (p pullSecrets) keychain(ctx context.Context, s deploy.Source) (authn.Keychain, error) {
	ref := s.Spec.SecretRef
	secret, err := p.client.CoreV1().Secrets(s.Name.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read secretRef %s/%s: %w", s.Name.Namespace, ref.Name, err)
	}
	data, ok := secret.Data[corev1.DockerConfigJsonKey]
	if !ok {
		return nil, fmt.Errorf("secretRef %s/%s: no key %s: want a Secret of type %s (kubectl create secret docker-registry makes one)",
			s.Name.Namespace, ref.Name, corev1.DockerConfigJsonKey, corev1.SecretTypeDockerConfigJson)
	}
	keychain, err := artifact.DockerConfigKeychain(data)
	if err != nil {
		return nil, fmt.Errorf("secretRef %s/%s: %w", s.Name.Namespace, ref.Name, err)
	}
	return keychain, nil
}
