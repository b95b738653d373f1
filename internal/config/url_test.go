package config

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/towline/towline/internal/deploy"
)

func TestAcceptedPaths(t *testing.T) {
	for _, s := range []string{"oci-layout:///media/usb/podinfo.tar", "oci-layout:///media/usb/podinfo/", "file:///srv/manifests", "file:///srv/a b:c%20.yaml"} {
		t.Run(s, func(t *testing.T) {
			if said := urlProblem(s); said != "" {
				t.Errorf("refused: %s", said)
			}
		})
	}
}

// urlProblem is what checkURL says of a URL; empty if it is accepted.
func urlProblem(s string) string {
	var said []string
	e := &entry{kind: deploy.KindSource, places: map[string]place{"url": {}}, report: func(_ place, text string) { said = append(said, text) }}
	e.checkURL(s)
	return strings.Join(said, "; ")
}

// What passes here must mean to the registry client what it says: the same host, the same repository.
func TestAcceptedURLsMeanTheSameToTheRegistryClient(t *testing.T) {
	for _, s := range []string{
		"oci://ghcr.io/stefanprodan/manifests/podinfo", "oci://localhost/app", "oci://localhost:5000/a/b/c", "oci://127.0.0.1:5000/app", "oci://[::1]:5000/app",
		"oci://registry.kube-system.svc.cluster.local/app", "oci://registry:5000/app", "oci://quay.io/a/b__c/d.e-f", "oci://r.io/a--b", "oci://r.io:443/1",
	} {
		t.Run(s, func(t *testing.T) {
			if said := urlProblem(s); said != "" {
				t.Fatalf("refused: %s", said)
			}
			rest := strings.TrimPrefix(s, "oci://")
			host, path, _ := strings.Cut(rest, "/")
			r, err := name.NewRepository(rest, name.StrictValidation)
			if err != nil {
				t.Fatal(err)
			}
			if r.RegistryStr() != host || r.RepositoryStr() != path {
				t.Errorf("the client reads %s and %s", r.RegistryStr(), r.RepositoryStr())
			}
		})
	}
}

func TestRefusedURLs(t *testing.T) {
	for s, want := range map[string]string{
		"oci://":                                 `"" is not a registry`,
		"oci:///app":                             `"" is not a registry`,
		"oci://r.io/":                            "has no repository",
		"oci://r.io//app":                        "is not a repository",
		"oci://r.io/app/":                        "is not a repository",
		"oci://r.io/../app":                      "is not a repository",
		"oci://r.io/a b":                         "is not a repository",
		"oci://r.io/app?x=y":                     "is not a repository",
		"oci://r.io/app#x":                       "is not a repository",
		"oci://r.io/app:latest":                  "holds the tag latest",
		"oci://r.io:0/app":                       "is not host:port",
		"oci://r.io:/app":                        "is not host:port",
		"oci://:5000/app":                        "is not a host name",
		"oci://-r.io/app":                        "is not a host name",
		"oci://r_.io/app":                        "is not a host name",
		"oci://user@r.io/app":                    "holds credentials",
		"oci://user:p%ss@r.io/app":               "holds credentials",
		"OCI://r.io/app":                         "the scheme OCI is not read",
		"docker://r.io/app":                      "the scheme docker is not read",
		" oci://r.io/app":                        "is not read",
		"oci-layuot:///usb":                      "the scheme oci-layuot is not read: did you mean oci-layout://?",
		"oci-layout://usb/app":                   "the path is not absolute: want oci-layout:///path",
		"oci-layout:///":                         "names the whole disk",
		"oci-layout:///usb/../etc":               "write oci-layout:///etc",
		"oci-layout:///usb/app.tar:v1":           "end the path with app.tar and move the tag to ref.tag",
		"oci-layout:///usb/app@sha256:0":         "move it to ref.digest",
		"file://localhost/srv":                   "the path is not absolute",
		"file://.":                               "the path is not absolute",
		"file:///srv\n/x":                        "has a line break",
		"/srv/manifests":                         "has no scheme",
		"user:p%ss@r.io/x?y://z":                 "has no scheme that is read",
		"oci://r.io/" + strings.Repeat("a", 256): "the repository has 256 characters",
	} {
		t.Run(s, func(t *testing.T) {
			if said := urlProblem(s); !strings.Contains(said, want) || strings.Contains(said, "p%ss") {
				t.Errorf("said %q, want %q in it", said, want)
			}
		})
	}
}
