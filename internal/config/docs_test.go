package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestRegistriesDocShowsValidConfigs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/registries.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(blocks) == 0 {
		t.Fatal("there is no YAML in docs/registries.md")
	}
	for i, b := range blocks {
		t.Run(fmt.Sprintf("block %d loads", i+1), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "registries.yaml")
			if err := os.WriteFile(path, b[1], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); err != nil {
				t.Error(err)
			}
		})
	}
}
