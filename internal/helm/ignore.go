package helm

import (
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/towline/towline/internal/deploy"
)

// leave makes what is at a path of want be as it is in live: then it is no difference. An item of a list that live does not have stays whole.
func leave(want, live any, p deploy.Pointer) {
	token := p[0]
	next, _ := p[:1].In(want)
	now, there := twin(live, token, next)
	list, isList := want.([]any)
	m, _ := want.(map[string]any)
	switch {
	case isList && !there:
	case len(p) > 1:
		leave(next, now, p[1:])
	case isList:
		p.Put(list, runtime.DeepCopyJSONValue(now))
	case there:
		m[token] = runtime.DeepCopyJSONValue(now)
	default:
		delete(m, token)
	}
}

// twin is what live has at a token where the other side has an item. Items of lists that have a name belong together by that: servers, webhooks and people put others before them.
func twin(live any, token string, item any) (any, bool) {
	list, ok := live.([]any)
	name, named := nameIn(item)
	if !ok || !named {
		return deploy.Pointer{token}.In(live)
	}
	for _, other := range list {
		if n, ok := nameIn(other); ok && n == name {
			return other, true
		}
	}
	return nil, false
}

func nameIn(v any) (string, bool) {
	m, _ := v.(map[string]any)
	name, ok := m["name"].(string)
	return name, ok
}
