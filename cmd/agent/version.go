package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/artifact/login"
)

// version and commit are stamped by the linker; make build does.
var (
	version = "dev"
	commit  = "unknown"
)

func newVersion() *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := struct {
				Version  string   `json:"version"`
				Commit   string   `json:"commit"`
				Go       string   `json:"go"`
				Platform string   `json:"platform"`
				Logins   []string `json:"logins"` // of clouds, that are built in
			}{version, commit, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, append([]string{}, login.Providers()...)}
			return output.write(c.OutOrStdout(), v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "towline %s (commit %s, %s, %s)\n", v.Version, v.Commit, v.Go, v.Platform)
				if err == nil && len(v.Logins) > 0 {
					_, err = fmt.Fprintf(w, "cloud logins: %s\n", strings.Join(v.Logins, ", "))
				}
				return err
			})
		},
	}
	output.add(c)
	return c
}

// outputFlag is -o table|json|yaml.
type outputFlag string

func (o *outputFlag) add(c *cobra.Command) {
	*o = "table"
	c.Flags().VarP(o, "output", "o", "output format: table, json or yaml")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
}

func (o *outputFlag) String() string { return string(*o) }
func (*outputFlag) Type() string     { return "format" }

func (o *outputFlag) Set(s string) error {
	switch s = strings.ToLower(s); s {
	case "table", "json", "yaml":
		*o = outputFlag(s)
		return nil
	}
	return fmt.Errorf("want table, json or yaml, got %q", s)
}

// write prints v as the flag says; table prints the form for people.
func (o outputFlag) write(w io.Writer, v any, table func(io.Writer) error) error {
	if o == "table" {
		return table(w)
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil && o == "yaml" {
		b, err = yaml.JSONToYAML(b)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, strings.TrimRight(string(b), "\n"))
	return err
}
