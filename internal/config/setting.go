package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// setting is one setting of the process: the same thing as a flag, an environment variable and a key of the agent section.
type setting struct {
	key   string // in the agent section, dots for nesting
	flag  string
	usage string
	// fallback is the default: a string, an int, a size or a time.Duration, which is also the type.
	fallback func() any
	// valid says what is wrong with a value of that type; nil allows all.
	valid func(any) error
}

// env is the name of the environment variable: TOWLINE_ and the flag.
func (s setting) env() string {
	return "TOWLINE_" + strings.ToUpper(strings.ReplaceAll(s.flag, "-", "_"))
}

// emptyTurnsOff reports whether an empty variable is a value like any other: it turns a listener off.
func (s setting) emptyTurnsOff() bool {
	return s.key == "listen" || s.key == "listenReceivers" || s.key == "socket"
}

// settings in the order of the help text.
var settings = []setting{
	{key: "config", flag: "config", usage: "config `path`: a file or a folder of *.yaml files", fallback: always("/etc/towline/config.yaml"), valid: notEmpty},
	{key: "kubeconfig", flag: "kubeconfig", usage: "kubeconfig `file` (default: in-cluster, else the usual places)", fallback: always("")},
	{key: "context", flag: "context", usage: "`name` of the kubeconfig's context (default: its current one)", fallback: always("")},
	{key: "cacheDir", flag: "cache-dir", usage: "`folder` that artifacts are kept in", fallback: defaultCacheDir, valid: notEmpty},
	{key: "cacheSize", flag: "cache-size", usage: "`size` on disk that artifacts may take together", fallback: always(gibi), valid: atLeast(minCache)},
	{key: "limits.compressed", flag: "limits-compressed", usage: "`size` of an artifact as it is pulled", fallback: always(64 * mebi), valid: atLeast(kibi)},
	{key: "limits.unpacked", flag: "limits-unpacked", usage: "`size` of an artifact as it is unpacked", fallback: always(256 * mebi), valid: atLeast(kibi)},
	{key: "limits.files", flag: "limits-files", usage: "`number` of files and folders in an artifact", fallback: always(20_000), valid: validCount},
	{key: "clusterName", flag: "cluster-name", usage: "`name` of this cluster in alerts", fallback: always(""), valid: validClusterName},
	{key: "listen", flag: "listen", usage: "`host:port` of health, metrics, status and web page; empty turns them off", fallback: always("127.0.0.1:9797"), valid: validListen},
	{key: "listenReceivers", flag: "listen-receivers", usage: "`host:port` where the receivers of sources are served; empty turns them off", fallback: always(""), valid: validListen},
	{key: "socket", flag: "socket", usage: "unix socket `file` that commands reach the agent by; empty turns it off", fallback: defaultSocket, valid: validSocket},
	{key: "logLevel", flag: "log-level", usage: "`level` of the log: debug, info, warn or error", fallback: always("info"), valid: validWord("debug", "info", "warn", "error")},
	{key: "logFormat", flag: "log-format", usage: "`format` of the log: json or console", fallback: always("json"), valid: validWord("json", "console")},
	{key: "concurrency.kustomizations", flag: "concurrency-kustomizations", usage: "`number` of kustomizations that run at once", fallback: always(4), valid: validCount},
	{key: "concurrency.helmReleases", flag: "concurrency-helm-releases", usage: "`number` of Helm releases that run at once", fallback: always(3), valid: validCount},
	{key: "resync", flag: "resync", usage: "`time` between full checks of what is watched anyway, where interval is shorter", fallback: always(time.Hour), valid: validTimeout},
	{key: "shutdownTimeout", flag: "shutdown-timeout", usage: "`time` that running work may take to end after a signal", fallback: always(30 * time.Second), valid: validTimeout},
}

func always(v any) func() any { return func() any { return v } }

// defaultCacheDir is what systemd made for CacheDirectory=, else the usual place.
func defaultCacheDir() any {
	if d := firstDir("CACHE_DIRECTORY"); d != "" {
		return d
	}
	return "/var/cache/towline"
}

// defaultSocket is in what systemd made for RuntimeDirectory=, else in the usual place.
func defaultSocket() any {
	if d := firstDir("RUNTIME_DIRECTORY"); d != "" {
		return filepath.Join(d, "towline.sock")
	}
	return "/run/towline/towline.sock"
}

// firstDir is the first of the colon-separated folders that systemd passes (systemd.exec(5)).
func firstDir(env string) string {
	first, _, _ := strings.Cut(os.Getenv(env), ":")
	return first
}

// parse reads a value, from wherever it came, as the type of the setting.
func (s setting) parse(v any) (any, error) {
	text := fmt.Sprint(v)
	switch s.fallback().(type) {
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("want a whole number, got %q", text)
		}
		return n, nil
	case size:
		n, err := parseSize(text)
		if err != nil {
			return nil, err
		}
		return n, nil
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("want a duration such as 30s or 5m, got %q", text)
		}
		return d, nil
	}
	return text, nil
}

// check parses and validates.
func (s setting) check(v any) error {
	parsed, err := s.parse(v)
	if err != nil || s.valid == nil {
		return err
	}
	return s.valid(parsed)
}

func notEmpty(v any) error {
	if v.(string) == "" {
		return errors.New("is empty")
	}
	return nil
}

func validListen(v any) error {
	address := v.(string)
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	n, perr := strconv.Atoi(port)
	if err != nil || perr != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is not host:port: want something like 127.0.0.1:9797 or :9797", address)
	}
	return nil
}

// maxSocketPath is what fits into sockaddr_un.sun_path of Linux, in bytes, without the closing NUL.
const maxSocketPath = 107

func validSocket(v any) error {
	if n := len(v.(string)); n > maxSocketPath {
		return fmt.Errorf("the path has %d bytes: a unix socket allows %d", n, maxSocketPath)
	}
	return nil
}

func validWord(allowed ...string) func(any) error {
	return func(v any) error {
		got := v.(string)
		if slices.Contains(allowed, got) {
			return nil
		}
		return fmt.Errorf("%q is not one of %s", got, strings.Join(allowed, ", "))
	}
}

// minCache leaves room for one small artifact and the next version of it. Below it the agent would pull at every poll.
const minCache = 16 * mebi

// maxClusterName is far more than any name and less than what breaks a chat message, in bytes.
const maxClusterName = 253

func validClusterName(v any) error {
	name := v.(string)
	if len(name) > maxClusterName {
		return fmt.Errorf("the name has %d bytes: want at most %d", len(name), maxClusterName)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%q has characters that cannot be printed", name)
	}
	return nil
}

func validCount(v any) error {
	if v.(int) < 1 {
		return fmt.Errorf("%d is too small: want at least 1", v)
	}
	return nil
}

func validTimeout(v any) error {
	if v.(time.Duration) <= 0 {
		return fmt.Errorf("%s is not positive", v)
	}
	return nil
}
