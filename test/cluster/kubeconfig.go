package main

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// restConfig is how a holder of this client certificate talks to the apiserver. There is no client-side rate limit.
func restConfig(apiServer port, keys *pki, identity keyPair, userAgent string) *rest.Config {
	return &rest.Config{
		Host:            "https://" + apiServer.host(),
		TLSClientConfig: rest.TLSClientConfig{CAData: keys.ca.cert, CertData: identity.cert, KeyData: identity.key},
		UserAgent:       userAgent,
		QPS:             -1,
	}
}

// kubeconfig is the same as a file that needs no other file.
func kubeconfig(apiServer port, keys *pki, identity keyPair) ([]byte, error) {
	const name = "towline-test-cluster"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: "https://" + apiServer.host(), CertificateAuthorityData: keys.ca.cert}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: identity.cert, ClientKeyData: identity.key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	content, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("encode a kubeconfig: %w", err)
	}
	return content, nil
}

// writeAtomically makes the file appear with its whole content or not at all, readable by its owner only.
func writeAtomically(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	if _, err := file.Write(content); err != nil {
		file.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
