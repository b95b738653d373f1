package ignore

import "strings"

// parseSet reads a set such as [a-z], [!a], [^a] or [[:digit:]_] at the beginning of s. It returns how many bytes the set is; 0 where it does not end or names
// an unknown class. A closing bracket that comes first is one of the set's bytes.
func parseSet(s string) (*charset, int) {
	var chars charset
	i, negated := 1, false
	if i < len(s) && (s[i] == '!' || s[i] == '^') {
		negated = true
		i++
	}
	from := -1 // the byte before a hyphen, where a range may begin
	for first := true; ; first = false {
		if i >= len(s) {
			return nil, 0
		}
		c := s[i]
		switch {
		case c == ']' && !first:
			if negated {
				for b := range chars {
					chars[b] = !chars[b]
				}
			}
			return &chars, i + 1
		case c == '-' && from >= 0 && i+1 < len(s) && s[i+1] != ']':
			if i++; s[i] == '\\' {
				if i++; i == len(s) {
					return nil, 0
				}
			}
			for b := from; b <= int(s[i]); b++ {
				chars[b] = true
			}
			from = -1
			i++
			continue
		case c == '[' && strings.HasPrefix(s[i+1:], ":"):
			end := strings.IndexByte(s[i+2:], ']')
			if end < 0 {
				return nil, 0
			}
			if name, isClass := strings.CutSuffix(s[i+2:i+2+end], ":"); isClass {
				if !chars.add(name) {
					return nil, 0
				}
				from = -1
				i += 2 + end + 1
				continue
			}
		case c == '\\':
			if i++; i == len(s) {
				return nil, 0
			}
			c = s[i]
		}
		chars[c] = true
		from = int(c)
		i++
	}
}

// add puts the bytes of a class of POSIX into the set, in the C locale. Unknown names are false.
func (s *charset) add(class string) bool {
	const lower, upper, digit = "az", "AZ", "09"
	ranges, known := map[string]string{
		"alnum": lower + upper + digit, "alpha": lower + upper, "blank": "\t\t  ", "cntrl": "\x00\x1f\x7f\x7f", "digit": digit, "graph": "!~",
		"lower": lower, "print": " ~", "punct": "!/:@[`{~", "space": "\t\r  ", "upper": upper, "xdigit": digit + "afAF",
	}[class]
	for i := 0; i < len(ranges); i += 2 {
		for b := int(ranges[i]); b <= int(ranges[i+1]); b++ {
			s[b] = true
		}
	}
	return known
}
