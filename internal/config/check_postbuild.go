package config

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

// variableName is what may stand between ${ and }.
var variableName = regexp.MustCompile(`^[_A-Za-z][_A-Za-z0-9]*$`)

func (e *entry) checkPostBuild(p *deploy.PostBuild) {
	const path = "postBuild"
	for name := range p.Substitute {
		if !variableName.MatchString(name) {
			e.bad(path+".substitute."+name, "%q is not the name of a variable: want letters, digits and _, with no digit at the beginning", name)
		}
	}
	for i, from := range p.SubstituteFrom {
		at := item(path+".substituteFrom", i)
		e.checkSubstituteFrom(at, from)
		same := func(f deploy.SubstituteFrom) bool {
			return f.Kind == from.Kind && f.Name == from.Name && f.File == from.File
		}
		if (from.Name != "" || from.File != "") && slices.ContainsFunc(p.SubstituteFrom[:i], same) {
			e.bad(at, "is listed twice")
		}
	}
	e.oneOf(path+".substituteStrategy", string(p.SubstituteStrategy), string(deploy.SubstituteWithVariables), string(deploy.SubstituteAlways))
}

func (e *entry) checkSubstituteFrom(path string, from deploy.SubstituteFrom) {
	e.checkHolder(path, "the variables", from.Kind, from.Name, from.File)
}

// checkHolder wants either kind and name of an object, or a file; what says what is in it.
func (e *entry) checkHolder(path, what, kind, name, file string) {
	const want = "want kind and name of a ConfigMap or Secret, or file"
	e.oneOf(path+".kind", kind, "ConfigMap", "Secret")
	e.checkFileInFull(path+".file", file)
	if kind == "" {
		e.emptyIfWritten(path+".kind", "want ConfigMap or Secret")
	}
	switch {
	case name == "":
		e.emptyIfWritten(path+".name", "want the name of a ConfigMap or Secret in the entry's namespace")
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		e.bad(path+".name", "%q is not the name of a ConfigMap or Secret", name)
	}
	switch object := kind != "" || name != ""; {
	case e.brokenBelow(path):
	case object && file != "":
		e.bad(path, "names an object and a file: %s", want)
	case !object && file == "":
		if e.anyWritten(path, "kind", "name", "file") {
			return // said above: it is empty
		}
		e.bad(path, "does not say where %s come from: %s", what, want)
	case object && kind == "" && !e.anyWritten(path, "kind"):
		e.bad(path, "does not say what %s is: want kind: ConfigMap or kind: Secret", name)
	case object && name == "" && !e.anyWritten(path, "name"):
		e.bad(path, "does not say which %s it is: want name", kind)
	}
}

// anyWritten reports whether one of the keys stands below a path, be it empty.
func (e *entry) anyWritten(path string, keys ...string) bool {
	return slices.ContainsFunc(keys, func(k string) bool {
		_, written := e.places[path+"."+k]
		return written
	})
}

// keySuffixes are how the names of files with keys end: age identities and armored OpenPGP keys.
var keySuffixes = []string{".agekey", ".asc"}

func (e *entry) checkDecryption(d *deploy.Decryption) {
	const path = "decryption"
	if d.Provider == "" {
		e.emptyIfWritten(path+".provider", "want "+deploy.DecryptionSOPS)
	}
	e.oneOf(path+".provider", d.Provider, deploy.DecryptionSOPS)
	e.checkSecretRef(path+".secretRef", d.SecretRef)
	for i, file := range d.Keys {
		at := item(path+".keys", i)
		e.checkFileInFull(at, file)
		switch {
		case !filepath.IsAbs(file): // said above
		case !slices.Contains(keySuffixes, filepath.Ext(file)):
			e.bad(at, "ends neither in .agekey (age identities) nor in .asc (an armored OpenPGP private key)")
		case slices.Contains(d.Keys[:i], file):
			e.bad(at, "is listed twice")
		}
	}
	if d.SecretRef == nil && len(d.Keys) == 0 && !e.anyBroken(path+".secretRef", path+".keys", path+".serviceAccountName") {
		e.bad(path, "has no keys: give secretRef, or keys (files that end in %s); key services of clouds are not asked", strings.Join(keySuffixes, " or "))
	}
}
