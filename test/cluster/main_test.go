package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// asCluster makes the test binary behave like the real one: TestMain then never returns. A test can so start a cluster without building anything.
const asCluster = "TOWLINE_TEST_AS_CLUSTER"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && components[os.Args[1]] != nil || os.Getenv(asCluster) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestParseOptions(t *testing.T) {
	t.Run("defaults to one node and everything else off", func(t *testing.T) {
		got, err := parseOptions([]string{"--dir", "/some/where"}, io.Discard)
		must(t, err)
		want := options{dir: "/some/where", nodes: 1, timeout: 2 * time.Minute}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(options{})); diff != "" {
			t.Errorf("options (-want +got):\n%s", diff)
		}
	})
	t.Run("makes the directory absolute", func(t *testing.T) {
		got, err := parseOptions([]string{"--dir", "here"}, io.Discard)
		must(t, err)
		if !filepath.IsAbs(got.dir) || filepath.Base(got.dir) != "here" {
			t.Errorf("dir = %q, want an absolute path that ends in here", got.dir)
		}
	})
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"says that the directory is missing": {nil, "--dir is required"},
		"refuses no nodes":                   {[]string{"--dir=x", "--nodes=0"}, "between 1 and 100"},
		"refuses far too many nodes":         {[]string{"--dir=x", "--nodes=101"}, "between 1 and 100"},
		"refuses arguments":                  {[]string{"--dir=x", "kube-proxy"}, `unexpected argument "kube-proxy"`},
		"refuses unknown flags":              {[]string{"--dir=x", "--fast"}, "not defined: -fast"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseOptions(c.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want one with %q", err, c.want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
