package config

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestReadmeShowsAValidConfig(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) == 0 {
		t.Fatal("there is no YAML in the README")
	}
	for _, b := range blocks {
		path := filepath.Join(t.TempDir(), "README.yaml")
		if err := os.WriteFile(path, b[1], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err != nil {
			t.Error(err)
		}
	}
}
