package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// shoutrrrPattern is the beginning of a service URL. Which services there are is not known here.
var shoutrrrPattern = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:(//)?[^/]`)

func (e *entry) checkSink(s *deploy.SinkSpec) {
	e.oneOf("type", s.Type, deploy.SinkGeneric, deploy.SinkGenericHMAC, deploy.SinkShoutrrr)
	if s.Type == "" {
		e.emptyIfWritten("type", strings.Join([]string{"want generic", deploy.SinkGenericHMAC, deploy.SinkShoutrrr}, ", "))
	}
	e.checkFile("addressFile", s.AddressFile)
	e.checkFile("tokenFile", s.TokenFile)
	e.checkSecretRef("secretRef", s.SecretRef)
	e.checkAddress(s)
	e.checkToken(s)
	e.oneOf("eventSeverity", s.EventSeverity, deploy.SeverityInfo, deploy.SeverityError)
	for i, p := range s.InclusionList {
		e.checkRegexp(item("inclusionList", i), p)
	}
	for i, p := range s.ExclusionList {
		e.checkRegexp(item("exclusionList", i), p)
	}
	for k := range s.EventMetadata {
		if k == "" {
			e.bad("eventMetadata", "has an empty key")
		}
	}
}

// checkAddress wants one place that says where alerts go. Messages do not repeat the address: many hold a token.
func (e *entry) checkAddress(s *deploy.SinkSpec) {
	const secret = "a Secret with the key address in secretRef"
	switch {
	case s.Address != "" && s.AddressFile != "":
		e.bad("addressFile", "address says the same: keep one")
	case s.Type == deploy.SinkShoutrrr && s.SecretRef != nil && (s.Address != "" || s.AddressFile != ""):
		e.bad("secretRef", "the address is given already, and a shoutrrr URL holds all else: keep one")
	case s.Address == "" && s.AddressFile == "" && s.SecretRef == nil && !e.anyBroken("address", "addressFile", "secretRef"):
		if _, written := e.places["address"]; written {
			e.bad("address", "is empty: want a URL, or drop it and give addressFile or %s", secret)
		} else {
			e.bad("address", "is missing: want address, addressFile or %s", secret)
		}
	}
	if s.Address == "" {
		return
	}
	switch s.Type {
	case deploy.SinkGeneric, deploy.SinkGenericHMAC:
		u, err := url.Parse(s.Address)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			e.bad("address", "is not a URL to post to: want https://host/path; a chat or mail service is type %s", deploy.SinkShoutrrr)
		}
	case deploy.SinkShoutrrr:
		scheme, _, _ := strings.Cut(s.Address, ":")
		switch {
		case !shoutrrrPattern.MatchString(s.Address):
			e.bad("address", "is not a service URL of shoutrrr: want something like slack://…, discord://… or smtp://…")
		case strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"):
			e.bad("address", "is a plain URL: want a service URL of shoutrrr such as slack://…, or type %s", deploy.SinkGeneric)
		}
	}
}

// checkToken wants at most one place for the token, and one at least where alerts are signed with it.
func (e *entry) checkToken(s *deploy.SinkSpec) {
	switch {
	case s.Type == deploy.SinkShoutrrr && s.TokenFile != "":
		e.bad("tokenFile", "has no effect with type %s: its address holds all that it needs", deploy.SinkShoutrrr)
	case s.TokenFile != "" && s.SecretRef != nil && (s.Address != "" || s.AddressFile != ""):
		e.bad("secretRef", "has nothing left to say: address and token are given already; drop it or one of them")
	case s.Type == deploy.SinkGenericHMAC && s.TokenFile == "" && s.SecretRef == nil && !e.anyBroken("tokenFile", "secretRef"):
		e.bad("type", "%s signs with a key: give tokenFile, or a Secret with the key token in secretRef", s.Type)
	}
}

// eventSources resolves whose events an alert is for, in place: kinds are spelled out, namespaces filled in.
func (r *resolver) eventSources(e *entry) {
	seen := map[deploy.EventSource]bool{}
	for i := range e.sink.EventSources {
		ref, path := &e.sink.EventSources[i], item("eventSources", i)
		if ref.Name == "" {
			e.emptyIfWritten(path+".name", "want the name of an entry, or * for all")
			continue
		}
		full := deploy.EventSource{Name: ref.Name, Namespace: ref.Namespace}
		if full.Namespace == "" {
			full.Namespace = e.name.Namespace
		}
		if ref.Kind != "" {
			k, known := deploy.ParseKind(string(ref.Kind))
			if !known {
				e.oneOf(path+".kind", string(ref.Kind), string(deploy.KindSource), string(deploy.KindKustomization), string(deploy.KindHelmRelease))
				continue
			}
			full.Kind = k
		}
		if why := r.noSuchEntry(e, full); why != "" {
			e.bad(path, "%s", why)
			continue
		}
		if seen[full] {
			e.bad(path, "is listed twice")
		}
		seen[full] = true
		*ref = full
	}
}

// noSuchEntry says what is wrong with a reference that leads to no entry; empty if it leads to one.
func (r *resolver) noSuchEntry(e *entry, s deploy.EventSource) string {
	if s.Name == "*" {
		return ""
	}
	kinds := deploy.Kinds
	if s.Kind != "" {
		kinds = []deploy.Kind{s.Kind}
	}
	for _, k := range kinds {
		inAny := s.Namespace == "*" && r.anywhere[deploy.Name{Kind: k, Name: s.Name}]
		if inAny || r.byName[deploy.Name{Kind: k, Namespace: s.Namespace, Name: s.Name}] != nil {
			return ""
		}
	}
	missing := deploy.Name{Kind: s.Kind, Namespace: s.Namespace, Name: s.Name}
	what := missing.Short(r.namespace)
	if s.Kind == "" {
		what = strings.TrimPrefix(what, "/") // of any kind
		if s.Namespace == "*" {
			what = s.Name + " in any namespace"
		} else if s.Namespace != r.namespace {
			what = fmt.Sprintf("%s in namespace %s", s.Name, s.Namespace)
		}
	}
	return fmt.Sprintf("there is no %s%s", what, r.suggest(e, missing, deploy.Kinds...))
}
