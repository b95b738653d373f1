package main

import (
	"context"
	"fmt"
	"io/fs"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/towline/towline/internal/artifact"
)

// secrets reads what sources and alerts name in the cluster.
type secrets struct{ client kubernetes.Interface }

var _ artifact.Secrets = secrets{}

// fromCache lets the API server answer from its watch cache: what is read at each poll costs it no trip to its database, and is seconds old at most.
var fromCache = metav1.GetOptions{ResourceVersion: "0"}

// Secret is the data of a Secret.
func (s secrets) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	secret, err := s.client.CoreV1().Secrets(namespace).Get(ctx, name, fromCache)
	if apierrors.IsNotFound(err) { // a server that has just started may not have heard of it: what is gone withdraws revisions
		secret, err = s.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return nil, named("secret", namespace, name, err)
	}
	return secret.Data, nil
}

// PullSecrets are the names of a service account's imagePullSecrets.
func (s secrets) PullSecrets(ctx context.Context, namespace, serviceAccount string) ([]string, error) {
	account, err := s.client.CoreV1().ServiceAccounts(namespace).Get(ctx, serviceAccount, fromCache)
	if apierrors.IsNotFound(err) { // as above
		account, err = s.client.CoreV1().ServiceAccounts(namespace).Get(ctx, serviceAccount, metav1.GetOptions{})
	}
	if err != nil {
		return nil, named("service account", namespace, serviceAccount, err)
	}
	return pullSecretNames(account), nil
}

func pullSecretNames(a *corev1.ServiceAccount) []string {
	names := make([]string, len(a.ImagePullSecrets))
	for i, ref := range a.ImagePullSecrets {
		names[i] = ref.Name
	}
	return names
}

// named says which object an error is about, and lets one that is not there be told from one that cannot be read just now.
func named(kind, namespace, name string, err error) error {
	if apierrors.IsNotFound(err) && !apierrors.IsUnexpectedServerError(err) { // a proxy's 404 is no word of the API server
		return fmt.Errorf("%s %s/%s %w", kind, namespace, name, errAbsent)
	}
	return fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, err)
}

// errAbsent is what is not in the cluster. It is fs.ErrNotExist in words that fit.
var errAbsent error = absent{}

type absent struct{}

func (absent) Error() string        { return "does not exist" }
func (absent) Is(target error) bool { return target == fs.ErrNotExist } //nolint:errorlint // this is what errors.Is asks
