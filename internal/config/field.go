package config

import (
	"reflect"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// structField is a field of a spec as its json tag describes it.
type structField struct {
	name     string
	typ      reflect.Type
	required bool
}

// fieldsOf lists the fields of a struct in order, embedded ones in their place. A field without omitempty is required.
func fieldsOf(t reflect.Type) []structField {
	var fields []structField
	for f := range t.Fields() {
		if f.Anonymous {
			fields = append(fields, fieldsOf(f.Type)...)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, structField{name: name, typ: f.Type, required: options != "omitempty"})
	}
	return fields
}

// elsewhere are keys of Flux's kinds that are not read here, by the type that would have them, and what to write instead.
var elsewhere = map[reflect.Type]map[string]string{
	reflect.TypeFor[helmReleaseEntry](): {
		"chart":            "charts come from sources only: define one that holds the chart, with layerSelector.operation copy, and name it in chartRef",
		"persistentClient": "clients are always kept and shared: drop it",
		"waitStrategy":     "there is one way to wait: drop it; healthCheckExprs say of a kind when it is healthy",
	},
	reflect.TypeFor[deploy.Install](): {
		"skipCRDs": "is written crds: Skip",
	},
	reflect.TypeFor[deploy.InstallRemediation](): {
		"strategy": "a failed installation can only be uninstalled: drop it",
	},
	reflect.TypeFor[deploy.ValuesFrom](): {
		"namespace": "values are read from the entry's own namespace only: drop it",
	},
	reflect.TypeFor[deploy.KustomizeRenderer](): {
		"patchesStrategicMerge": "is written patches, each item as {patch: …}",
		"patchesJson6902":       "is written patches, each item as {patch: …, target: …}",
	},
	reflect.TypeFor[deploy.KubeConfig](): {
		"configMapRef": "logging in to a cluster by the cloud is not read: name a Secret (secretRef) or a file with a kubeconfig",
	},
	reflect.TypeFor[deploy.Decryption](): {
		"serviceAccountName": "key services of clouds are not asked: give the keys themselves with secretRef or keys",
	},
	reflect.TypeFor[deploy.HealthCheckExpr](): {
		"name":      "an expression is for all objects of its kind: drop it, and name single objects in healthChecks",
		"namespace": "an expression is for all objects of its kind: drop it, and name single objects in healthChecks",
	},
	reflect.TypeFor[deploy.HealthCheck](): {
		"group":   "is written as part of apiVersion: group/version",
		"version": "is written as part of apiVersion: group/version",
	},
	reflect.TypeFor[deploy.SubstituteFrom](): {
		"namespace": "variables are read from the entry's own namespace only: drop it",
	},
}

// unknownKey says what to do about a key that a type does not have.
func unknownKey(t reflect.Type, key string, known []structField) string {
	if instead, ok := elsewhere[t][key]; ok {
		return instead
	}
	return "unknown key: " + suggestKey(key, known)
}

func suggestKey(key string, known []structField) string {
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = k.name
	}
	if n := nearest(key, names); n != "" {
		return "did you mean " + n + "?"
	}
	return "known here: " + strings.Join(names, ", ")
}
