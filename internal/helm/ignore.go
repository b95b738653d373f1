package helm

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/towline/towline/internal/deploy"
)

// ignoreRule is an entry of driftDetection.ignore, compiled.
type ignoreRule struct {
	paths [][]string
	match *deploy.Matcher
}

func compileIgnore(in []deploy.IgnoreRule) ([]ignoreRule, error) {
	var out []ignoreRule
	for i, r := range in {
		m, err := r.Target.Matcher()
		if err != nil {
			return nil, fmt.Errorf("ignore[%d].target.%w", i, err)
		}
		rule := ignoreRule{match: m}
		for _, p := range r.Paths {
			if !strings.HasPrefix(p, "/") || p == "/" {
				return nil, fmt.Errorf("ignore[%d]: path %q: want a JSON pointer such as /spec/replicas", i, p)
			}
			tokens := strings.Split(p[1:], "/")
			for i := range tokens {
				tokens[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(tokens[i]) // RFC 6901, section 4
			}
			rule.paths = append(rule.paths, tokens)
		}
		out = append(out, rule)
	}
	return out, nil
}

// leave makes the fields that the rule names be in want as they are in live: then they are no difference.
func (r ignoreRule) leave(want, live *unstructured.Unstructured) {
	if !r.match.Matches(want) {
		return
	}
	for _, p := range r.paths {
		parent, ok := at(want.Object, p[:len(p)-1])
		if !ok {
			continue
		}
		last := p[len(p)-1]
		now, there := at(live.Object, p)
		switch parent := parent.(type) {
		case map[string]any:
			if there {
				parent[last] = runtime.DeepCopyJSONValue(now)
			} else {
				delete(parent, last)
			}
		case []any:
			if n, err := strconv.Atoi(last); err == nil && n >= 0 && n < len(parent) && there {
				parent[n] = runtime.DeepCopyJSONValue(now)
			}
		}
	}
}

// at is what stands at a path.
func at(v any, path []string) (any, bool) {
	for _, token := range path {
		switch now := v.(type) {
		case map[string]any:
			next, ok := now[token]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			n, err := strconv.Atoi(token)
			if err != nil || n < 0 || n >= len(now) {
				return nil, false
			}
			v = now[n]
		default:
			return nil, false
		}
	}
	return v, true
}
