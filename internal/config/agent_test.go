package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// clearEnv takes every variable that the settings look at out of the test's environment.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, s := range settings {
		unset(t, s.env())
	}
	unset(t, "CACHE_DIRECTORY")
	unset(t, "RUNTIME_DIRECTORY")
}

func unset(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "") // so that it is put back
	try(t, os.Unsetenv(name))
}

// flagsWith are the agent's flags, given the arguments.
func flagsWith(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("towline", pflag.ContinueOnError)
	AddFlags(flags)
	try(t, flags.Parse(args))
	return flags
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	write(t, file, text)
	return file
}

func TestSettingsHaveDefaults(t *testing.T) {
	clearEnv(t)
	want := Agent{
		Config: filepath.Join(t.TempDir(), "missing.yaml"), CacheDir: "/var/cache/towline", Listen: "127.0.0.1:9797", Socket: "/run/towline/towline.sock",
		CacheSize: 1 << 30, Limits: Limits{Compressed: 64 << 20, Unpacked: 256 << 20, Files: 20_000},
		LogLevel: "info", LogFormat: "json", Concurrency: Concurrency{Kustomizations: 4, HelmReleases: 3}, Resync: time.Hour, ShutdownTimeout: 30 * time.Second,
	}
	got, err := LoadAgent(flagsWith(t, "--config", want.Config))
	try(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	t.Run("also where there are no flags", func(t *testing.T) {
		t.Setenv("TOWLINE_CONFIG", want.Config)
		got, err := LoadAgent(nil)
		try(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("settings (-want +got):\n%s", diff)
		}
	})
	t.Run("and follow systemd's folders", func(t *testing.T) {
		t.Setenv("CACHE_DIRECTORY", "/var/cache/one:/var/cache/two")
		t.Setenv("RUNTIME_DIRECTORY", "/run/one")
		got, err := LoadAgent(flagsWith(t, "--config", want.Config))
		try(t, err)
		if got.CacheDir != "/var/cache/one" || got.Socket != "/run/one/towline.sock" {
			t.Errorf("got %s and %s", got.CacheDir, got.Socket)
		}
	})
}

func TestFlagsBeatTheEnvironmentThatBeatsTheFileThatBeatsTheDefault(t *testing.T) {
	// Of each setting: what a file, a variable and a flag say, and how it is read back.
	cases := map[string]struct {
		file, env, flag string
		get             func(Agent) any
		fromFile        any
		fromEnv         any
		fromFlag        any
	}{
		"kubeconfig":                 {"kubeconfig: /f", "/e", "/a", func(a Agent) any { return a.Kubeconfig }, "/f", "/e", "/a"},
		"context":                    {"context: f", "e", "a", func(a Agent) any { return a.Context }, "f", "e", "a"},
		"cache-dir":                  {"cacheDir: /f", "/e", "/a", func(a Agent) any { return a.CacheDir }, "/f", "/e", "/a"},
		"cache-size":                 {"cacheSize: 1Gi", "512Mi", "100M", func(a Agent) any { return a.CacheSize }, int64(1 << 30), int64(512 << 20), int64(100_000_000)},
		"limits-compressed":          {"limits: {compressed: 1Mi}", "2Mi", "3Mi", func(a Agent) any { return a.Limits.Compressed }, int64(1 << 20), int64(2 << 20), int64(3 << 20)},
		"limits-unpacked":            {"limits: {unpacked: 1Mi}", "2Mi", "1048576", func(a Agent) any { return a.Limits.Unpacked }, int64(1 << 20), int64(2 << 20), int64(1 << 20)},
		"limits-files":               {"limits: {files: 7}", "8", "9", func(a Agent) any { return a.Limits.Files }, 7, 8, 9},
		"cluster-name":               {"clusterName: f", "e", "a", func(a Agent) any { return a.ClusterName }, "f", "e", "a"},
		"listen":                     {"listen: ':1'", "", ":3", func(a Agent) any { return a.Listen }, ":1", "", ":3"},
		"listen-receivers":           {"listenReceivers: ':1'", "", ":3", func(a Agent) any { return a.ListenReceivers }, ":1", "", ":3"},
		"socket":                     {"socket: /f", "/e", "", func(a Agent) any { return a.Socket }, "/f", "/e", ""},
		"log-level":                  {"logLevel: warn", "error", "debug", func(a Agent) any { return a.LogLevel }, "warn", "error", "debug"},
		"log-format":                 {"logFormat: console", "json", "console", func(a Agent) any { return a.LogFormat }, "console", "json", "console"},
		"concurrency-kustomizations": {"concurrency: {kustomizations: 7}", "8", "9", func(a Agent) any { return a.Concurrency.Kustomizations }, 7, 8, 9},
		"concurrency-helm-releases":  {"concurrency: {helmReleases: 7}", "8", "9", func(a Agent) any { return a.Concurrency.HelmReleases }, 7, 8, 9},
		"resync":                     {"resync: 1m", "2m", "3m", func(a Agent) any { return a.Resync }, time.Minute, 2 * time.Minute, 3 * time.Minute},
		"shutdown-timeout":           {"shutdownTimeout: 1m", "2m", "3m", func(a Agent) any { return a.ShutdownTimeout }, time.Minute, 2 * time.Minute, 3 * time.Minute},
	}
	if len(cases) != len(settings)-1 { // all but --config, which a file cannot give
		t.Errorf("%d of %d settings are tested", len(cases), len(settings)-1)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			clearEnv(t)
			file := configFile(t, "agent: {"+c.file+"}\n")
			check := func(origin string, want any, args ...string) {
				t.Helper()
				got, err := LoadAgent(flagsWith(t, append(args, "--config", file)...))
				try(t, err)
				if diff := cmp.Diff(want, c.get(got)); diff != "" {
					t.Errorf("from the %s (-want +got):\n%s", origin, diff)
				}
			}
			check("file", c.fromFile)
			t.Setenv("TOWLINE_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")), c.env)
			check("environment", c.fromEnv)
			check("flag", c.fromFlag, "--"+name+"="+c.flag)
		})
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		file, env, value string
		args             []string
		want             string
	}{
		"a bad flag":                     {args: []string{"--log-level=loud"}, want: `--log-level: "loud" is not one of debug, info, warn, error`},
		"a bad variable":                 {env: "TOWLINE_LISTEN", value: "here", want: `TOWLINE_LISTEN: "here" is not host:port: want something like 127.0.0.1:9797 or :9797`},
		"a variable that is no number":   {env: "TOWLINE_CONCURRENCY_KUSTOMIZATIONS", value: "many", want: `TOWLINE_CONCURRENCY_KUSTOMIZATIONS: want a whole number, got "many"`},
		"a variable that is no duration": {env: "TOWLINE_SHUTDOWN_TIMEOUT", value: "30", want: `TOWLINE_SHUTDOWN_TIMEOUT: want a duration such as 30s or 5m, got "30"`},
		"a variable that is no size":     {env: "TOWLINE_CACHE_SIZE", value: "1 GB", want: `TOWLINE_CACHE_SIZE: want a size such as 512Mi or 2Gi, got "1 GB"`},
		"a cache that is too small":      {args: []string{"--cache-size=15Mi"}, want: "--cache-size: 15Mi is too small: want at least 16Mi"},
		"a limit of nothing":             {args: []string{"--limits-compressed=0", "--limits-unpacked=-1", "--limits-files=0"}, want: "--limits-compressed: 0 is too small: want at least 1Ki\n--limits-unpacked: -1 is too small: want at least 1Ki\n--limits-files: 0 is too small: want at least 1"},
		"a cluster's name on two lines":  {args: []string{"--cluster-name=a\nb"}, want: `--cluster-name: "a\nb" has characters that cannot be printed`},
		"an unknown key":                 {file: "\n\nagent:\n  cachedir: /x\n", want: "config.yaml:4: agent: cachedir: unknown key: did you mean cacheDir?"},
		"a file that is not YAML":        {file: "agent: {\n", want: "config.yaml:3: not valid YAML: did not find expected ',' or '}'"},
		"all of it":                      {file: "agent: {logLevel: x}\n", args: []string{"--concurrency-helm-releases=0"}, want: "config.yaml:1: agent: logLevel: \"x\" is not one of debug, info, warn, error\n--concurrency-helm-releases: 0 is too small: want at least 1"},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnv(t)
			file := configFile(t, c.file+"\nsources: []\n")
			if c.env != "" {
				t.Setenv(c.env, c.value)
			}
			got, err := LoadAgent(flagsWith(t, append(c.args, "--config", file)...))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(c.want, strings.ReplaceAll(err.Error(), filepath.Dir(file)+"/", "")); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			if got.CacheSize == 0 || got.Socket == "" || got.ShutdownTimeout == 0 {
				t.Errorf("the settings are not filled: %+v", got)
			}
		})
	}
	t.Run("but mistakes elsewhere in the config are not the settings' business", func(t *testing.T) {
		clearEnv(t)
		got, err := LoadAgent(flagsWith(t, "--config", configFile(t, "sorces: 1\nagent: {logLevel: warn}\nkustomizations: [{}]\n")))
		try(t, err)
		if got.LogLevel != "warn" {
			t.Errorf("got level %s", got.LogLevel)
		}
	})
	t.Run("and an unreadable config is an error", func(t *testing.T) {
		clearEnv(t)
		_, err := LoadAgent(flagsWith(t, "--config", t.TempDir()))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("got %v", err)
		}
	})
}

func TestExampleShowsTheDefaultsOfTheSettings(t *testing.T) {
	clearEnv(t)
	defaults, err := LoadAgent(flagsWith(t, "--config", "/nowhere/config.yaml"))
	try(t, err)
	content, err := os.ReadFile(examplePath)
	try(t, err)
	for _, line := range []string{
		"cacheDir: " + defaults.CacheDir, "cacheSize: " + size(defaults.CacheSize).String(),
		"compressed: " + size(defaults.Limits.Compressed).String(), "unpacked: " + size(defaults.Limits.Unpacked).String(), "files: 20000", "listen: " + defaults.Listen, "listenReceivers: " + defaults.ListenReceivers, "socket: " + defaults.Socket, "logLevel: " + defaults.LogLevel,
		"logFormat: " + defaults.LogFormat, "kustomizations: 4", "helmReleases: 3", "resync: 1h", "shutdownTimeout: " + defaults.ShutdownTimeout.String(),
	} {
		if !strings.Contains(string(content), line) {
			t.Errorf("configs/example.yaml does not show %q", line)
		}
	}
}

func TestGuideListsEverySetting(t *testing.T) {
	content, err := os.ReadFile("../../docs/operating.md")
	try(t, err)
	for _, s := range settings {
		key := "`" + s.key + "`"
		if s.key == "config" { // which a file cannot give
			key = "–"
		}
		if row := "| `--" + s.flag + "` | `" + s.env() + "` | " + key + " | "; !strings.Contains(string(content), row) {
			t.Errorf("docs/operating.md has no row that begins %s", row)
		}
	}
}
