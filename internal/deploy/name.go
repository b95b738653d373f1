package deploy

import (
	"fmt"
	"slices"
	"strings"
)

// Kind says what a named entry of the config is. The values are Flux's kinds, so that one word serves both doors.
type Kind string

// The kinds of entries.
const (
	KindSource        Kind = "OCIRepository"
	KindKustomization Kind = "Kustomization"
	KindHelmRelease   Kind = "HelmRelease"
)

// Kinds lists every kind in the order in which messages name them.
var Kinds = []Kind{KindSource, KindKustomization, KindHelmRelease}

// Word is the kind as it is written in references and on the command line: source, kustomization, helmrelease.
func (k Kind) Word() string {
	if k == KindSource {
		return "source"
	}
	return strings.ToLower(string(k))
}

// ParseKind reads a kind as people write it: Flux's spelling in any case, our words, and the short forms ks, hr, oci.
func ParseKind(s string) (Kind, bool) {
	switch strings.ToLower(s) {
	case "source", "sources", "ocirepository", "ocirepositories", "oci":
		return KindSource, true
	case "kustomization", "kustomizations", "ks":
		return KindKustomization, true
	case "helmrelease", "helmreleases", "hr":
		return KindHelmRelease, true
	}
	return "", false
}

// Name identifies one source or target.
type Name struct {
	Kind      Kind
	Namespace string
	Name      string
}

// String is kind/namespace/name with the kind as a word, for logs and messages.
func (n Name) String() string { return n.Kind.Word() + "/" + n.Namespace + "/" + n.Name }

// Short leaves the namespace out where it is the given default one; it is how people write references.
func (n Name) Short(defaultNamespace string) string {
	if n.Namespace == defaultNamespace {
		return n.Kind.Word() + "/" + n.Name
	}
	return n.String()
}

// Compare orders names by kind, namespace and name, for slices.SortFunc.
func (n Name) Compare(m Name) int { return strings.Compare(n.String(), m.String()) }

// MarshalText is String, so that a Name can be a JSON string and a map key; the zero Name is the empty text.
func (n Name) MarshalText() ([]byte, error) {
	if n == (Name{}) {
		return nil, nil
	}
	return []byte(n.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (n *Name) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*n = Name{}
		return nil
	}
	p, err := ParseName(string(b), "", "")
	if err != nil {
		return err
	}
	*n = p
	return nil
}

// ParseName reads name, kind/name or kind/namespace/name. Where the text has no kind or namespace, the given ones are used; an empty given kind makes
// the kind mandatory. The error says what was expected.
func ParseName(s string, kind Kind, namespace string) (Name, error) {
	parts := strings.Split(s, "/")
	if slices.Contains(parts, "") {
		return Name{}, fmt.Errorf("%q is not a reference: want name, kind/name or kind/namespace/name", s)
	}
	n := Name{Kind: kind, Namespace: namespace, Name: parts[len(parts)-1]}
	switch len(parts) {
	case 1:
		if kind == "" {
			return Name{}, fmt.Errorf("%q does not say which kind it is: want kustomization/%s, helmrelease/%s or source/%s", s, s, s, s)
		}
		return n, nil
	case 2, 3:
		k, ok := ParseKind(parts[0])
		if !ok {
			return Name{}, fmt.Errorf("%q: unknown kind %q: want kustomization, helmrelease or source", s, parts[0])
		}
		n.Kind = k
		if len(parts) == 3 {
			n.Namespace = parts[1]
		}
		return n, nil
	}
	return Name{}, fmt.Errorf("%q is not a reference: want name, kind/name or kind/namespace/name", s)
}
