package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestGuidesShowValidConfigs loads every block of YAML in the guides: what is to be copied from there must work.
func TestGuidesShowValidConfigs(t *testing.T) {
	guides, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for _, guide := range guides {
		doc, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(doc, -1) {
			loaded++
			t.Run(fmt.Sprintf("block %d of %s loads", i+1, filepath.Base(guide)), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "config.yaml")
				if err := os.WriteFile(path, b[1], 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := Load(path); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if loaded == 0 {
		t.Error("there is no YAML in docs")
	}
}
