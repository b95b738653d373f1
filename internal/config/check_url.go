package config

import (
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The schemes of a source's url.
const (
	schemeOCI    = "oci"
	schemeLayout = "oci-layout" // an OCI image layout on this machine
	schemeFile   = "file"       // manifests on this machine
)

var urlSchemes = []string{schemeOCI, schemeLayout, schemeFile}

var (
	// From the OCI distribution spec, section "Pulling manifests".
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	hostPattern       = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$`)
	// schemePattern is what is quoted as a scheme; whatever else stands before :// may be a part of credentials.
	schemePattern = regexp.MustCompile(`^[ a-zA-Z0-9.-]*$`)
)

// maxRepository is the limit that registries and their clients keep, in characters.
const maxRepository = 255

const (
	wantRepository = "want oci://host/repository"
	wantURL        = wantRepository + ", or without a registry oci-layout:///path or file:///path"
)

// checkURL wants oci://host[:port]/repository, oci-layout:///path or file:///path, and nothing else. Messages do not repeat credentials.
func (e *entry) checkURL(s string) {
	if s == "" {
		e.emptyIfWritten("url", wantURL)
		return
	}
	scheme, rest, found := strings.Cut(s, "://")
	switch {
	case !found:
		e.bad("url", "has no scheme: %s", wantURL)
	case scheme == schemeOCI:
		e.checkRepositoryURL("url", rest)
	case scheme == schemeLayout, scheme == schemeFile:
		e.checkLocalURL(scheme, rest)
	case !schemePattern.MatchString(scheme):
		e.bad("url", "has no scheme that is read: %s", wantURL)
	default:
		if n := nearest(strings.TrimSpace(scheme), urlSchemes); n != "" {
			e.bad("url", "the scheme %s is not read: did you mean %s://?", scheme, n)
			return
		}
		e.bad("url", "the scheme %s is not read: %s; publish what is in Git, a bucket or a Helm repository as an OCI artifact", scheme, wantRepository)
	}
}

// checkMirrors wants registries that are neither the url nor one another.
func (e *entry) checkMirrors(mirrors []string, sourceURL string) {
	seen := map[string]bool{}
	for i, m := range mirrors {
		at, folded := item("mirrors", i), strings.ToLower(m) // hosts have no case, repositories are lower-case
		rest, found := strings.CutPrefix(m, schemeOCI+"://")
		switch {
		case m == "":
			e.emptyIfWritten(at, wantRepository)
		case !found:
			e.bad(at, "is not a registry: %s", wantRepository)
		case folded == strings.ToLower(sourceURL):
			e.bad(at, "is the url itself: drop it")
		case seen[folded]:
			e.bad(at, "is listed twice")
		default:
			e.checkRepositoryURL(at, rest)
		}
		seen[folded] = true
	}
}

// checkLocalURL wants an absolute path, which is taken as it is: nothing is decoded and no host is read.
func (e *entry) checkLocalURL(scheme, p string) {
	last := p[strings.LastIndexByte(p, '/')+1:]
	name, tag, colon := strings.Cut(last, ":")
	switch {
	case strings.ContainsAny(p, "\x00\n\r"):
		e.bad("url", "has a line break or a NUL character")
	case !strings.HasPrefix(p, "/"):
		e.bad("url", "the path is not absolute: want %s:///path, with three slashes", scheme)
	case path.Clean(p) == "/":
		e.bad("url", "names the whole disk: want %s:///path of a folder or an archive", scheme)
	case slices.Contains(strings.Split(p, "/"), ".."):
		e.bad("url", "the path goes up with ..: write %s://%s", scheme, path.Clean(p))
	case strings.Contains(last, "@sha256:"):
		e.bad("url", "holds a digest: move it to ref.digest")
	case colon && scheme == schemeLayout && tagPattern.MatchString(tag):
		e.bad("url", "holds the tag %s: end the path with %s and move the tag to ref.tag", tag, name)
	}
}

// checkRepositoryURL checks what stands behind oci://, of the url or of a mirror.
func (e *entry) checkRepositoryURL(at, rest string) {
	if strings.Contains(rest, "@") {
		u, err := url.Parse("oci://" + rest)
		switch {
		case err != nil || u.User != nil || !strings.Contains(u.Path, "@"):
			e.bad(at, "holds credentials: put them in a Secret and name it in secretRef")
		case at == "url":
			e.bad(at, "holds a digest: move it to ref.digest")
		default:
			e.bad(at, "holds a digest: drop it, the url says which one is wanted")
		}
		return
	}
	host, repository, _ := strings.Cut(rest, "/")
	if e.checkHost(at, host) {
		e.checkRepository(at, repository)
	}
}

// checkHost wants what cannot be mistaken for a part of a path: a host without dot and port would be looked for on Docker Hub.
func (e *entry) checkHost(at, host string) bool {
	name := host
	if strings.Contains(host, ":") {
		h, port, err := net.SplitHostPort(host)
		n, perr := strconv.Atoi(port)
		if err != nil || perr != nil || n < 1 || n > 65535 {
			e.bad(at, "%q is not host:port", host)
			return false
		}
		name = h
		if strings.Contains(name, ":") { // IPv6, its brackets are gone
			if net.ParseIP(name) == nil {
				e.bad(at, "%q is not an address", host)
				return false
			}
			return true
		}
	} else if !strings.Contains(host, ".") && host != "localhost" {
		e.bad(at, "%q is not a registry: want a host with a dot or a port, such as docker.io or %s:5000", host, host)
		return false
	}
	if !hostPattern.MatchString(name) {
		e.bad(at, "%q is not a host name", name)
		return false
	}
	return true
}

func (e *entry) checkRepository(at, repository string) {
	if repository == "" {
		e.bad(at, "has no repository: %s", wantRepository)
		return
	}
	if before, tag, found := strings.Cut(repository, ":"); found && tagPattern.MatchString(tag) {
		if at == "url" {
			e.bad(at, "holds the tag %s: write %q as the repository and move the tag to ref.tag", tag, before)
		} else {
			e.bad(at, "holds the tag %s: drop it, the url's ref says which one is wanted", tag)
		}
		return
	}
	if lower := strings.ToLower(repository); lower != repository && repositoryPattern.MatchString(lower) {
		e.bad(at, "a repository is lower-case: %s", lower)
		return
	}
	if len(repository) > maxRepository {
		e.bad(at, "the repository has %d characters: registries allow %d", len(repository), maxRepository)
		return
	}
	if !repositoryPattern.MatchString(repository) {
		e.bad(at, "%q is not a repository: want lower-case letters, digits, and single . _ - between them, separated by /", repository)
	}
}
