package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// docPath is the reference that is written from the schema, which is written from the Go types.
const docPath = "../../docs/reference.md"

// section is one heading of the reference.
type section struct{ def, title string }

var sections = []section{
	{"", "The file"}, {"source", "sources[]"}, {"Ref", "ref"}, {"LayerSelector", "layerSelector"},
	{"Verify", "verify"}, {"OIDCIdentity", "verify.matchOIDCIdentity[]"}, {"CredentialFiles", "credentialFiles"}, {"CertFiles", "certFiles"}, {"Receiver", "receiver"},
	{"kustomization", "kustomizations[]"}, {"CommonMetadata", "commonMetadata"}, {"Patch", "patches[]"}, {"Selector", "patches[].target, ignore[].target"}, {"Image", "images[]"},
	{"HealthCheck", "healthChecks[]"}, {"HealthCheckExpr", "healthCheckExprs[]"}, {"IgnoreRule", "ignore[]"}, {"RollbackPolicy", "kustomizations[].rollback"}, {"KubeConfig", "kubeConfig"},
	{"SecretKeyRef", "kubeConfig.secretRef"}, {"PostBuild", "postBuild"}, {"SubstituteFrom", "postBuild.substituteFrom[]"}, {"Decryption", "decryption"},
	{"helmRelease", "helmReleases[]"}, {"ValuesFrom", "valuesFrom[]"}, {"Install", "install"}, {"InstallRemediation", "install.remediation"}, {"Upgrade", "upgrade"},
	{"UpgradeRemediation", "upgrade.remediation"}, {"Strategy", "strategy"}, {"Rollback", "helmReleases[].rollback"}, {"Uninstall", "uninstall"}, {"Test", "test"},
	{"TestFilter", "test.filters[]"}, {"DriftDetection", "driftDetection"}, {"PostRenderer", "postRenderers[]"}, {"KustomizeRenderer", "postRenderers[].kustomize"},
	{"notify", "notify[]"}, {"EventSource", "eventSources[]"},
	{"SourceRef", "sourceRef, chartRef"}, {"DependsOn", "dependsOn[]"}, {"LocalRef", "secretRef"},
	{"agent", "agent"}, {"concurrency", "agent.concurrency"}, {"limits", "agent.limits"},
}

// schemaNode is as much of a schema as the reference shows.
type schemaNode struct {
	Ref         string `json:"$ref"`
	Type        string
	Description string
	Enum        []string
	Properties  json.RawMessage
	Required    []string
	Items       *schemaNode
	OneOf       []schemaNode
	Defs        map[string]schemaNode `json:"$defs"`
}

func TestReferenceIsWrittenFromTheSchema(t *testing.T) {
	b, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root schemaNode
	if err := json.Unmarshal(b, &root); err != nil {
		t.Fatal(err)
	}
	want := reference(t, root)
	if *update {
		if err := os.WriteFile(docPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the schema says (go test ./internal/config -update writes it):\n%s", docPath, diff)
	}
	for name := range root.Defs {
		if !strings.Contains(fmt.Sprint(sections), "{"+name+" ") {
			t.Errorf("the reference has no section for %s", name)
		}
	}
}

func reference(t *testing.T, root schemaNode) string {
	t.Helper()
	var out strings.Builder
	out.WriteString("# Reference of the config\n\nWritten from the Go types (`go test ./internal/config -update`). Names and meanings are Flux's. `towline schema` prints the same as a JSON Schema.\n" +
		"Durations are written 30s, 10m, 1h30m.\n")
	for _, s := range sections {
		node := root
		if s.def != "" {
			node = root.Defs[s.def]
		}
		fmt.Fprintf(&out, "\n## %s\n", s.title)
		if d := node.Description; d != "" && unicode.IsUpper(rune(d[0])) { // those of unexported types speak to developers
			fmt.Fprintf(&out, "\n%s\n", node.Description)
		}
		for _, alternative := range node.OneOf {
			if alternative.Properties != nil {
				node.Properties, node.Required = alternative.Properties, alternative.Required
			}
		}
		out.WriteString("\n| field | type | |\n|---|---|---|\n")
		for _, p := range properties(t, node.Properties) {
			name := "`" + p.name + "`"
			for _, r := range node.Required {
				if r == p.name {
					name += " (required)"
				}
			}
			fmt.Fprintf(&out, "| %s | %s | %s |\n", name, typeOf(p.node), strings.ReplaceAll(p.node.Description, "|", `\|`))
		}
	}
	return out.String()
}

type property struct {
	name string
	node schemaNode
}

// properties keeps the order of the types.
func properties(t *testing.T, raw json.RawMessage) []property {
	t.Helper()
	if raw == nil {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	var out []property
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var n schemaNode
		if err := dec.Decode(&n); err != nil {
			t.Fatal(err)
		}
		out = append(out, property{fmt.Sprint(key), n})
	}
	return out
}

func typeOf(n schemaNode) string {
	switch {
	case n.Ref != "":
		name := n.Ref[strings.LastIndex(n.Ref, "/")+1:]
		for _, s := range sections {
			if s.def == name {
				return strings.TrimSuffix(s.title, "[]")
			}
		}
		return name
	case n.Items != nil:
		return "list of " + typeOf(*n.Items)
	case len(n.Enum) > 0:
		return strings.Join(n.Enum, ", ")
	case n.Type == "" && len(n.OneOf) > 0:
		var types []string
		for _, alternative := range n.OneOf {
			types = append(types, typeOf(alternative))
		}
		return strings.Join(types, " or ")
	}
	return n.Type
}
