package helm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"helm.sh/helm/v3/pkg/chart"
)

// maxSchemaFaults is how many faults of the values one error lists.
const maxSchemaFaults = 10

// schemaURL is what a chart's schema is called while it is compiled; it is never read from there.
const schemaURL = "file:///values.schema.json"

// checkSchemas holds the merged values against the values.schema.json of a chart and of its subcharts. The SDK could do it too, but it reads whatever a schema refers
// to, over the network and from local files, and its errors quote values.
func checkSchemas(c *chart.Chart, values map[string]any) error {
	var errs []error
	if c.Schema != nil {
		if err := checkSchema(c.Schema, values); err != nil {
			errs = append(errs, fmt.Errorf("values of chart %s: %w", c.Name(), err))
		}
	}
	for _, sub := range c.Dependencies() {
		switch v := values[sub.Name()].(type) {
		case nil:
		case map[string]any:
			errs = append(errs, checkSchemas(sub, v))
		default:
			errs = append(errs, fmt.Errorf("values of chart %s: /%s must be a map", c.Name(), sub.Name()))
		}
	}
	return errors.Join(errs...)
}

func checkSchema(schema []byte, values map[string]any) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("values.schema.json cannot be understood")
		}
	}()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return fmt.Errorf("values.schema.json is not JSON: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource(schemaURL, doc); err != nil {
		return fmt.Errorf("values.schema.json: %w", err)
	}
	compiled, err := compiler.Compile(schemaURL)
	if err != nil {
		return fmt.Errorf("values.schema.json: %w", err)
	}
	err = compiled.Validate(values)
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	faults := describe(invalid, nil)
	slices.Sort(faults)
	faults = slices.Compact(faults)
	if more := len(faults) - maxSchemaFaults; more > 0 {
		faults = append(faults[:maxSchemaFaults], fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(faults, "; "))
}

// noLoader refuses what a schema refers to outside of itself. The drafts' own meta-schemas are built into the library.
type noLoader struct{}

// Load implements jsonschema.URLLoader. A urn: that nobody resolves allows anything, as in Helm.
func (noLoader) Load(url string) (any, error) {
	if strings.HasPrefix(url, "urn:") {
		return true, nil
	}
	return nil, errors.New("a $ref to another document is not followed, the schema must hold everything: pull it into $defs")
}

// describe lists the leaves of a validation error: the path of the value and which rule it breaks, never the value.
func describe(e *jsonschema.ValidationError, out []string) []string {
	for _, cause := range e.Causes {
		out = describe(cause, out)
	}
	if len(e.Causes) > 0 {
		return out
	}
	at := "/" + strings.Join(e.InstanceLocation, "/")
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return append(out, fmt.Sprintf("%s must be %s, is %s", at, strings.Join(k.Want, " or "), k.Got))
	case *kind.Required:
		return append(out, fmt.Sprintf("%s lacks %s", at, strings.Join(k.Missing, ", ")))
	case *kind.AdditionalProperties:
		return append(out, fmt.Sprintf("%s must not have %s", at, strings.Join(k.Properties, ", ")))
	case *kind.Pattern:
		return append(out, fmt.Sprintf("%s must match %s", at, k.Want))
	case *kind.Format:
		return append(out, fmt.Sprintf("%s must be a %s", at, k.Want))
	case *kind.Enum:
		return append(out, fmt.Sprintf("%s must be one of the %d values that the schema allows", at, len(k.Want)))
	}
	return append(out, fmt.Sprintf("%s breaks the rule %s", at, strings.Join(e.ErrorKind.KeywordPath(), "/")))
}
