package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/towline/towline/internal/artifact/login"
	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/artifact/publish"
	"github.com/towline/towline/internal/deploy"
)

const (
	// envCreds beats the docker config and is beaten by --creds, which everybody on the machine can read in the list of processes.
	envCreds = "TOWLINE_REGISTRY_CREDS"
	// transferTimeout is that of the flux command.
	transferTimeout = 5 * time.Minute
)

// newVerb is a command that is nothing without a noun.
func newVerb(verb, short string, nouns ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:     verb,
		GroupID: groupArtifact,
		Short:   short,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			var names []string
			for _, noun := range nouns {
				names = append(names, verb+" "+noun.Name())
			}
			return usageError{fmt.Errorf("towline %s %s: there is no such command; there is %s", verb, args[0], strings.Join(names, ", "))}
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(nouns...)
	return c
}

// place is how a command reaches a repository.
type place struct {
	creds, provider string
	insecure        bool
	ca, cert, key   string
	timeout         time.Duration
}

func (p *place) add(f *pflag.FlagSet) {
	f.StringVar(&p.creds, "creds", "", "`user:password` for the registry; everybody on this machine can read it in the list of processes: better set "+envCreds+
		", or log in with docker login")
	f.StringVar(&p.provider, "provider", deploy.ProviderGeneric, "cloud whose ambient login is used: generic (none: docker config and credential helpers), aws, azure or gcp")
	f.BoolVar(&p.insecure, "insecure-registry", false, "allow plain HTTP (to this machine itself it always is)")
	f.StringVar(&p.ca, "ca-file", "", "PEM `file` of certificates to trust besides the system's")
	f.StringVar(&p.cert, "cert-file", "", "PEM `file` of the client certificate")
	f.StringVar(&p.key, "key-file", "", "PEM `file` of the client certificate's key")
	f.DurationVar(&p.timeout, "timeout", transferTimeout, "how long the whole command may take")
}

// reach names what is at a url and a repository to reach it by; stop lets the connections go.
func (p *place) reach(url string) (ref publish.Ref, repo *oci.Repository, stop func(), err error) {
	if ref, err = publish.ParseRef(url, p.insecure); err != nil {
		return ref, nil, nil, usageError{err}
	}
	keychain, err := p.keychain()
	if err != nil {
		return ref, nil, nil, err
	}
	route, err := p.route()
	if err != nil {
		return ref, nil, nil, err
	}
	transport := oci.NewTransport()
	client := oci.New(transport, "towline/"+version)
	repo = client.Repository(oci.Access{
		Repo: ref.Repo, Insecure: p.insecure, Owner: "command line",
		Login: func(ctx context.Context) (authn.Authenticator, error) { return authn.Resolve(ctx, keychain, ref.Repo) },
		Route: func(context.Context) (oci.Route, error) { return route, nil },
	})
	return ref, repo, func() {
		client.Close()
		transport.CloseIdleConnections()
	}, nil
}

// keychain finds credentials: those that were given, then those of the cloud, then those of the docker config. Errors never quote them.
func (p *place) keychain() (authn.Keychain, error) {
	given, from := p.creds, "--creds"
	if given == "" {
		given, from = strings.TrimRight(os.Getenv(envCreds), "\r\n"), envCreds // from a file, often
	}
	if given != "" {
		user, password, ok := strings.Cut(given, ":")
		if !ok || user == "" {
			return nil, usageError{fmt.Errorf("%s must be user:password", from)}
		}
		return fixed{authn.FromConfig(authn.AuthConfig{Username: user, Password: password})}, nil
	}
	if p.provider == "" || p.provider == deploy.ProviderGeneric {
		return authn.DefaultKeychain, nil
	}
	cloud, err := login.Keychain(p.provider)
	if err != nil {
		return nil, usageError{fmt.Errorf("--provider: %w", err)}
	}
	return authn.NewMultiKeychain(cloud, authn.DefaultKeychain), nil
}

// fixed is a keychain with one key for every door.
type fixed struct{ authn.Authenticator }

func (f fixed) Resolve(authn.Resource) (authn.Authenticator, error) { return f.Authenticator, nil }

func (p *place) route() (oci.Route, error) {
	if (p.cert == "") != (p.key == "") {
		return oci.Route{}, usageError{errors.New("--cert-file and --key-file belong together")}
	}
	var r oci.Route
	for _, f := range []struct {
		flag, path string
		into       *[]byte
	}{{"--ca-file", p.ca, &r.CA}, {"--cert-file", p.cert, &r.Cert}, {"--key-file", p.key, &r.Key}} {
		if f.path == "" {
			continue
		}
		b, err := os.ReadFile(f.path)
		if err != nil {
			return r, fmt.Errorf("%s: %w", f.flag, err)
		}
		*f.into = b
	}
	return r, nil
}

// failed says what went wrong with a transfer; an interruption by the user gets a few words only.
func failed(ctx context.Context, doing string, ref publish.Ref, push bool, err error) error {
	doing += " " + ref.String()
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled) && push:
		return fmt.Errorf("%s: interrupted, no tag was changed", doing)
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: interrupted", doing)
	case ctx.Err() != nil:
		err = context.DeadlineExceeded
	}
	return publish.Explain(doing, ref, push, err)
}

// ignorePaths are patterns of .gitignore; nil where the flag was not given.
func ignorePaths(c *cobra.Command, patterns []string) *string {
	if !c.Flags().Changed("ignore-paths") {
		return nil
	}
	text := strings.Join(patterns, "\n")
	return &text
}

func addIgnorePaths(f *pflag.FlagSet, patterns *[]string) {
	f.StringSliceVar(patterns, "ignore-paths", nil,
		"`patterns` of .gitignore to leave out, behind those of .sourceignore files (default: VCS and CI files, images, archives)")
}

// printableLines is printable for a text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

// printable keeps what others wrote from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
