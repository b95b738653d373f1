package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

// minInterval is the shortest time between polls, checks and retries. Below it the agent would be a load test of the registry.
const minInterval = time.Second

var sha256Digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// check reports everything that is wrong within the entry itself.
func (e *entry) check() {
	e.checkLabel("name", e.meta.Name)
	e.checkLabel("namespace", e.meta.Namespace)
	switch {
	case e.source != nil:
		e.checkSource(e.source)
	case e.kustomization != nil:
		e.checkKustomization(e.kustomization)
	case e.sink != nil:
		e.checkSink(e.sink)
	default:
		e.checkHelmRelease(e.helmRelease)
	}
}

// notLabel says why a text is not a DNS-1123 label; empty if it is one.
func notLabel(s string) string {
	if len(validation.IsDNS1123Label(s)) == 0 {
		return ""
	}
	if len(s) > validation.DNS1123LabelMaxLength {
		return fmt.Sprintf("%q is longer than %d characters", s, validation.DNS1123LabelMaxLength)
	}
	return fmt.Sprintf("%q is not a DNS-1123 label: want lower-case letters, digits and -, with a letter or digit at both ends", s)
}

func (e *entry) checkLabel(path, s string) {
	if s == "" {
		if _, written := e.places[path]; written {
			e.bad(path, "is empty")
		}
		return
	}
	if why := notLabel(s); why != "" {
		e.bad(path, "%s", why)
	}
}

// checkDuration reports durations below the least; nil is a default.
func (e *entry) checkDuration(path string, d *metav1.Duration) {
	if d == nil {
		return
	}
	if _, written := e.places[path]; written && d.Duration < minInterval {
		e.bad(path, "%s is too short: want at least %s", d.Duration, minInterval)
	}
}

func (e *entry) checkSHA256(path, digest string) {
	if digest != "" && !sha256Digest.MatchString(digest) {
		e.bad(path, "%q is not a digest: want sha256: and 64 lower-case hex digits", digest)
	}
}

// oneOf reports a value that is none of the allowed ones.
func (e *entry) oneOf(path, got string, allowed ...string) {
	if got == "" {
		return
	}
	if slices.Contains(allowed, got) {
		return
	}
	hint := ""
	if n := nearest(got, allowed); n != "" {
		hint = fmt.Sprintf(": did you mean %s?", n)
	}
	e.bad(path, "%q is not one of %s%s", got, strings.Join(allowed, ", "), hint)
}

// checkSecretRef checks the name of a Secret.
func (e *entry) checkSecretRef(path string, ref *deploy.LocalRef) {
	if ref == nil {
		return
	}
	if ref.Name == "" {
		e.emptyIfWritten(path+".name", "want the name of a Secret in the entry's namespace")
	} else if len(validation.IsDNS1123Subdomain(ref.Name)) > 0 {
		e.bad(path+".name", "%q is not the name of a Secret", ref.Name)
	}
}

// checkInside reports paths that leave the artifact.
func (e *entry) checkInside(field, p string) {
	switch {
	case strings.HasPrefix(p, "/"):
		e.bad(field, "%q is absolute: want a path inside the artifact, such as ./deploy", p)
	case strings.Contains(p, `\`):
		e.bad(field, "%q has a backslash: folders are separated by /", p)
	case strings.ContainsRune(p, 0):
		e.bad(field, "has a NUL character")
	default:
		if clean := path.Clean(p); clean == ".." || strings.HasPrefix(clean, "../") {
			e.bad(field, "%q leaves the artifact", p)
		}
	}
}

// checkSelector checks a label selector's syntax.
func (e *entry) checkSelector(path, s string) {
	if _, err := labels.Parse(s); err != nil {
		e.bad(path, "%q is not a selector: %v", s, err)
	}
}
