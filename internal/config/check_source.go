package config

import (
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/towline/towline/internal/deploy"
)

var (
	// From the OCI distribution spec, section "Pulling manifests".
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	hostPattern       = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$`)
)

// maxRepository is the limit that registries and their clients keep, in characters.
const maxRepository = 255

func (e *entry) checkSource(s *deploy.SourceSpec) {
	e.checkURL(s.URL)
	e.checkDuration("interval", &s.Interval)
	e.checkDuration("timeout", s.Timeout)
	e.checkSecretRef("secretRef", s.SecretRef)
	if s.Ref != nil {
		e.checkRef(s.Ref)
	}
	if s.LayerSelector != nil {
		e.oneOf("layerSelector.operation", s.LayerSelector.Operation, deploy.OperationExtract, deploy.OperationCopy)
	}
}

func (e *entry) checkRef(r *deploy.Ref) {
	if r.Tag != "" && !tagPattern.MatchString(r.Tag) {
		e.bad("ref.tag", "%q is not a tag: want at most 128 letters, digits, dots, underscores and dashes", r.Tag)
	}
	if r.Semver != "" {
		if _, err := semver.NewConstraint(r.Semver); err != nil {
			e.bad("ref.semver", "%q is not a version constraint: want something like >=1.2.0 <2.0.0, ~1.2 or 1.x", r.Semver)
		}
	}
	if r.SemverFilter != "" {
		if _, err := regexp.Compile(r.SemverFilter); err != nil {
			e.bad("ref.semverFilter", "not a regular expression: %v", err)
		}
		if r.Semver == "" {
			e.bad("ref.semverFilter", `has no effect without semver: add semver: "*" or drop it`)
		}
	}
	e.checkSHA256("ref.digest", r.Digest)
}

// checkURL wants oci://host[:port]/repository and nothing else. Messages do not repeat credentials.
func (e *entry) checkURL(s string) {
	const want = "want oci://host/repository"
	if s == "" {
		if _, written := e.places["url"]; written {
			e.bad("url", "is empty: %s", want)
		}
		return
	}
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		e.bad("url", "has no scheme: %s", want)
		return
	}
	if scheme != "oci" {
		e.bad("url", "the scheme %s is not read: %s; publish what is in Git, a bucket or a Helm repository as an OCI artifact", scheme, want)
		return
	}
	if strings.Contains(rest, "@") {
		if u, err := url.Parse("oci://" + rest); err == nil && u.User == nil && strings.Contains(u.Path, "@") {
			e.bad("url", "holds a digest: move it to ref.digest")
		} else {
			e.bad("url", "holds credentials: put them in a Secret and name it in secretRef")
		}
		return
	}
	host, repository, _ := strings.Cut(rest, "/")
	if e.checkHost(host) {
		e.checkRepository(repository)
	}
}

// checkHost wants what cannot be mistaken for a part of a path: a host without dot and port would be looked for on Docker Hub.
func (e *entry) checkHost(host string) bool {
	name := host
	if strings.Contains(host, ":") {
		h, port, err := net.SplitHostPort(host)
		n, perr := strconv.Atoi(port)
		if err != nil || perr != nil || n < 1 || n > 65535 {
			e.bad("url", "%q is not host:port", host)
			return false
		}
		name = h
		if strings.Contains(name, ":") { // IPv6, its brackets are gone
			if net.ParseIP(name) == nil {
				e.bad("url", "%q is not an address", host)
				return false
			}
			return true
		}
	} else if !strings.Contains(host, ".") && host != "localhost" {
		e.bad("url", "%q is not a registry: want a host with a dot or a port, such as docker.io or %s:5000", host, host)
		return false
	}
	if !hostPattern.MatchString(name) {
		e.bad("url", "%q is not a host name", name)
		return false
	}
	return true
}

func (e *entry) checkRepository(repository string) {
	if repository == "" {
		e.bad("url", "has no repository: want oci://host/repository")
		return
	}
	if before, tag, found := strings.Cut(repository, ":"); found && tagPattern.MatchString(tag) {
		e.bad("url", "holds the tag %s: write %q as the repository and move the tag to ref.tag", tag, before)
		return
	}
	if lower := strings.ToLower(repository); lower != repository && repositoryPattern.MatchString(lower) {
		e.bad("url", "a repository is lower-case: %s", lower)
		return
	}
	if len(repository) > maxRepository {
		e.bad("url", "the repository has %d characters: registries allow %d", len(repository), maxRepository)
		return
	}
	if !repositoryPattern.MatchString(repository) {
		e.bad("url", "%q is not a repository: want lower-case letters, digits, and single . _ - between them, separated by /", repository)
	}
}
