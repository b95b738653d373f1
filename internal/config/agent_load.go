package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Agent holds the settings of the process, checked and complete.
type Agent struct {
	// Config is the path that Load and Watch take.
	Config string
	// Kubeconfig and Context may be empty: then the usual rules choose.
	Kubeconfig, Context string
	CacheDir            string
	// CacheSize is what the artifacts on disk may take together, in bytes.
	CacheSize int64
	Limits    Limits
	// ClusterName is how alerts name this cluster; empty: they name none.
	ClusterName string
	// Listen is host:port; empty: no server.
	Listen string
	// ListenReceivers is host:port; empty: no server.
	ListenReceivers string
	// Socket is the path of the unix socket; empty: none.
	Socket string
	// LogLevel is debug, info, warn or error.
	LogLevel string
	// LogFormat is json or console.
	LogFormat       string
	Concurrency     Concurrency
	Resync          time.Duration
	ShutdownTimeout time.Duration
}

// Concurrency is how many targets of each kind may run at once, at least 1.
type Concurrency struct{ Kustomizations, HelmReleases int }

// Limits bound one artifact: Compressed and Unpacked in bytes, Files in entries of its archive.
type Limits struct {
	Compressed, Unpacked int64
	Files                int
}

// AddFlags defines a flag for each setting, or only those that are named.
func AddFlags(flags *pflag.FlagSet, only ...string) {
	for _, s := range settings {
		if len(only) > 0 && !slices.Contains(only, s.flag) {
			continue
		}
		usage := fmt.Sprintf("%s [%s]", s.usage, s.env())
		switch v := s.fallback().(type) {
		case string:
			flags.String(s.flag, v, usage)
		case int:
			flags.Int(s.flag, v, usage)
		case size:
			flags.String(s.flag, v.String(), usage)
		case time.Duration:
			flags.Duration(s.flag, v, usage)
		}
	}
}

// LoadAgent reads the settings: a flag beats its TOWLINE_* variable, which beats the agent section of the config that --config names, which beats
// the default. Flags that the set does not have, and a nil set, are left out. A config that is not there is no error here: not every command needs
// one. With an error the Agent is still filled, as far as it could be read.
func LoadAgent(flags *pflag.FlagSet) (Agent, error) {
	v := viper.New()
	v.AllowEmptyEnv(true) // TOWLINE_LISTEN= turns the server off
	for _, s := range settings {
		v.SetDefault(s.key, s.fallback())
		if text, set := os.LookupEnv(s.env()); set && (text != "" || s.emptyTurnsOff()) {
			if err := v.BindEnv(s.key, s.env()); err != nil {
				return Agent{}, fmt.Errorf("bind %s: %w", s.env(), err)
			}
		}
		if flags == nil {
			continue
		}
		if f := flags.Lookup(s.flag); f != nil {
			if err := v.BindPFlag(s.key, f); err != nil {
				return Agent{}, fmt.Errorf("bind --%s: %w", s.flag, err)
			}
		}
	}
	l := newLoader()
	if err := l.readAgentSections(v.GetString("config")); err != nil {
		return agentOf(v), err
	}
	if err := v.MergeConfigMap(l.agent); err != nil {
		return agentOf(v), fmt.Errorf("read the agent section: %w", err)
	}
	var wrong []error
	if len(l.problems) > 0 {
		wrong = append(wrong, newError(l.problems))
	}
	for _, s := range settings {
		origin := origin(s, flags)
		if origin == "" {
			continue // from the file, which was checked, or a default
		}
		if err := s.check(v.Get(s.key)); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", origin, err))
		}
	}
	return agentOf(v), errors.Join(wrong...)
}

// origin names the flag or variable that a setting comes from; empty for the file and the default.
func origin(s setting, flags *pflag.FlagSet) string {
	if flags != nil {
		if f := flags.Lookup(s.flag); f != nil && f.Changed {
			return "--" + s.flag
		}
	}
	if text, set := os.LookupEnv(s.env()); set && (text != "" || s.emptyTurnsOff()) {
		return s.env()
	}
	return ""
}

// readAgentSections reads nothing of the config but its agent section.
func (l *loader) readAgentSections(path string) error {
	files, err := listFiles(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, file := range files {
		budget := &budget{left: maxWritten}
		for _, doc := range l.documents(file) {
			for _, f := range doc.fields {
				if f.key == "agent" && f.value.kind != kindNull && f.value.kind != kindBad {
					l.readAgent(f, budget)
				}
			}
		}
	}
	return nil
}

// agentOf reads the settings out of viper. A value that does not parse becomes the default: LoadAgent reports it.
func agentOf(v *viper.Viper) Agent {
	values := map[string]any{}
	for _, s := range settings {
		parsed, err := s.parse(v.Get(s.key))
		if err != nil {
			parsed = s.fallback()
		}
		values[s.key] = parsed
	}
	text := func(key string) string { return values[key].(string) }
	bytes := func(key string) int64 { return int64(values[key].(size)) }
	return Agent{
		Config:     text("config"),
		Kubeconfig: text("kubeconfig"),
		Context:    text("context"),
		CacheDir:   text("cacheDir"),
		CacheSize:  bytes("cacheSize"),
		Limits: Limits{
			Compressed: bytes("limits.compressed"),
			Unpacked:   bytes("limits.unpacked"),
			Files:      values["limits.files"].(int),
		},
		ClusterName:     text("clusterName"),
		Listen:          text("listen"),
		ListenReceivers: text("listenReceivers"),
		Socket:          text("socket"),
		LogLevel:        text("logLevel"),
		LogFormat:       text("logFormat"),
		Concurrency: Concurrency{
			Kustomizations: values["concurrency.kustomizations"].(int),
			HelmReleases:   values["concurrency.helmReleases"].(int),
		},
		Resync:          values["resync"].(time.Duration),
		ShutdownTimeout: values["shutdownTimeout"].(time.Duration),
	}
}

// lookup finds a dotted key in nested maps; nil if it is not there.
func lookup(m map[string]any, key string) any {
	head, rest, nested := strings.Cut(key, ".")
	if !nested {
		return m[head]
	}
	inner, _ := m[head].(map[string]any)
	return lookup(inner, rest)
}
