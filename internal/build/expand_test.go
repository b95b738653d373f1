package build

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExpand(t *testing.T) {
	vars := map[string]string{"v": "hello World", "file": "a/b.tar.gz", "empty": "", "n": "3", "u": "éa"}
	for _, tc := range []struct {
		text, want string
		undefined  []string
	}{
		{text: "plain $v $ text", want: "plain $v $ text"},
		{text: "${v}", want: "hello World"},
		{text: "<${v}-${n}>", want: "<hello World-3>"},
		{text: "${#v}", want: "11"},
		{text: "${v^}", want: "Hello World"},
		{text: "${u^}", want: "Éa"},
		{text: "${v^^}", want: "HELLO WORLD"},
		{text: "${v,}", want: "hello World"},
		{text: "${v,,}", want: "hello world"},
		{text: "${v:6}", want: "World"},
		{text: "${v:0:4}", want: "hell"},
		{text: "${v:99}", want: ""},
		{text: "${file#*.}", want: "tar.gz"},
		{text: "${file##*.}", want: "gz"},
		{text: "${file%.*}", want: "a/b.tar"},
		{text: "${file%%.*}", want: "a/b"},
		{text: "${none-x}", want: "x"},
		{text: "${none:-x y}", want: "x y"},
		{text: "${none=x}", want: "x"},
		{text: "${none:=x}", want: "x"},
		{text: "${none:=}", want: ""},
		{text: "${none:-${v}}", want: "hello World"},
		{text: "${none-${n}-z}", want: "3-z"},
		{text: "${empty:-x}", want: "x"},
		{text: "${empty=x}", want: "x"},
		{text: "${empty-x}", want: "x"},
		{text: "${empty}", want: ""},
		{text: "${v:-x}", want: "hello World"},
		{text: "${v-x}", want: "hello World"},
		{text: "${v:?why}", want: "hello World"},
		{text: "${v/o/0}", want: "hell0 World"},
		{text: "${v//o/0}", want: "hell0 W0rld"},
		{text: "${v/#hello/bye}", want: "bye World"},
		{text: "${v/%World/you}", want: "hello you"},
		{text: "${v/ /}", want: "helloWorld"},
		{text: `${file/\//-}`, want: "a-b.tar.gz"},
		{text: "$${v}", want: "${v}"},
		{text: "$${v-x}", want: "${v-x}"},
		{text: "$$${v}", want: "$hello World"},
		{text: "a $$ b", want: "a $ b"},
		{text: "${none}", undefined: []string{"none"}},
		{text: "${a} ${v} ${b} ${a} ${c^^}", undefined: []string{"a", "b", "c"}},
		{text: "${#a}${b:1}${c:1:2}${d#x}${e##x}${f%x}${g%%x}${h/x/y}${i//x/y}", undefined: []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}},
		{text: "${none:-${other}}", undefined: []string{"other"}},
		{text: "${none:?why}", undefined: []string{"none"}},
		{text: "x ${empty:?why}", undefined: []string{"empty"}},
	} {
		t.Run(tc.text, func(t *testing.T) {
			got, undefined, err := expand(tc.text, vars, newBudget(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.undefined, undefined); d != "" {
				t.Error(d)
			}
			if tc.undefined == nil && got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestExpandRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a brace that stays open":       "${v",
		"no name":                       "${}",
		"a name with other characters":  "${a.b}",
		"a length that has no end":      "${v:1:9223372036854775807}",
		"a replacement without pattern": "${v/x}",
		"a text made of escapes":        strings.Repeat("$$", maxEscapes+1),
	} {
		t.Run(name, func(t *testing.T) {
			out, undefined, err := expand(text, map[string]string{"v": "canary-4711"}, newBudget(), nil)
			if err == nil {
				t.Fatalf("got %q, %v", out, undefined)
			}
			if strings.Contains(err.Error(), "canary") {
				t.Error(err)
			}
		})
	}
}

func TestExpandStopsAtTenUndefined(t *testing.T) {
	_, undefined, err := expand(strings.Repeat("${a}${b}${c}${d}${e}${f}${g}${h}${i}${j}${k}${l}", 100), nil, newBudget(), nil)
	if err != nil || len(undefined) != maxUndefined {
		t.Errorf("got %v, %v", undefined, err)
	}
}
