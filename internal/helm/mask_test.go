package helm

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/towline/towline/internal/deploy"
)

func TestMask(t *testing.T) {
	values := deploy.Values(`{"auth":{"password":"correct horse","user":"adm"},"hosts":["a.example.org","b.example.org"],"name":"my-web","n":1234567,"again":"correct horse",
		"long":"correct horse battery","pem":"-----BEGIN-----\nMIIE1234\n-----END-----\n","odd":"tab\tand \"quote\"","odder":"a&b<c\\d","short":12345}`)
	for _, tc := range []struct{ name, text, want string }{
		{"a value is named by its first path", `Invalid value: "correct horse": no`, `Invalid value: "(value /again)": no`},
		{"a longer value that contains another one", "got correct horse battery", "got (value /long)"},
		{"an item of a list", "host b.example.org is taken", "host (value /hosts/1) is taken"},
		{"base64 of a value", "data Y29ycmVjdCBob3JzZQ== refused", "data (value /again) refused"},
		{"a value as Go quotes it", `got "tab\tand \"quote\""`, `got "(value /odd)"`},
		{"a line of a value", "cannot read MIIE1234", "cannot read (value /pem)"},
		{"a name of an object stays", "Deployment.apps/ns/my-web-api is not ready", "Deployment.apps/ns/my-web-api is not ready"},
		{"a value as JSON quotes it", `"a\u0026b\u003cc\\d"`, `"(value /odder)"`},
		{"a number", "got 1234567", "got (value /n)"},
		{"short values stay", "adm 12345", "adm 12345"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantEqual(t, "text", maskOf(values, "my-web-api", "ns").text(tc.text), tc.want)
		})
	}
	t.Run("an error keeps what it wraps", func(t *testing.T) {
		err := maskOf(values).error(fmt.Errorf("correct horse: %w", context.Canceled))
		wantEqual(t, "text", err.Error(), "(value /again): context canceled")
		wantEqual(t, "is canceled", errors.Is(err, context.Canceled), true)
	})
	t.Run("without values nothing changes", func(t *testing.T) {
		for _, v := range []string{"", "null", "{}", "{"} {
			wantEqual(t, "text", maskOf(deploy.Values(v)).text("a text"), "a text")
		}
		if err := maskOf(nil).error(nil); err != nil {
			t.Error(err)
		}
	})
}
