package config

import (
	_ "embed"
	"slices"
)

//go:generate go test -run ^TestSchemaIsThatOfTheTypes$ -update .
//go:generate go test -run ^TestReferenceIsWrittenFromTheSchema$ -update .

// schema is generated from the types by the package's tests, so that the generator is no part of the agent.
//
//go:embed schema.json
var schema []byte

// Schema is the JSON Schema (draft 2020-12) of a config file, descriptions included, as an editor can use it.
func Schema() ([]byte, error) { return slices.Clone(schema), nil }
