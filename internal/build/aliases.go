package build

import (
	"bytes"
	"errors"
	"regexp"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

const (
	// maxAliased bounds what the aliases of a file add to it, in bytes and nodeWeight. Kustomize replaces each alias by a copy: 500 bytes are enough to ask for a terabyte.
	maxAliased = 16 << 20
	// nodeWeight is about what a node takes beside its text, in bytes.
	nodeWeight = 64
	// maxInline bounds how deep texts of YAML in texts of YAML are looked into: a kustomization file has patches in it.
	maxInline = 3
)

var (
	// anchored finds what may be an anchor, also behind an escape of a text that is YAML itself: && and a=b&c are none, and most files have no other &.
	anchored = regexp.MustCompile(`(^|[^&0-9A-Za-z]|\\[a-zA-Z])&[^&\s]|\\(x26|u0026|U00000026)`)
	// separator parts documents where kustomize does: within block scalars too.
	separator = regexp.MustCompile(`\n---.*\n`)

	errAliases = errors.New("its aliases make it too large: write out what they stand for, or split the file")
	errCircle  = errors.New("one of its aliases stands for something that it is in itself")
)

// aliases refuses content that copying its aliases would make too large, or that would never end. Inline counts the texts that it lies in. What is not YAML passes: whoever wants objects from it says so.
func aliases(content []byte, inline int) error {
	if inline > maxInline || !anchored.Match(content) {
		return nil
	}
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	start := 0
	for _, at := range append(separator.FindAllIndex(content, -1), []int{len(content), len(content)}) {
		d := yaml.NewDecoder(bytes.NewReader(content[start:at[0]]))
		start = at[1]
		for {
			var n yaml.Node
			if d.Decode(&n) != nil {
				break
			}
			w := weigher{inline: inline, known: make(map[*yaml.Node]int)}
			if err := w.document(&n); err != nil {
				return err
			}
		}
	}
	return nil
}

// weigher adds up what a document is with and without copies for its aliases.
type weigher struct {
	inline int
	own    int
	known  map[*yaml.Node]int // of anchors; pending while it is being added up
}

// pending marks an anchor whose weight is not known yet.
const pending = -1

func (w *weigher) document(n *yaml.Node) error {
	whole, err := w.node(n)
	if err != nil {
		return err
	}
	if whole-w.own > maxAliased {
		return errAliases
	}
	return nil
}

func (w *weigher) node(n *yaml.Node) (int, error) {
	if n.Kind == yaml.AliasNode {
		w.own += nodeWeight
		return w.aliased(n.Alias)
	}
	if n.Anchor != "" {
		w.known[n] = pending
	}
	sum := nodeWeight + len(n.Value)
	w.own += sum
	if n.Kind == yaml.ScalarNode {
		if err := aliases([]byte(n.Value), w.inline+1); err != nil {
			return 0, err
		}
	}
	for _, c := range n.Content {
		more, err := w.node(c)
		if err != nil {
			return 0, err
		}
		if sum += more; sum-w.own > maxAliased { // far from where numbers end
			return 0, errAliases
		}
	}
	if n.Anchor != "" {
		w.known[n] = sum
	}
	return sum, nil
}

// aliased is the weight of what an alias stands for, which lies before it.
func (w *weigher) aliased(n *yaml.Node) (int, error) {
	weight, ok := w.known[n]
	if !ok || weight == pending {
		return 0, errCircle
	}
	return weight, nil
}
