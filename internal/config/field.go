package config

import (
	"reflect"
	"strings"
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
