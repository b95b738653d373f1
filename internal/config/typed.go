package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/towline/towline/internal/deploy"
)

const (
	// maxDepth of what users write: values of real charts are less than 20 deep, encoding/json gives up at 10,000.
	maxDepth = 200
	// maxWritten bounds the JSON of one config file in bytes, aliases written out: it is what a bomb of aliases grows.
	maxWritten = 32 << 20
)

// valueCost is what a value takes from the budget besides its text, in bytes, so that empty values are not free.
const valueCost = 8

// budget is what all walkers of a file may still write together.
type budget struct {
	left int // bytes
	over bool
}

var (
	durationType  = reflect.TypeFor[metav1.Duration]()
	valuesType    = reflect.TypeFor[deploy.Values]()
	sourceRefType = reflect.TypeFor[deploy.SourceRef]()
	dependsOnType = reflect.TypeFor[deploy.DependsOn]()
	// eventSourceType has a short form like the two above.
	eventSourceType = reflect.TypeFor[deploy.EventSource]()
	// shareType is a count or a percentage.
	shareType = reflect.TypeFor[intstr.IntOrString]()
)

// walker holds one value against a Go type and writes it as JSON that encoding/json decodes into that type without an error. What does not fit is
// reported and left out.
type walker struct {
	// label says what the value is part of: source/podinfo.
	label  string
	report func(place, string)
	out    bytes.Buffer
	// places of everything that was met, by its path: ref.semver, dependsOn[1].
	places map[string]place
	// wrong holds the paths that were left out, so that later checks do not complain about them again.
	wrong  map[string]bool
	budget *budget
}

// bad reports a problem at a path. It always returns false.
func (w *walker) bad(at place, path, format string, args ...any) bool {
	w.wrong[path] = true
	w.report(at, message(w.label, path, fmt.Sprintf(format, args...)))
	return false
}

// message is label: path: text, without what is empty.
func message(label, path, text string) string {
	return strings.Join(slices.DeleteFunc([]string{label, path, text}, func(s string) bool { return s == "" }), ": ")
}

func (w *walker) write(s string) {
	w.budget.left -= len(s)
	w.out.WriteString(s)
}

// fits reports whether the limits allow one more value. The first that does not fit is reported.
func (w *walker) fits(v *value, path string, depth int) bool {
	if depth > maxDepth {
		return w.bad(v.place, "", "nested deeper than %d", maxDepth)
	}
	if w.budget.over {
		return false // reported already
	}
	w.budget.left -= valueCost
	if w.budget.left < 0 {
		w.budget.over = true
		return w.bad(v.place, "", "larger than %d MiB once its aliases are written out", maxWritten>>20)
	}
	if path != "" {
		w.places[path] = v.place
	}
	return true
}

// value writes v as type t. false: nothing was written.
func (w *walker) value(v *value, t reflect.Type, path string, depth int) bool {
	if v.kind == kindBad {
		w.wrong[path] = true
		return false
	}
	if !w.fits(v, path, depth) {
		return false
	}
	switch t {
	case durationType:
		return w.duration(v, path)
	case shareType:
		return w.share(v, path)
	case valuesType:
		if v.kind != kindObject {
			return w.bad(v.place, path, "want a map of Helm values, got %s", v.kind)
		}
		return w.free(v, depth)
	case sourceRefType, dependsOnType, eventSourceType:
		if v.kind == kindText {
			return w.shortRef(v, t, path)
		}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return w.value(v, t.Elem(), path, depth)
	case reflect.Struct:
		return w.object(v, t, path, depth)
	case reflect.Slice:
		return w.list(v, t, path, depth)
	case reflect.Map:
		return w.textMap(v, path)
	default:
		return w.scalar(v, t, path)
	}
}

// shortRef checks the text form of a reference with the type's own decoder, so that there is one grammar.
func (w *walker) shortRef(v *value, t reflect.Type, path string) bool {
	if err := json.Unmarshal([]byte(v.json), reflect.New(t).Interface()); err != nil {
		return w.bad(v.place, path, "%s", err.Error())
	}
	w.write(v.json)
	return true
}

func (w *walker) list(v *value, t reflect.Type, path string, depth int) bool {
	if v.kind != kindList {
		hint := ""
		if v.kind == kindText || v.kind == kindObject {
			hint = ": put a dash before it, or brackets around it"
		}
		return w.bad(v.place, path, "want a list, got %s%s", v.kind, hint)
	}
	w.write("[")
	for i, item := range v.list {
		if i > 0 {
			w.write(",")
		}
		p := fmt.Sprintf("%s[%d]", path, i)
		ok := false
		if item.kind == kindNull {
			w.bad(item.place, p, "the list has an empty item")
		} else {
			ok = w.value(item, t.Elem(), p, depth+1)
		}
		if !ok {
			w.write(emptyItem(t.Elem())) // keeps the numbers of the others
		}
	}
	w.write("]")
	return true
}

// emptyItem is what stands for an item that was left out: the items of all lists are maps or texts.
func emptyItem(t reflect.Type) string {
	if t.Kind() == reflect.String {
		return `""`
	}
	return "{}"
}

// textMap writes a map of text to text, such as labels.
func (w *walker) textMap(v *value, path string) bool {
	if v.kind != kindObject {
		return w.bad(v.place, path, "want a map, got %s", v.kind)
	}
	w.write("{")
	n := 0
	for _, f := range v.fields {
		p := path + "." + f.key
		if f.value.kind != kindText {
			if f.value.kind != kindBad {
				w.bad(f.value.place, p, "want text, got %s%s", f.value.kind, hintText(f.value, p))
			}
			continue
		}
		if !w.fits(f.value, p, 0) {
			continue
		}
		if n++; n > 1 {
			w.write(",")
		}
		w.write(textScalar(f.key).json + ":" + f.value.json)
	}
	w.write("}")
	return true
}

// object writes a map as a struct: unknown keys and missing required ones are reported. An empty value counts as a key that is not there.
func (w *walker) object(v *value, t reflect.Type, path string, depth int) bool {
	if v.kind != kindObject {
		return w.bad(v.place, path, "want a map, got %s", v.kind)
	}
	known := fieldsOf(t)
	w.write("{")
	n := 0
	given := map[string]bool{}
	for _, f := range v.fields {
		p := strings.TrimPrefix(path+"."+f.key, ".")
		i := slices.IndexFunc(known, func(k structField) bool { return k.name == f.key })
		if i < 0 {
			w.bad(f.place, p, "%s", unknownKey(t, f.key, known))
			continue
		}
		if f.value.kind == kindNull {
			continue
		}
		given[f.key] = true
		start := w.out.Len()
		if n > 0 {
			w.write(",")
		}
		w.write(`"` + f.key + `":`)
		if w.value(f.value, known[i].typ, p, depth+1) {
			n++
		} else {
			w.out.Truncate(start)
		}
	}
	w.write("}")
	for _, k := range known {
		if k.required && !given[k.name] {
			w.bad(v.place, strings.TrimPrefix(path+"."+k.name, "."), "is missing and has no default")
		}
	}
	return true
}

// free writes anything, map keys sorted, so that their order in the file does not change a hash. Messages must not hold values: they may be secret.
func (w *walker) free(v *value, depth int) bool {
	if v.kind == kindBad || !w.fits(v, "", depth) {
		w.write("null")
		return true
	}
	switch v.kind {
	case kindList:
		w.write("[")
		for i, item := range v.list {
			if i > 0 {
				w.write(",")
			}
			w.free(item, depth+1)
		}
		w.write("]")
	case kindObject:
		sorted := slices.Clone(v.fields)
		slices.SortFunc(sorted, func(a, b field) int { return strings.Compare(a.key, b.key) })
		w.write("{")
		for i, f := range sorted {
			if i > 0 {
				w.write(",")
			}
			w.write(textScalar(f.key).json + ":")
			w.free(f.value, depth+1)
		}
		w.write("}")
	default:
		w.write(v.json)
	}
	return true
}
