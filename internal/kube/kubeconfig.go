package kube

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// connect builds the clients of a kubeconfig.
func connect(ref reference, text []byte) (*Clients, error) {
	cfg, err := parse(ref, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	cfg.Wrap(named(ref.String()))
	c, err := New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return c, nil
}

// parse reads a kubeconfig. Its errors hold nothing that may be a credential.
func parse(ref reference, text []byte) (*rest.Config, error) {
	all, err := clientcmd.Load(text)
	if err != nil {
		return nil, errors.New("it is no kubeconfig (what is wrong is not shown, since it may quote a credential)")
	}
	one, err := choose(all, ref.context)
	if err != nil {
		return nil, err
	}
	if ref.file != "" {
		if err := resolve(one, ref.file); err != nil {
			return nil, err
		}
	}
	for _, c := range one.Clusters {
		if err := checkCluster(c, ref.file != ""); err != nil {
			return nil, err
		}
	}
	for _, u := range one.AuthInfos {
		if err := checkUser(u, ref.file != ""); err != nil {
			return nil, err
		}
	}
	// Not the loader of Load: that one turns to the pod's own account where a kubeconfig is empty.
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*one, one.CurrentContext, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	return tune(cfg), nil
}

// choose keeps what one context names: nothing else of the kubeconfig is looked at.
func choose(all *api.Config, context string) (*api.Config, error) {
	if context == "" {
		context = all.CurrentContext
	}
	if context == "" {
		return nil, errors.New("it has no current-context: name one in kubeConfig.context")
	}
	c, ok := all.Contexts[context]
	if !ok {
		return nil, fmt.Errorf("it has no context %q", context)
	}
	cluster, ok := all.Clusters[c.Cluster]
	if !ok {
		return nil, fmt.Errorf("its context %q names the cluster %q, which it does not have", context, c.Cluster)
	}
	user, ok := all.AuthInfos[c.AuthInfo]
	if !ok && c.AuthInfo != "" {
		return nil, fmt.Errorf("its context %q names the user %q, which it does not have", context, c.AuthInfo)
	}
	one := api.NewConfig()
	one.CurrentContext = context
	one.Contexts[context] = c
	one.Clusters[c.Cluster] = cluster
	if user != nil {
		one.AuthInfos[c.AuthInfo] = user
	}
	return one, nil
}

// resolve makes relative paths start at the folder of the kubeconfig, as kubectl does.
func resolve(cfg *api.Config, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	for _, c := range cfg.Clusters {
		c.LocationOfOrigin = file
	}
	for _, u := range cfg.AuthInfos {
		u.LocationOfOrigin = file
	}
	return clientcmd.ResolveLocalPaths(cfg)
}

// checkCluster refuses addresses that would put a password into errors and, in a kubeconfig from a Secret, files of the agent's machine: whoever may write a Secret of a namespace must
// not thereby read what the agent can.
func checkCluster(c *api.Cluster, trusted bool) error {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Host == "" && c.Server != "":
		return errors.New("its server is not an address: want https://host:port")
	case u.User != nil:
		return errors.New("its server holds a user name: put it into users[].user")
	}
	if c.ProxyURL != "" {
		if p, err := url.Parse(c.ProxyURL); err != nil || p.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, p.Scheme) {
			return errors.New("its proxy-url is not an address: want http://host:port, https://… or socks5://…")
		}
	}
	if !trusted && c.CertificateAuthority != "" {
		return inline("certificate-authority", "reads a file", "certificate-authority-data")
	}
	return nil
}

// checkUser refuses, in a kubeconfig from a Secret, programs and files of the agent's machine.
func checkUser(u *api.AuthInfo, trusted bool) error {
	switch {
	case trusted:
		return nil
	case u.Exec != nil:
		return inline("exec", "runs a program", "a token, or client-certificate-data and client-key-data,")
	case u.AuthProvider != nil:
		return inline("auth-provider", "runs a plugin", "a token, or client-certificate-data and client-key-data,")
	case u.TokenFile != "":
		return inline("tokenFile", "reads a file", "token")
	case u.ClientCertificate != "":
		return inline("client-certificate", "reads a file", "client-certificate-data")
	case u.ClientKey != "":
		return inline("client-key", "reads a file", "client-key-data")
	}
	return nil
}

func inline(field, does, instead string) error {
	return fmt.Errorf("its %s %s on the agent's machine, which a kubeconfig from a Secret may not: put %s in its place, or name the kubeconfig by kubeConfig.file", field, does, instead)
}
