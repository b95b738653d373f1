package build

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestExpandIsBounded has texts that would take hours, all memory, or the stack, whose end nothing survives.
func TestExpandIsBounded(t *testing.T) {
	vars := map[string]string{"big": strings.Repeat("a", 1<<20), "v": strings.Repeat("a", 1<<10), "a": "a"}
	for _, tc := range []struct {
		name, text string
		want       error
	}{
		{"a large value, over and over", strings.Repeat("${big}", 9000), errLong},
		{"each letter of a large value, replaced by it", "${big//a/${big}}", errLong},
		{"replacements in replacements", "${v//a/${v//a/${v//a/${v}}}}", errLong},
		{"a pattern that is not known before", "${v//${a}/${v//${a}/${v}}}", errLong},
		{"the shortest beginning of a large value", "${big#*b}", errTries},
		{"the longest end of a large value", "${big%%b*}", errTries},
		{"a long pattern", "${v#" + strings.Repeat("a", 1<<20) + "}", errTries},
		{"variables in defaults of variables", strings.Repeat("${none:-", 1_000_000) + strings.Repeat("}", 1_000_000), errMany},
		{"fewer of them", strings.Repeat("${none:-", 1000) + strings.Repeat("}", 1000), errNested},
		{"a million variables", strings.Repeat("${a}", 1_000_000), errMany},
		{"a million backslashes", "${a/" + strings.Repeat(`\\`, 1_000_000) + "/x}", errTries},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			_, _, err := expand(tc.text, vars, newBudget(), nil)
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
	t.Run("over all texts of a build", func(t *testing.T) {
		b := newBudget()
		var err error
		for range 100 {
			if _, _, err = expand("${big}", vars, b, nil); err != nil {
				break
			}
		}
		if !errors.Is(err, errMade) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("but a certificate may be trimmed, and a script have many variables", func(t *testing.T) {
		vars["pem"] = strings.Repeat("x", 4<<10) + "-----END"
		if _, _, err := expand("${pem%%-----END}"+strings.Repeat("${a}", 1000), vars, newBudget(), nil); err != nil {
			t.Error(err)
		}
	})
}
