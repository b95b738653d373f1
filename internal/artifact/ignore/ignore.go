// Package ignore decides which files of a tree are left out of an artifact: by .sourceignore files, by patterns that are given beside them, and by Flux's defaults.
package ignore

import (
	"path"
	"strings"
)

// File is the name of the files with patterns, in the root and in any folder.
const File = ".sourceignore"

// alwaysIgnored stay ignored whatever patterns there are, unless one takes them back: they belong to version control.
var alwaysIgnored = []string{".git/", ".gitignore", ".gitmodules", ".gitattributes"}

// defaultIgnored are ignored as long as there is no pattern at all: Flux's list of images, archives, and files of CI and other tools.
var defaultIgnored = []string{
	"*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip",
	".github/", ".circleci/", ".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".drone.yml", "cloudbuild.yaml", "codeship-services.yml", "codeship-steps.yml",
	".goreleaser.yml", ".sops.yaml", ".flux.yaml",
}

// Matcher knows the patterns of one tree. It does not change, and may be used by several goroutines. A nil Matcher ignores nothing.
type Matcher struct {
	patterns []pattern // the later ones count more
	extra    []pattern // count more than all of patterns
}

// Match reports whether the path is ignored, itself or with a folder above it. The path is relative to the root and has slashes; dir says that it is a folder:
// a symbolic link is none, wherever it leads. As with git, nothing in an ignored folder can be taken back.
func (m *Matcher) Match(name string, dir bool) bool {
	name = path.Clean(name)
	if m == nil || name == "." {
		return false
	}
	var steps int
	for i := 0; i < len(name); i++ {
		if name[i] == '/' && m.self(name[:i], true, &steps) {
			return true
		}
	}
	return m.self(name, dir, &steps)
}

// self asks for the path alone: the last pattern that matches decides.
func (m *Matcher) self(name string, dir bool, steps *int) bool {
	for _, patterns := range [][]pattern{m.extra, m.patterns} {
		for i := len(patterns) - 1; i >= 0; i-- {
			if p := &patterns[i]; p.match(name, dir, steps) {
				return !p.again
			}
		}
	}
	return false
}

// parseAll reads lines that lie in the folder.
func parseAll(lines []string, folder string) []pattern {
	var out []pattern
	for _, line := range lines {
		if p, ok := parse(line, folder); ok {
			out = append(out, p)
		}
	}
	return out
}

// split cuts text into lines; a byte order mark is no part of the first.
func split(text string) []string {
	return strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n")
}
