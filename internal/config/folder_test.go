package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const oneSource = "sources:\n  - {name: app, url: oci://r.example.com/app, interval: 1m}\n"

// folderOf writes files, by name, into a new folder.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		try(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o700))
		write(t, filepath.Join(folder, name), text)
	}
	return folder
}

func names(c *Config) []string {
	var all []string
	for _, s := range c.Sources {
		all = append(all, s.Name.String())
	}
	for _, t := range c.Targets {
		all = append(all, t.Name.String())
	}
	return all
}

func TestFolderIsReadAsOneConfig(t *testing.T) {
	folder := folderOf(t, map[string]string{
		"a.yaml":           "kustomizations:\n  - {name: app, sourceRef: app}\n",
		"b.yml":            oneSource,
		"z.yaml":           "namespace: platform\n",
		".hidden.yaml":     "not: read\n",
		"notes.txt":        "not: read\n",
		"sub/other.yaml":   "not: read\n",
		"folder.yaml/x":    "not: read\n",
		"..2024/b.yml":     oneSource,
		"c.yaml~":          "not: read\n",
		"d.yaml.swp":       "not: read\n",
		".git/config.yaml": "not: read\n",
	})
	got := must(t, folder)
	if diff := cmp.Diff([]string{"source/platform/app", "kustomization/platform/app"}, names(got)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestMountedConfigMapIsReadOnce(t *testing.T) {
	folder := t.TempDir()
	configMap(t, folder, "1", oneSource)
	if diff := cmp.Diff([]string{"source/towline-system/app"}, names(must(t, folder))); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestFolderProblemsNameTheirFile(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"the same entry twice": {
			map[string]string{"a.yaml": oneSource, "b.yaml": oneSource},
			"b.yaml:2: source/app: name: source/app is already defined in a.yaml:2: rename or remove one",
		},
		"two namespaces": {
			map[string]string{"a.yaml": "namespace: one\n", "b.yaml": "namespace: two\n"},
			"b.yaml:1: namespace is two here but one in a.yaml:1: keep one",
		},
		"two agent sections": {
			map[string]string{"a.yaml": "agent: {}\n", "b.yaml": "agent: {}\n"},
			"b.yaml:1: agent is already given in a.yaml:1: keep one",
		},
		"an empty file beside others": {
			map[string]string{"a.yaml": oneSource, "b.yaml": ""},
			"b.yaml: the file is empty: write sources: [] if nothing is meant to run",
		},
		"a cycle over two files": {
			map[string]string{
				"a.yaml": oneSource + "kustomizations:\n  - {name: a, sourceRef: app, dependsOn: [b]}\n",
				"b.yaml": "kustomizations:\n  - {name: b, sourceRef: app, dependsOn: [a]}\n",
			},
			"b.yaml:2: kustomization/b: dependsOn: goes in a circle: kustomization/a → kustomization/b → kustomization/a: take out one of these dependencies",
		},
		"no file": {nil, ": the folder has no *.yaml or *.yml file: an agent without entries is written as sources: []"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := folderOf(t, c.files)
			_, err := Load(folder)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			got := strings.ReplaceAll(strings.ReplaceAll(err.Error(), folder+"/", ""), folder, "")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a link that leads nowhere", func(t *testing.T) {
		folder := folderOf(t, map[string]string{"a.yaml": oneSource})
		try(t, os.Symlink("gone", filepath.Join(folder, "b.yaml")))
		if _, err := Load(folder); err == nil || !strings.HasSuffix(err.Error(), "b.yaml: no such file or directory") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a file that is too large", func(t *testing.T) {
		file := configFile(t, "")
		try(t, os.Truncate(file, maxFileBytes+1))
		if _, err := Load(file); err == nil || !strings.HasSuffix(err.Error(), "config.yaml: the file is larger than 16 MiB") {
			t.Errorf("got %v", err)
		}
	})
}

func TestMissingPathIsNotExist(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "config.yaml"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestExampleShowsEveryField(t *testing.T) {
	content, err := os.ReadFile(examplePath)
	try(t, err)
	// The text of each kind, so that a field of one is not found in another.
	sections := map[string]string{}
	last := ""
	for line := range strings.SplitSeq(string(content), "\n") {
		if key, _, found := strings.Cut(line, ":"); found && regexp.MustCompile(`^[a-zA-Z]+$`).MatchString(key) {
			last = key
		}
		sections[last] += line + "\n"
	}
	for _, top := range documentKeys {
		if sections[top.name] == "" {
			t.Errorf("configs/example.yaml has no %s", top.name)
		}
		var check func(fields []structField)
		check = func(fields []structField) {
			for _, f := range fields {
				if !regexp.MustCompile(`[\s{,]` + f.name + `:`).MatchString(sections[top.name]) {
					t.Errorf("%s of configs/example.yaml does not show %s", top.name, f.name)
				}
				check(fieldsBelow(f.typ))
			}
		}
		check(fieldsBelow(top.typ))
	}
}
