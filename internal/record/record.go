// Package record remembers outcomes and intent of targets across restarts: one labelled ConfigMap per target in the agent's namespace.
package record

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/kube"
)

const (
	// dataKey holds the JSON of a deploy.Record.
	dataKey = "record"
	// pageSize bounds one answer of a LIST: a record is 1 to 6 KiB, so a page stays below 3 MiB.
	pageSize = 500
	// maxTries of one Save, each after somebody else changed the ConfigMap in between. There is one agent per namespace, so even one conflict is rare.
	maxTries = 5
)

// Store keeps records. Safe for concurrent use.
type Store struct {
	client    typedcorev1.ConfigMapInterface
	namespace string

	mu    sync.Mutex // guards known
	known map[string]entry
}

// entry is what is known of a stored ConfigMap: enough to update it without reading it, and to see that it need not be.
type entry struct {
	version string
	hash    string
}

// New makes a Store in the agent's namespace, which has to exist.
func New(clients *kube.Clients, namespace string) *Store {
	return &Store{client: clients.Kubernetes.CoreV1().ConfigMaps(namespace), namespace: namespace, known: make(map[string]entry)}
}

// Load reads every record with one paged LIST. Records that cannot be decoded are left out and named by a *CorruptError beside the others.
func (s *Store) Load(ctx context.Context) ([]deploy.Record, error) {
	var records []deploy.Record
	corrupt := &CorruptError{Namespace: s.namespace}
	known := make(map[string]entry)
	opts := metav1.ListOptions{LabelSelector: deploy.LabelState + "=" + deploy.StateRecord, Limit: pageSize}
	for {
		page, err := s.client.List(ctx, opts)
		if apierrors.IsResourceExpired(err) && opts.Continue != "" {
			// The server let go of the snapshot that the pages come from: begin anew.
			records, corrupt.Names, opts.Continue = nil, nil, ""
			clear(known)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the records in namespace %s: %w", s.namespace, err)
		}
		for i := range page.Items {
			cm := &page.Items[i]
			rec, err := decode(cm)
			if err != nil {
				corrupt.Names = append(corrupt.Names, cm.Name)
				known[cm.Name] = entry{version: cm.ResourceVersion}
				continue
			}
			records = append(records, rec)
			known[cm.Name] = entry{cm.ResourceVersion, deploy.HashOf(rec)}
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			break
		}
	}
	s.mu.Lock()
	s.known = known
	s.mu.Unlock()
	if len(corrupt.Names) > 0 {
		return records, corrupt
	}
	return records, nil
}

// decode reads one ConfigMap.
func decode(cm *corev1.ConfigMap) (deploy.Record, error) {
	var rec deploy.Record
	if err := json.Unmarshal([]byte(cm.Data[dataKey]), &rec); err != nil {
		return rec, fmt.Errorf("decode: %w", err)
	}
	if objectName(rec.Target.Name) != cm.Name {
		return rec, fmt.Errorf("the record is of %s, which has another ConfigMap", rec.Target.Name)
	}
	return rec, nil
}

// Save stores a record, unless exactly that is stored already. Helm values are never stored. Where somebody else changed or removed the ConfigMap, it is
// read again and overwritten: the agent is the only one that knows.
func (s *Store) Save(ctx context.Context, rec deploy.Record) error {
	rec.Target = withoutValues(rec.Target)
	name, hash := objectName(rec.Target.Name), deploy.HashOf(rec)
	before := s.entry(name)
	if before.hash == hash {
		return nil
	}
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode the record of %s: %w", rec.Target.Name, err)
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.namespace, Labels: map[string]string{deploy.LabelState: deploy.StateRecord}},
		Data:       map[string]string{dataKey: string(data)},
	}
	version, err := s.write(ctx, cm, before.version)
	if err != nil {
		return fmt.Errorf("save the record of %s in ConfigMap %s/%s: %w", rec.Target.Name, s.namespace, name, err)
	}
	s.note(name, entry{version, hash})
	return nil
}

// write creates or overwrites the ConfigMap and returns its new version. The given version is the one that it is believed to have; empty: it is believed absent.
func (s *Store) write(ctx context.Context, cm *corev1.ConfigMap, version string) (string, error) {
	for try := 1; ; try++ {
		var stored *corev1.ConfigMap
		var err error
		if version == "" {
			stored, err = s.client.Create(ctx, cm, metav1.CreateOptions{FieldManager: deploy.FieldManager})
		} else {
			cm.ResourceVersion = version
			stored, err = s.client.Update(ctx, cm, metav1.UpdateOptions{FieldManager: deploy.FieldManager})
		}
		switch {
		case err == nil:
			return stored.ResourceVersion, nil
		case try == maxTries, !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && (version == "" || !apierrors.IsNotFound(err)):
			s.forget(cm.Name)
			return "", err
		}
		if version, err = s.adopt(ctx, cm.Name); err != nil {
			return "", err
		}
		cm.ResourceVersion = ""
	}
}

// adopt returns the version of a ConfigMap that turned out not to be as believed; empty if it is not there.
func (s *Store) adopt(ctx context.Context, name string) (string, error) {
	cm, err := s.client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if cm.Labels[deploy.LabelState] != deploy.StateRecord {
		return "", fmt.Errorf("it exists but is not a record: it lacks the label %s=%s: remove it, or give the agent a namespace of its own",
			deploy.LabelState, deploy.StateRecord)
	}
	return cm.ResourceVersion, nil
}

// Forget removes a record; one that is not there is no error.
func (s *Store) Forget(ctx context.Context, n deploy.Name) error {
	name := objectName(n)
	err := s.client.Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the record of %s, ConfigMap %s/%s: %w", n, s.namespace, name, err)
	}
	s.forget(name)
	return nil
}

func (s *Store) entry(name string) entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[name]
}

func (s *Store) note(name string, e entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[name] = e
}

// forget drops what is known, so that the next Save finds out.
func (s *Store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, name)
}

// withoutValues is the target without Helm values, which may be secret: a ConfigMap is no place for them, whoever calls.
func withoutValues(t deploy.Target) deploy.Target {
	if t.HelmRelease != nil && t.HelmRelease.Values != nil {
		h := *t.HelmRelease
		h.Values = nil
		t.HelmRelease = &h
	}
	return t
}

// CorruptError names ConfigMaps that are labelled as records but hold none. Their targets are without memory until the next Save.
type CorruptError struct {
	Namespace string
	Names     []string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("not a record: ConfigMaps %s in namespace %s: remove them, or restore them from a backup", strings.Join(e.Names, ", "), e.Namespace)
}

// Partial tells that the other records were read.
func (e *CorruptError) Partial() bool { return true }
