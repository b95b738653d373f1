package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// minBad is how many broken configs there are at least: a moved folder must not make the test pass by finding none.
const minBad = 100

func TestBadConfigsSayWhatToDo(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) < minBad {
		t.Fatalf("found %d broken configs, want at least %d: %v", len(files), minBad, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".bad.yaml"), func(t *testing.T) {
			c, err := Load(file)
			var e *Error
			if !errors.As(err, &e) || c != nil {
				t.Fatalf("Load returned %v, %v: want nil and an *Error", c, err)
			}
			got := e.Error() + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("the message has a secret:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGoodConfigsLoad(t *testing.T) {
	files, err := filepath.Glob("testdata/*.good.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no good configs: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".good.yaml"), func(t *testing.T) {
			first, second := must(t, file), must(t, file)
			if first.Hash != second.Hash {
				t.Errorf("two loads of the same file differ: %s and %s", first.Hash, second.Hash)
			}
		})
	}
}
