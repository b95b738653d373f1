package publish

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// scheme begins the url of every artifact in a registry.
	scheme = "oci://"
	// latest is the tag that is read where none is named.
	latest = "latest"
)

// tagForm is what a tag may be (OCI distribution spec, "Pulling manifests").
var tagForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// Ref names an artifact: oci://host[:port]/path[:tag][@digest].
type Ref struct {
	Repo name.Repository
	// Tag and Digest are empty where the url does not say them.
	Tag, Digest string
}

// ParseRef reads a url. Plain HTTP to other hosts than this one needs insecure. The error never quotes the url: people put passwords there.
func ParseRef(url string, insecure bool) (Ref, error) {
	path, ok := strings.CutPrefix(url, scheme)
	if !ok {
		return Ref{}, errors.New("the url must begin with oci://")
	}
	host, rest, _ := strings.Cut(path, "/")
	if strings.Contains(host, "@") {
		return Ref{}, errors.New("the url must not hold credentials: log in with docker login, or set TOWLINE_REGISTRY_CREDS")
	}
	if rest == "" || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return Ref{}, errors.New("the url must be oci://host/repository[:tag], with a dot or a port in the host")
	}
	rest, digest, pinned := strings.Cut(rest, "@")
	if _, err := v1.NewHash(digest); pinned && err != nil {
		return Ref{}, errors.New("what is behind the @ of the url must be a digest, sha256:<64 hex digits>")
	}
	rest, tag, tagged := strings.Cut(rest, ":")
	if tagged {
		if err := CheckTag(tag); err != nil {
			return Ref{}, err
		}
	}
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(host+"/"+rest, opts...)
	if err != nil {
		return Ref{}, fmt.Errorf("the url names no repository: %w", err)
	}
	return Ref{Repo: repo, Tag: tag, Digest: digest}, nil
}

// CheckTag says what is wrong with a tag.
func CheckTag(tag string) error {
	switch {
	case tagForm.MatchString(tag):
		return nil
	case strings.Contains(tag, "+"):
		return fmt.Errorf("the tag %q holds a +, which registries do not take: write %q, it is read as the same version", tag, strings.ReplaceAll(tag, "+", "_"))
	}
	return fmt.Errorf("%q is no tag: want up to 128 letters, digits, dots, dashes and underscores, not beginning with a dot or a dash", tag)
}

// orLatest names the tag that is meant where none is given.
func (r Ref) orLatest() Ref {
	if r.Tag == "" && r.Digest == "" {
		r.Tag = latest
	}
	return r
}

// String is the reference as a url.
func (r Ref) String() string {
	s := scheme + r.Repo.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}
