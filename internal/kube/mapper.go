package kube

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/restmapper"
)

// resetEvery is how often a missing kind may cause discovery to be read again. A reset costs two requests and about 10 ms of decoding, and targets whose CRD
// is missing ask again and again.
const resetEvery = time.Second

// safeMapper is a REST mapper for a process that runs for months. A kind that is not there is looked for again, at most once per resetEvery, so that CRDs
// appear by themselves; and "no match" is only said of a kind whose API group answered, because whoever hears it concludes that such objects are gone.
type safeMapper struct {
	meta.ResettableRESTMapper
	discovery discovery.CachedDiscoveryInterface
	now       func() time.Time

	// mu guards last, and lets one caller at a time read discovery again.
	mu   sync.Mutex
	last time.Time
}

func newSafeMapper(d discovery.CachedDiscoveryInterface) *safeMapper {
	return &safeMapper{ResettableRESTMapper: restmapper.NewDeferredDiscoveryRESTMapper(d), discovery: d, now: time.Now}
}

// RESTMapping implements meta.RESTMapper. An error that meta.IsNoMatchError knows means that the server has no such kind.
func (m *safeMapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return lookUp(m, gk.Group, func() (*meta.RESTMapping, error) { return m.ResettableRESTMapper.RESTMapping(gk, versions...) })
}

// RESTMappings implements meta.RESTMapper.
func (m *safeMapper) RESTMappings(gk schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	return lookUp(m, gk.Group, func() ([]*meta.RESTMapping, error) { return m.ResettableRESTMapper.RESTMappings(gk, versions...) })
}

// KindFor implements meta.RESTMapper.
func (m *safeMapper) KindFor(r schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	return lookUp(m, r.Group, func() (schema.GroupVersionKind, error) { return m.ResettableRESTMapper.KindFor(r) })
}

// ResourceFor implements meta.RESTMapper.
func (m *safeMapper) ResourceFor(r schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	return lookUp(m, r.Group, func() (schema.GroupVersionResource, error) { return m.ResettableRESTMapper.ResourceFor(r) })
}

// Reset implements meta.ResettableRESTMapper: what is known is forgotten at once, whatever the last reset was. For callers that changed a CRD.
func (m *safeMapper) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reset()
}

func (m *safeMapper) reset() {
	m.ResettableRESTMapper.Reset()
	m.last = m.now()
}

// lookUp asks, and where there is no match asks once more after a reset, if one is due.
func lookUp[T any](m *safeMapper, group string, ask func() (T, error)) (T, error) {
	got, err := ask()
	if err == nil || !meta.IsNoMatchError(err) {
		return got, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now().Sub(m.last) >= resetEvery {
		m.reset()
	}
	// Also without a reset of our own: somebody else may have done it while we waited for the lock. From memory this costs microseconds.
	if got, err = ask(); err == nil || !meta.IsNoMatchError(err) {
		return got, err
	}
	if unknown := m.unanswered(group); unknown != nil {
		var none T
		return none, unknown
	}
	return got, err
}

// unanswered is why the kinds of a group are unknown, or nil where the server listed them all. It reads the cache.
func (m *safeMapper) unanswered(group string) error {
	_, _, err := m.discovery.ServerGroupsAndResources()
	if err == nil {
		return nil
	}
	failed, partial := discovery.GroupDiscoveryFailedErrorGroups(err)
	if !partial {
		return fmt.Errorf("discovery failed, so it is not known which kinds there are: %w", err)
	}
	for gv, cause := range failed {
		if gv.Group == group {
			return fmt.Errorf("API group %s is not available now, its kinds are unknown: %w", gv, cause)
		}
	}
	return nil
}
