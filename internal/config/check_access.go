package config

import (
	"path/filepath"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

// checkAccess checks how a source's registry is reached: credentials, certificates, proxy.
func (e *entry) checkAccess(s *deploy.SourceSpec) {
	e.oneOf("provider", s.Provider, deploy.ProviderGeneric, deploy.ProviderAWS, deploy.ProviderAzure, deploy.ProviderGCP)
	e.checkSecretRef("secretRef", s.SecretRef)
	e.checkSecretRef("certSecretRef", s.CertSecretRef)
	e.checkSecretRef("proxySecretRef", s.ProxySecretRef)
	e.checkServiceAccount(s.ServiceAccountName)
	if c := s.CredentialFiles; c != nil {
		e.checkCredentialFiles(c)
	}
	if c := s.CertFiles; c != nil {
		e.checkCertFiles(c)
		if s.CertSecretRef != nil {
			e.bad("certFiles", "certSecretRef says the same: keep one")
		}
	}
}

func (e *entry) checkServiceAccount(name string) {
	const path = "serviceAccountName"
	switch {
	case name == "":
		e.emptyIfWritten(path, "want the name of a ServiceAccount in the entry's namespace")
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		e.bad(path, "%q is not the name of a ServiceAccount", name)
	}
}

func (e *entry) checkCredentialFiles(c *deploy.CredentialFiles) {
	const path = "credentialFiles"
	e.checkFile(path+".dockerConfig", c.DockerConfig)
	e.checkFile(path+".username", c.Username)
	e.checkFile(path+".password", c.Password)
	e.checkFile(path+".token", c.Token)
	pair := c.Username != "" || c.Password != ""
	switch n := count(c.DockerConfig != "", pair, c.Token != ""); {
	case n > 1:
		e.bad(path, "says who logs in more than once: want dockerConfig, or token, or username and password")
	case n == 0 && !e.brokenBelow(path):
		e.bad(path, "names no file: want dockerConfig, or token, or username and password")
	}
	e.checkPair(path, "username", c.Username, "password", c.Password)
}

func (e *entry) checkCertFiles(c *deploy.CertFiles) {
	const path = "certFiles"
	e.checkFile(path+".ca", c.CA)
	e.checkFile(path+".cert", c.Cert)
	e.checkFile(path+".key", c.Key)
	if count(c.CA != "", c.Cert != "", c.Key != "") == 0 && !e.brokenBelow(path) {
		e.bad(path, "names no file: want ca, or cert and key, or all three")
	}
	e.checkPair(path, "cert", c.Cert, "key", c.Key)
}

// checkPair reports a file that is given without the one that it needs.
func (e *entry) checkPair(path, nameA, a, nameB, b string) {
	if (a == "") == (b == "") || e.brokenBelow(path) {
		return
	}
	have, missing := nameA, nameB
	if a == "" {
		have, missing = nameB, nameA
	}
	e.bad(path+"."+have, "needs %s beside it", missing)
}

// checkFile checks the path of a file with something that is or belongs to a secret. Messages do not repeat it: it may be the secret itself, put there by mistake.
func (e *entry) checkFile(path, file string) {
	switch {
	case file == "":
		e.emptyIfWritten(path, "want the path of a file")
	case strings.ContainsAny(file, "\x00\n\r"):
		e.bad(path, "has more than one line: want the path of a file, not what is in it")
	case strings.Contains(file, "://"):
		e.bad(path, "is a URL: want the path of a file")
	case strings.HasPrefix(file, "~"):
		e.bad(path, "begins with ~, which stands for nobody's home here: write the path in full")
	case strings.Contains(file, "$"):
		e.bad(path, "has a $: variables are not replaced; a path that is not absolute is below $CREDENTIALS_DIRECTORY already")
	case !filepath.IsAbs(file) && !filepath.IsLocal(file):
		e.bad(path, "leaves $CREDENTIALS_DIRECTORY, which a path that is not absolute is below: write it without ..")
	}
}

// checkFileInFull checks the path of a file that is not looked for below $CREDENTIALS_DIRECTORY. Like checkFile it does not repeat it.
func (e *entry) checkFileInFull(path, file string) {
	switch {
	case file == "":
		e.emptyIfWritten(path, "want the path of a file")
	case strings.ContainsAny(file, "\x00\n\r"):
		e.bad(path, "has more than one line: want the path of a file, not what is in it")
	case strings.Contains(file, "://"):
		e.bad(path, "is a URL: want the path of a file")
	case !filepath.IsAbs(file):
		e.bad(path, "does not begin with /: write the path in full; ~ and variables are not replaced")
	}
}

// checkFiles checks a list of files.
func (e *entry) checkFiles(path string, files []string) {
	seen := map[string]bool{}
	for i, file := range files {
		e.checkFile(item(path, i), file)
		if file != "" && seen[file] {
			e.bad(item(path, i), "is listed twice")
		}
		seen[file] = true
	}
}

// checkRegexp reports what Go's regexp does not compile; empty texts are none.
func (e *entry) checkRegexp(path, s string) {
	if s == "" {
		e.emptyIfWritten(path, "want a Go regular expression")
		return
	}
	if _, err := regexp.Compile(s); err != nil {
		e.bad(path, "not a regular expression: %v", err)
	}
}

// count is how many are true.
func count(all ...bool) int {
	n := 0
	for _, yes := range all {
		if yes {
			n++
		}
	}
	return n
}
