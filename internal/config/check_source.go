package config

import (
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/towline/towline/internal/deploy"
)

func (e *entry) checkSource(s *deploy.SourceSpec) {
	e.checkURL(s.URL)
	e.checkMirrors(s.Mirrors, s.URL)
	e.checkDuration("interval", &s.Interval)
	e.checkDuration("timeout", s.Timeout)
	if s.Ref != nil {
		e.checkRef(s.Ref)
	}
	if s.AllowDowngrade && (s.Ref == nil || s.Ref.Semver == "") {
		e.bad("allowDowngrade", `has no effect without ref.semver: a tag is followed wherever it goes; add semver: "*" or drop it`)
	}
	copied := s.LayerSelector != nil && s.LayerSelector.Operation == deploy.OperationCopy
	if s.LayerSelector != nil {
		e.oneOf("layerSelector.operation", s.LayerSelector.Operation, deploy.OperationExtract, deploy.OperationCopy)
	}
	e.checkPlatform(s.Platform)
	if s.Ignore != nil {
		e.checkIgnore(*s.Ignore)
		if copied {
			e.bad("ignore", "has no effect with layerSelector.operation copy: a copied layer has no files to leave out")
		}
	}
	if s.Verify != nil {
		e.checkVerify(s.Verify)
	}
	e.checkAccess(s)
	if s.Receiver != nil {
		e.checkReceiver(s.Receiver, s.URL)
	}
	if scheme, _, found := strings.Cut(s.URL, "://"); found && (scheme == schemeLayout || scheme == schemeFile) {
		e.checkLocal(s, scheme)
	}
}

// checkLocal reports what is meant for a registry, where the url is a path.
func (e *entry) checkLocal(s *deploy.SourceSpec, scheme string) {
	type given struct {
		field string
		yes   bool
	}
	for _, f := range []given{
		{"mirrors", len(s.Mirrors) > 0},
		{"provider", s.Provider != "" && s.Provider != deploy.ProviderGeneric},
		{"secretRef", s.SecretRef != nil},
		{"serviceAccountName", s.ServiceAccountName != ""},
		{"credentialFiles", s.CredentialFiles != nil},
		{"certSecretRef", s.CertSecretRef != nil},
		{"certFiles", s.CertFiles != nil},
		{"proxySecretRef", s.ProxySecretRef != nil},
		{"insecure", s.Insecure},
	} {
		if f.yes {
			e.bad(f.field, "has no effect with %s://: no registry is asked; drop it", scheme)
		}
	}
	if scheme != schemeFile {
		return
	}
	for _, f := range []given{{"ref", s.Ref != nil}, {"layerSelector", s.LayerSelector != nil}, {"platform", s.Platform != ""}} {
		if f.yes {
			e.bad(f.field, "has no effect with file://: there are no tags, layers or platforms to choose from; drop it")
		}
	}
	if s.Verify != nil {
		e.bad("verify", "files bear no signature: publish them as a signed artifact, and take that from oci:// or oci-layout://")
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
		e.checkRegexp("ref.semverFilter", r.SemverFilter)
		if r.Semver == "" {
			e.bad("ref.semverFilter", `has no effect without semver: add semver: "*" or drop it`)
		}
	}
	e.checkSHA256("ref.digest", r.Digest)
}

var platformPattern = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9_.]+)?$`)

// The words of the OCI image index for systems and architectures: Go's (image-spec, image-index.md, "platform"). Others are allowed, unless they look like one of these.
var (
	knownSystems       = []string{"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "illumos", "aix", "android", "ios", "js", "wasip1", "plan9"}
	knownArchitectures = []string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x", "wasm"}
	// otherArchitectures are names that uname and packages have for them.
	otherArchitectures = map[string]string{"x86_64": "amd64", "x64": "amd64", "aarch64": "arm64", "armv8": "arm64", "armhf": "arm", "i386": "386", "i686": "386", "x86": "386"}
)

func (e *entry) checkPlatform(p string) {
	if p == "" {
		e.emptyIfWritten("platform", "drop it for this machine's own")
		return
	}
	if !platformPattern.MatchString(p) {
		e.bad("platform", "%q is not a platform: want os/arch or os/arch/variant, such as linux/arm64 or linux/arm/v7", p)
		return
	}
	parts := strings.Split(p, "/")
	meant := append([]string{known(parts[0], knownSystems, nil), known(parts[1], knownArchitectures, otherArchitectures)}, parts[2:]...)
	if right := strings.Join(meant, "/"); right != p {
		e.bad("platform", "%s is not known: did you mean %s?", p, right)
	}
}

// known is the word itself if it is one of the known ones or like none of them, else the one that was probably meant.
func known(word string, words []string, others map[string]string) string {
	if w, found := others[word]; found {
		return w
	}
	if n := nearest(word, words); n != "" {
		return n
	}
	return word
}

// checkIgnore reports patterns that can match nothing, as git would leave them silently.
func (e *entry) checkIgnore(patterns string) {
	n := 0
	for line := range strings.Lines(patterns) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if why := patternProblem(line); why != "" {
			e.bad("ignore", "line %d: %q %s", n, line, why)
		}
	}
}

// patternProblem says why a pattern of a .gitignore file is none (gitignore(5)); empty if it is one.
func patternProblem(pattern string) string {
	if strings.ContainsRune(pattern, 0) {
		return "has a NUL character"
	}
	if strings.Trim(pattern, "! ") == "" && strings.HasPrefix(pattern, "!") {
		return "takes nothing back: want a pattern behind !"
	}
	opened := -1
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			if i++; i == len(pattern) {
				return `ends with a backslash: folders are separated by /, a backslash is written \\`
			}
		case c == '[' && opened < 0:
			opened = i
		case c == ']' && opened >= 0 && strings.Trim(pattern[opened+1:i], "!^") != "": // the first may be a member of the class
			opened = -1
		}
	}
	if opened >= 0 {
		return `has a [ without ]: write \[ for the character itself`
	}
	return ""
}
