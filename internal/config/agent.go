package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// agentSection is agent: in a file, settings of the process. Every one of them is also a flag and a TOWLINE_* environment variable.
type agentSection struct {
	// Kubeconfig is the file that says where the cluster is. Default: the cluster that the agent runs in, else KUBECONFIG and ~/.kube/config.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// Context of the kubeconfig. Default: its current one.
	Context string `json:"context,omitempty"`
	// CacheDir keeps artifacts; it may be deleted while the agent is stopped. Default: $CACHE_DIRECTORY, else /var/cache/towline.
	CacheDir string `json:"cacheDir,omitempty"`
	// CacheSize is what the artifacts in cacheDir may take on the disk together, at least 16Mi; what is in use is kept whatever it takes. Default: 1Gi.
	CacheSize string `json:"cacheSize,omitempty"`
	// Limits bound a single artifact: a larger one is refused.
	Limits *limitsSection `json:"limits,omitempty"`
	// ClusterName is how alerts name this cluster. Default: alerts name none.
	ClusterName string `json:"clusterName,omitempty"`
	// Listen is the host:port of health, metrics, status API and web page; empty turns them off. Default: 127.0.0.1:9797.
	Listen string `json:"listen,omitempty"`
	// ListenReceivers is the host:port where the receivers of sources are served, and nothing else; empty: nowhere. Default: empty.
	ListenReceivers string `json:"listenReceivers,omitempty"`
	// Socket is the unix socket that commands reach the agent by. Default: $RUNTIME_DIRECTORY/towline.sock, else /run/towline/towline.sock.
	Socket string `json:"socket,omitempty"`
	// LogLevel is debug, info, warn or error. Default: info.
	LogLevel string `json:"logLevel,omitempty"`
	// LogFormat is json or console. Default: json.
	LogFormat string `json:"logFormat,omitempty"`
	// Concurrency bounds how many targets run at once.
	Concurrency *concurrencySection `json:"concurrency,omitempty"`
	// Resync is the time between full checks of manifests all of whose objects are watched, where their interval is shorter. Default: 1h.
	Resync *metav1.Duration `json:"resync,omitempty"`
	// ShutdownTimeout is how long running work may take to end after a signal. Default: 30s.
	ShutdownTimeout *metav1.Duration `json:"shutdownTimeout,omitempty"`
}

// limitsSection is agent.limits in a file.
type limitsSection struct {
	// Compressed is how large an artifact may be as it is pulled: its layer, in bytes or as 64Mi. Default: 64Mi.
	Compressed string `json:"compressed,omitempty"`
	// Unpacked is how large its files may be together once they are unpacked. Default: 256Mi.
	Unpacked string `json:"unpacked,omitempty"`
	// Files is how many files and folders it may hold. Default: 20000.
	Files int `json:"files,omitempty"`
}

// concurrencySection is agent.concurrency in a file.
type concurrencySection struct {
	// Kustomizations that run at once. Default: 4.
	Kustomizations int `json:"kustomizations,omitempty"`
	// HelmReleases that run at once: each holds a chart in memory. Default: 3.
	HelmReleases int `json:"helmReleases,omitempty"`
}

// readAgent takes in the agent section, strictly.
func (l *loader) readAgent(f field, budget *budget) {
	if l.agent != nil {
		l.report(f.place, fmt.Sprintf("agent is already given in %s: keep one", where(l.agentAt, f.place)))
		return
	}
	w := &walker{label: "agent", report: l.report, places: map[string]place{}, wrong: map[string]bool{}, budget: budget}
	before := len(l.problems)
	if !w.value(f.value, reflect.TypeFor[agentSection](), "", 0) {
		return
	}
	l.agentAt, l.agent = f.place, map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(w.out.Bytes()))
	dec.UseNumber()
	if err := dec.Decode(&l.agent); err != nil {
		l.report(f.place, "agent: "+err.Error())
		return
	}
	if len(l.problems) > before {
		return
	}
	// What viper would say of the section alone; flags and the environment are not part of a config.
	for _, s := range settings {
		at, given := w.places[s.key]
		if !given {
			continue
		}
		if err := s.check(lookup(l.agent, s.key)); err != nil {
			l.report(at, message("agent", s.key, err.Error()))
		}
	}
}
