package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// probeTimeout is for one request: a component that hangs must not eat the whole start.
	probeTimeout = 5 * time.Second
	// probeBodyLimit is in bytes: /readyz lists its failed checks.
	probeBodyLimit = 4 << 10
)

// prober asks health endpoints, as administrator.
type prober struct{ client *http.Client }

func newProber(keys *pki) (*prober, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(keys.ca.cert) {
		return nil, errors.New("read the own CA certificate")
	}
	certificate, err := tls.X509KeyPair(keys.admin.cert, keys.admin.key)
	if err != nil {
		return nil, fmt.Errorf("read the administrator's certificate: %w", err)
	}
	return &prober{client: &http.Client{
		Timeout: probeTimeout,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true,
		},
	}}, nil
}

// http returns a probe that succeeds when the URL answers 200.
func (p *prober) http(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := p.client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		body, _ := io.ReadAll(io.LimitReader(response.Body, probeBodyLimit))
		return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
	}
}

// usability asks the API for what controllers must have done before a Pod can run.
type usability struct {
	client    kubernetes.Interface
	nodeCount int
}

func newUsability(apiServer port, keys *pki, nodeCount int) (*usability, error) {
	client, err := kubernetes.NewForConfig(restConfig(apiServer, keys, keys.admin, "towline-test-cluster"))
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &usability{client: client, nodeCount: nodeCount}, nil
}

// defaultServiceAccount succeeds when Pods of the namespace default can be admitted.
func (u *usability) defaultServiceAccount(ctx context.Context) error {
	_, err := u.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err
}

// nodes succeeds when Pods can be scheduled on every node.
func (u *usability) nodes(ctx context.Context) error {
	list, err := u.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(list.Items) < u.nodeCount {
		return fmt.Errorf("%d of %d nodes are registered", len(list.Items), u.nodeCount)
	}
	for _, node := range list.Items {
		for _, taint := range node.Spec.Taints {
			if taint.Key == corev1.TaintNodeNotReady {
				return fmt.Errorf("node %s has the taint %s", node.Name, taint.Key)
			}
		}
	}
	return nil
}
