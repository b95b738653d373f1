package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// DockerConfigKeychain reads the .dockerconfigjson of a Secret of type kubernetes.io/dockerconfigjson. Hosts may be written with or without scheme and path,
// and with patterns such as *.example.com, as the kubelet has it: each * is within one label. Of several that fit a repository, the longest path wins, and at
// equal paths the one without a pattern. Errors never quote the content.
func DockerConfigKeychain(raw []byte) (authn.Keychain, error) {
	var conf struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	if err := json.Unmarshal(raw, &conf); err != nil {
		return nil, errors.New("not a docker config: want JSON of the form {\"auths\": {\"host\": {…}}}")
	}
	if conf.Auths == nil {
		return nil, errors.New("not a docker config: it has no \"auths\"")
	}
	k := dockerConfig{}
	for _, host := range slices.Sorted(maps.Keys(conf.Auths)) { // of several names for one place the first counts, and always the same
		raw := conf.Auths[host]
		var a authn.AuthConfig
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, fmt.Errorf("docker config: auths[%q]: the entry is no object, or its auth is not base64 of user:password", host)
		}
		if k[place(host)] == (authn.AuthConfig{}) {
			k[place(host)] = a
		}
	}
	return k, nil
}

// dockerConfig is credentials by place.
type dockerConfig map[string]authn.AuthConfig

// Resolve finds the credentials for a repository; none are anonymous.
func (k dockerConfig) Resolve(r authn.Resource) (authn.Authenticator, error) {
	for p := place(r.String()); ; {
		if a := k.at(p); a != (authn.AuthConfig{}) {
			return authn.FromConfig(a), nil
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return authn.Anonymous, nil
		}
		p = p[:i]
	}
}

// at is the credentials for just this place; none are the zero ones.
func (k dockerConfig) at(p string) authn.AuthConfig {
	if a := k[p]; a != (authn.AuthConfig{}) {
		return a
	}
	for _, pattern := range slices.Sorted(maps.Keys(k)) {
		if strings.ContainsAny(pattern, "*?") && k[pattern] != (authn.AuthConfig{}) && fits(pattern, p) {
			return k[pattern]
		}
	}
	return authn.AuthConfig{}
}

// fits compares a place with a pattern: the labels of the host one by one, port and path exactly.
func fits(pattern, p string) bool {
	wantHost, wantPath, _ := strings.Cut(pattern, "/")
	host, at, _ := strings.Cut(p, "/")
	wantHost, wantPort, _ := strings.Cut(wantHost, ":")
	host, port, _ := strings.Cut(host, ":")
	labels := strings.Split(host, ".")
	return wantPath == at && wantPort == port && slices.EqualFunc(strings.Split(wantHost, "."), labels, func(want, label string) bool {
		ok, err := path.Match(want, label)
		return ok && err == nil
	})
}

// place brings a host as people write it into one form: host[:port][/path].
func place(s string) string {
	s = withoutScheme(s)
	_, below, _ := strings.Cut(s, "/")
	host := DockerHost(s)
	below = strings.Trim(below, "/")
	if below == "" || below == "v1" || below == "v2" { // API versions that docker login writes
		return host
	}
	return host + "/" + below
}

// DockerHost is host[:port] of a host as people write it into a docker config, lower-case. Docker Hub has many names.
func DockerHost(s string) string {
	host, _, _ := strings.Cut(withoutScheme(s), "/")
	switch host = strings.ToLower(host); host {
	case "docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return name.DefaultRegistry
	}
	return host
}

func withoutScheme(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		return rest
	}
	return s
}
