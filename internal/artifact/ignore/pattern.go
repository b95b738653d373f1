package ignore

import (
	"path"
	"strings"
)

// pattern is one line of an ignore file.
type pattern struct {
	folder  string // where its file is: "" or "a/b/"
	again   bool   // "!": takes back what an earlier pattern ignored
	dir     bool   // only folders
	base    bool   // compared with the last element only
	literal string // what a path begins with before the first wildcard
	rest    glob
}

// parse reads one line, by the rules of gitignore(5). ok is false for what is no pattern, or can match nothing.
func parse(line, folder string) (p pattern, ok bool) {
	if strings.HasPrefix(line, "#") {
		return p, false
	}
	line = trimSpaces(strings.TrimSuffix(line, "\r"))
	line, p.again = strings.CutPrefix(line, "!")
	line, p.dir = strings.CutSuffix(line, "/")
	if line == "" {
		return p, false
	}
	p.folder = folder
	p.base = !strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return p, false
	}
	wild := strings.IndexAny(line, `*?[\`)
	if wild < 0 {
		wild = len(line)
	}
	p.literal = line[:wild]
	p.rest, ok = compile(line[wild:], !p.base)
	return p, ok
}

// trimSpaces drops the spaces at the end of a line, but not one behind a backslash.
func trimSpaces(line string) string {
	keep := 0
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case ' ':
			continue
		case '\\':
			if i++; i == len(line) {
				return line
			}
		}
		keep = i + 1
	}
	return line[:keep]
}

// match reports whether the pattern means this very path; folders above it are not looked at.
func (p *pattern) match(name string, dir bool, steps *int) bool {
	*steps++
	if p.dir && !dir {
		return false
	}
	rest, below := strings.CutPrefix(name, p.folder)
	if !below {
		return false
	}
	if p.base {
		rest = path.Base(rest)
	}
	rest, begins := strings.CutPrefix(rest, p.literal)
	if !begins {
		return false
	}
	if len(p.rest) == 0 {
		return rest == ""
	}
	return p.rest.match(rest, steps)
}
