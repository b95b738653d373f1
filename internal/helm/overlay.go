package helm

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
)

// overlay is a live object after Helm has merged one of a chart into it that it takes over: a strategic merge for kinds that are built in, a plain one for the others. Nothing is
// taken away, since no revision of the release has ever had it.
func overlay(live, chart *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	wanted, _ := withoutNulls(chart.Object).(map[string]any) // a map stays one
	typed, err := scheme.Scheme.New(chart.GroupVersionKind())
	if runtime.IsNotRegisteredError(err) {
		out := live.DeepCopy()
		mergeInto(out.Object, wanted)
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	now, err := json.Marshal(live.Object)
	if err != nil {
		return nil, err
	}
	patch, err := json.Marshal(wanted)
	if err != nil {
		return nil, err
	}
	then, err := strategicpatch.StrategicMergePatch(now, patch, typed)
	if err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{}
	return out, out.UnmarshalJSON(then)
}

// mergeInto is a JSON merge patch without deletions (RFC 7396).
func mergeInto(to, from map[string]any) {
	for k, v := range from {
		if sub, ok := v.(map[string]any); ok {
			if old, ok := to[k].(map[string]any); ok {
				mergeInto(old, sub)
				continue
			}
		}
		to[k] = runtime.DeepCopyJSONValue(v)
	}
}

// withoutNulls is a copy without the fields that are null, which a patch would take for a wish to delete: charts write creationTimestamp so.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, sub := range v {
			if sub != nil {
				out[k] = withoutNulls(sub)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, sub := range v {
			out[i] = withoutNulls(sub)
		}
		return out
	}
	return v
}
