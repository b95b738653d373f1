package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	generator "github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/towline/towline/internal/deploy"
)

var update = flag.Bool("update", false, "write schema.json and testdata/*.bad.txt anew")

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	want := generate(t)
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("schema.json is not current: run go generate ./internal/config (-want +got):\n%s", diff)
	}
}

func TestSchemaDescribesEveryField(t *testing.T) {
	type object struct {
		Properties map[string]struct{ Description string }
		OneOf      []object
	}
	var s struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	s.Defs["document"] = s.object
	for _, typ := range specTypes() {
		def := s.Defs[schemaName(typ)]
		if len(def.OneOf) > 0 {
			def = def.OneOf[len(def.OneOf)-1] // behind the short form
		}
		for _, f := range fieldsOf(typ) {
			if p, ok := def.Properties[f.name]; !ok || p.Description == "" {
				t.Errorf("%s.%s has no description: give the Go field a comment and run go generate ./internal/config", typ.Name(), f.name)
			}
		}
	}
}

func TestSchemaAcceptsWhatLoadAccepts(t *testing.T) {
	s := compiled(t)
	files, err := filepath.Glob("testdata/*.good.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no good files: %v", err)
	}
	for _, file := range append(files, examplePath) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			for _, doc := range documentsOf(t, file) {
				if err := s.Validate(doc); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	for name, text := range map[string]string{
		"an unknown key":             `{"sorces": []}`,
		"an unknown key of an entry": `{"sources": [{"name": "a", "url": "oci://r.io/a", "interval": "1m", "intervall": "1m"}]}`,
		"a missing key":              `{"sources": [{"name": "a", "url": "oci://r.io/a"}]}`,
		"a wrong type":               `{"kustomizations": [{"name": "a", "sourceRef": "b", "prune": "true"}]}`,
		"a bare number as duration":  `{"kustomizations": [{"name": "a", "sourceRef": "b", "interval": 10}]}`,
		"days as duration":           `{"kustomizations": [{"name": "a", "sourceRef": "b", "interval": "1d"}]}`,
		"an unknown policy":          `{"helmReleases": [{"name": "a", "chartRef": "b", "install": {"crds": "Never"}}]}`,
		"an unknown provider":        `{"sources": [{"name": "a", "url": "oci://r.io/a", "interval": "1m", "verify": {"provider": "gpg"}}]}`,
		"an unknown receiver":        `{"sources": [{"name": "a", "url": "oci://r.io/a", "interval": "1m", "receiver": {"type": "gitlab", "tokenFile": "/t"}}]}`,
		"an unknown type of alert":   `{"notify": [{"name": "a", "type": "slack", "address": "https://r.io"}]}`,
		"a share beyond 100 %":       `{"kustomizations": [{"name": "a", "sourceRef": "b", "pruneLimit": "101%"}]}`,
		"a negative count":           `{"kustomizations": [{"name": "a", "sourceRef": "b", "pruneLimit": -1}]}`,
		"a count in quotes":          `{"kustomizations": [{"name": "a", "sourceRef": "b", "pruneLimit": "5"}]}`,
		"a variable without quotes":  `{"kustomizations": [{"name": "a", "sourceRef": "b", "postBuild": {"substitute": {"PORT": 8080}}}]}`,
		"an unknown strategy":        `{"kustomizations": [{"name": "a", "sourceRef": "b", "postBuild": {"substituteStrategy": "Never"}}]}`,
		"variables of another kind":  `{"kustomizations": [{"name": "a", "sourceRef": "b", "postBuild": {"substituteFrom": [{"kind": "Pod", "name": "a"}]}}]}`,
		"an unknown encryption":      `{"kustomizations": [{"name": "a", "sourceRef": "b", "decryption": {"provider": "age"}}]}`,
		"a rule without expression":  `{"kustomizations": [{"name": "a", "sourceRef": "b", "healthCheckExprs": [{"apiVersion": "v1", "kind": "A"}]}]}`,
		"an unknown remedy":          `{"helmReleases": [{"name": "a", "chartRef": "b", "upgrade": {"remediation": {"strategy": "undo"}}}]}`,
		"a strategy without name":    `{"helmReleases": [{"name": "a", "chartRef": "b", "install": {"strategy": {"retryInterval": "1m"}}}]}`,
		"an unknown mode of drift":   `{"helmReleases": [{"name": "a", "chartRef": "b", "driftDetection": {"mode": "on"}}]}`,
		"values of another kind":     `{"helmReleases": [{"name": "a", "chartRef": "b", "valuesFrom": [{"kind": "Pod", "name": "a"}]}]}`,
		"a renderer of another kind": `{"helmReleases": [{"name": "a", "chartRef": "b", "postRenderers": [{"exec": {}}]}]}`,
		"values that are a list":     `{"helmReleases": [{"name": "a", "chartRef": "b", "values": []}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := validator.UnmarshalJSON(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if s.Validate(doc) == nil {
				t.Errorf("accepted %s", text)
			}
		})
	}
}

func compiled(t *testing.T) *validator.Schema {
	t.Helper()
	doc, err := validator.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// documentsOf reads a file as the schema's validator takes it, independently of the package's own reader.
func documentsOf(t *testing.T, file string) []any {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var docs []any
	for dec := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var doc any
		if err := dec.Decode(&doc); err != nil {
			return docs
		}
		if doc == nil {
			continue
		}
		b, err := json.Marshal(withoutNulls(doc))
		if err != nil {
			t.Fatal(err)
		}
		doc, err = validator.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, doc)
	}
}

// withoutNulls drops empty values, which Load takes for keys that are not there.
func withoutNulls(v any) any {
	if m, ok := v.(map[string]any); ok {
		for k, inner := range m {
			if inner == nil {
				delete(m, k)
			} else {
				m[k] = withoutNulls(inner)
			}
		}
	}
	return v
}

// specTypes lists every struct that a config file can hold.
func specTypes() []reflect.Type {
	var types []reflect.Type
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice:
			visit(t.Elem())
		case reflect.Struct:
			if seen[t] || isScalar(t) {
				return
			}
			seen[t] = true
			types = append(types, t)
			for _, f := range fieldsOf(t) {
				visit(f.typ)
			}
		}
	}
	visit(reflect.TypeFor[document]())
	return types
}

// schemaName is a type's name among the definitions.
func schemaName(t reflect.Type) string {
	return strings.TrimSuffix(strings.TrimSuffix(t.Name(), "Entry"), "Section")
}

func generate(t *testing.T) []byte {
	t.Helper()
	comments := goComments(t, ".", "../deploy")
	r := &generator.Reflector{
		Anonymous:      true,
		ExpandedStruct: true,
		Namer:          schemaName,
		LookupComment: func(typ reflect.Type, field string) string {
			if field == "" {
				return comments[typ.Name()]
			}
			return comments[typ.Name()+"."+field]
		},
		Mapper: specialSchema,
	}
	s := r.ReflectFromType(reflect.TypeFor[document]())
	s.Title = "Towline config"
	for _, ref := range []reflect.Type{sourceRefType, dependsOnType, eventSourceType} {
		long := s.Definitions[ref.Name()]
		s.Definitions[ref.Name()] = &generator.Schema{
			Description: long.Description,
			OneOf:       []*generator.Schema{{Type: "string", MinLength: new(uint64(1))}, long},
		}
		long.Description = ""
	}
	for field, words := range enums {
		def, property, _ := strings.Cut(field, ".")
		p, ok := s.Definitions[def].Properties.Get(property)
		if !ok {
			t.Fatalf("there is no %s", field)
		}
		p.Enum = words
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

// enums are the texts that have to be one of a few words.
var enums = map[string][]any{
	"source.provider":         {deploy.ProviderGeneric, deploy.ProviderAWS, deploy.ProviderAzure, deploy.ProviderGCP},
	"LayerSelector.operation": {deploy.OperationExtract, deploy.OperationCopy},
	"Verify.provider":         {deploy.VerifyCosign, deploy.VerifyNotation},
	"Decryption.provider":     {deploy.DecryptionSOPS},
	"SubstituteFrom.kind":     {"ConfigMap", "Secret"},
	"ValuesFrom.kind":         {"ConfigMap", "Secret"},
	"Receiver.type": {
		deploy.ReceiverGeneric, deploy.ReceiverGenericHMAC, deploy.ReceiverDistribution, deploy.ReceiverHarbor,
		deploy.ReceiverGitHub, deploy.ReceiverDockerHub, deploy.ReceiverQuay, deploy.ReceiverACR,
	},
	"notify.type":          {deploy.SinkGeneric, deploy.SinkGenericHMAC, deploy.SinkShoutrrr},
	"notify.eventSeverity": {deploy.SeverityInfo, deploy.SeverityError},
}

// specialSchema describes the types whose JSON is not what their Go type looks like.
func specialSchema(t reflect.Type) *generator.Schema {
	switch t {
	case durationType:
		return &generator.Schema{Type: "string", Pattern: `^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$`, Examples: []any{"30s", "10m", "1h30m"}}
	case shareType:
		return &generator.Schema{
			OneOf:    []*generator.Schema{{Type: "integer", Minimum: "0"}, {Type: "string", Pattern: `^([0-9]|[1-9][0-9]|100)%$`}},
			Examples: []any{20, "30%"},
		}
	case valuesType:
		return &generator.Schema{Type: "object"}
	case reflect.TypeFor[deploy.SubstituteStrategy]():
		return &generator.Schema{Type: "string", Enum: []any{deploy.SubstituteWithVariables, deploy.SubstituteAlways}}
	case reflect.TypeFor[deploy.CRDsPolicy]():
		return &generator.Schema{Type: "string", Enum: []any{deploy.CRDsSkip, deploy.CRDsCreate, deploy.CRDsCreateReplace}}
	case reflect.TypeFor[deploy.StrategyName]():
		return &generator.Schema{Type: "string", Enum: []any{deploy.StrategyRemediate, deploy.StrategyRetry}}
	case reflect.TypeFor[deploy.RemediationStrategy]():
		return &generator.Schema{Type: "string", Enum: []any{deploy.RemediateRollback, deploy.RemediateUninstall}}
	case reflect.TypeFor[deploy.DriftMode]():
		return &generator.Schema{Type: "string", Enum: []any{deploy.DriftEnabled, deploy.DriftWarn, deploy.DriftDisabled}}
	case reflect.TypeFor[deploy.OnFailure]():
		return &generator.Schema{Type: "string", Enum: []any{deploy.OnFailureKeep, deploy.OnFailureLastGood}}
	case reflect.TypeFor[deploy.DeletionPropagation]():
		return &generator.Schema{Type: "string", Enum: []any{deploy.PropagationBackground, deploy.PropagationForeground, deploy.PropagationOrphan}}
	case reflect.TypeFor[deploy.DeletionPolicy]():
		return &generator.Schema{Type: "string", Enum: []any{deploy.DeletionMirrorPrune, deploy.DeletionDelete, deploy.DeletionWait, deploy.DeletionOrphan}}
	}
	return nil
}

// goComments reads the doc comments of types ("Ref") and fields ("Ref.Tag") out of the sources of packages.
func goComments(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	comments := map[string]string{}
	flat := func(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				g, ok := decl.(*ast.GenDecl)
				if !ok || g.Tok != token.TYPE {
					continue
				}
				for _, spec := range g.Specs {
					typ := spec.(*ast.TypeSpec)
					comments[typ.Name.Name] = flat(g.Doc)
					s, ok := typ.Type.(*ast.StructType)
					if !ok {
						continue
					}
					for _, f := range s.Fields.List {
						for _, n := range f.Names {
							comments[typ.Name.Name+"."+n.Name] = flat(f.Doc)
						}
					}
				}
			}
		}
	}
	return comments
}

// fieldsBelow lists the fields of the struct that a type leads to; none for scalars.
func fieldsBelow(t reflect.Type) []structField {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || isScalar(t) {
		return nil
	}
	return fieldsOf(t)
}

// isScalar reports whether a struct of Go is one word in YAML.
func isScalar(t reflect.Type) bool { return t == durationType || t == shareType }
