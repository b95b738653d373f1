package ignore

import "strings"

// kind is what a token of a pattern stands for.
type kind uint8

const (
	literal kind = iota // this byte
	one                 // any byte but a slash
	set                 // a byte of the set, never a slash
	star                // any bytes without a slash
	all                 // any bytes
	folders             // any whole folders, none too: "", "a/", "a/b/"
)

// token is one piece of a compiled pattern.
type token struct {
	kind  kind
	char  byte
	chars *charset
}

// charset holds bytes: git too compares bytes, not letters.
type charset [256]bool

// glob is a compiled pattern. Text is matched in at most len(text) × len(glob) steps whatever the pattern, since only the last star, and the last token that
// goes over slashes, need ever be tried again.
type glob []token

// compile translates a pattern. Without slashes, two stars are as good as one. What git can never match gives ok = false: a set that does not end, an
// unknown class, a backslash at the end.
func compile(pattern string, slashes bool) (g glob, ok bool) {
	for i := 0; i < len(pattern); {
		switch c := pattern[i]; c {
		case '?':
			g = append(g, token{kind: one})
			i++
		case '*':
			t, n := stars(pattern, i, slashes)
			g = append(g, t)
			i += n
		case '[':
			chars, n := parseSet(pattern[i:])
			if n == 0 {
				return nil, false
			}
			g = append(g, token{kind: set, chars: chars})
			i += n
		case '\\':
			if i++; i == len(pattern) {
				return nil, false
			}
			fallthrough
		default:
			g = append(g, token{kind: literal, char: pattern[i]})
			i++
		}
	}
	return g, true
}

// stars reads the stars at i: what they mean, and how many bytes they are. Two or more go over slashes only where they are a whole element.
func stars(pattern string, i int, slashes bool) (token, int) {
	n := len(pattern[i:]) - len(strings.TrimLeft(pattern[i:], "*"))
	rest := pattern[i+n:]
	whole := n > 1 && (i == 0 || pattern[i-1] == '/')
	switch {
	case !slashes || !whole:
		return token{kind: star}, n
	case rest == "" || strings.HasPrefix(rest, `\/`):
		return token{kind: all}, n
	case rest[0] == '/':
		return token{kind: folders}, n + 1
	}
	return token{kind: star}, n
}

// match reports whether the whole text matches. Each step is counted in steps.
func (g glob) match(text string, steps *int) bool {
	var (
		p, t         int
		starP, starT = -1, 0 // where to go on when the last star takes one byte more
		wideP, wideT = -1, 0 // the same for the last token that goes over slashes
	)
	for {
		*steps++
		if p < len(g) {
			switch g[p].kind {
			case star:
				starP, starT = p, t
				p++
				continue
			case all, folders:
				wideP, wideT, starP = p, t, -1
				p++
				continue
			case literal, one, set:
				if t < len(text) && g[p].matches(text[t]) {
					p++
					t++
					continue
				}
			}
		} else if t == len(text) {
			return true
		}
		switch {
		case starP >= 0 && starT < len(text) && text[starT] != '/':
			starT++
			p, t = starP+1, starT
		case wideP >= 0 && wideT < len(text):
			wideT++
			if g[wideP].kind == folders {
				slash := strings.IndexByte(text[wideT-1:], '/')
				if slash < 0 {
					return false
				}
				wideT += slash
			}
			p, t, starP = wideP+1, wideT, -1
		default:
			return false
		}
	}
}

func (t token) matches(c byte) bool {
	switch t.kind {
	case literal:
		return c == t.char
	case one:
		return c != '/'
	default:
		return c != '/' && t.chars[c]
	}
}
