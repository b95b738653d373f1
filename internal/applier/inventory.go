package applier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"sigs.k8s.io/cli-utils/pkg/common"
	"sigs.k8s.io/cli-utils/pkg/inventory"

	"github.com/towline/towline/internal/deploy"
)

const (
	// shardBytes of lines fill one ConfigMap; the API server takes 1 MiB of it, etcd 1.5 MiB with what the server adds.
	shardBytes = 700 << 10
	// dataKey of the ConfigMap holds the lines.
	dataKey = "objects"
	// annotationTarget on an inventory is the whole name of its target, for people.
	annotationTarget = "towline.dev/target"
	// annotationShard on an inventory is the number of the shard, from 0.
	annotationShard = "towline.dev/shard"
	// annotationCluster on an inventory names the cluster that the objects are in, where that is another one.
	annotationCluster = "towline.dev/cluster"
	// namePrefix of the ConfigMaps.
	namePrefix = "towline-inventory."
	// listPage is how many inventories are read at once when the agent starts: a page of full shards is 14 MB.
	listPage = 20
)

// info names the inventory of one target; it is cli-utils' inventory.Info.
type info struct {
	namespace, name, id, target string
	// cluster that the objects are in, as deploy.Target.Cluster says; empty for the one that the inventory is in.
	cluster string
}

func (i info) Namespace() string { return i.namespace }
func (i info) Name() string      { return i.name }
func (i info) ID() string        { return i.id }

// place is the cluster in words.
func (i info) place() string {
	if i.cluster == "" {
		return "the agent's own cluster"
	}
	return "the cluster of " + i.cluster
}

func (i info) Strategy() inventory.Strategy { return inventory.NameStrategy }

// infoOf derives the names from the target's. The id is what objects bear as their owner; it has the agent's namespace in it, since two agents on one cluster
// may both have a target of that name.
func infoOf(namespace string, n deploy.Name) info {
	return info{namespace: namespace, name: namePrefix + n.LabelValue(), id: short(namespace + "." + n.LabelValue()), target: n.String()}
}

// short cuts a text to the 63 bytes of a label value; what is cut ends in 16 hex digits of the whole.
func short(s string) string {
	const most = 63
	if len(s) <= most {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	tail := "-" + hex.EncodeToString(sum[:8])
	return strings.TrimRight(s[:most-len(tail)], "-._") + tail
}

// shardName is the ConfigMap of a shard. The dot cannot be part of a target's name, so no target's inventory is another one's shard.
func (i info) shardName(shard int) string {
	if shard == 0 {
		return i.name
	}
	return i.name + "." + strconv.Itoa(shard)
}

// ledger is one inventory in memory.
type ledger struct {
	// info is the zero value where a ConfigMap does not say whose it is.
	info    info
	entries entries
	shards  map[int]shard
	// ever: there was a ConfigMap of it at some time in this process's life.
	ever bool
	// unsure: a write's answer was lost or somebody else wrote. It is read again and merged before it is used.
	unsure bool
	// err says why it cannot be read; the target rests until somebody repairs it.
	err error
}

// shard is what is known of one ConfigMap on the server.
type shard struct {
	version string // resourceVersion
	sum     [sha256.Size]byte
	cluster string // that it says its objects are in
}

// store keeps all inventories of the agent: each is read once, kept in memory, and written by compare-and-swap. Only the agent writes them; if somebody else does
// nevertheless, the two are merged and no object is forgotten.
type store struct {
	maps      typedcorev1.ConfigMapInterface
	namespace string
	shardMax  int // bytes; shardBytes but in tests

	// mu guards listed and ledgers. A ledger's fields are replaced, never changed, and only by the one operation that its target has at a time.
	mu      sync.Mutex
	listed  bool
	ledgers map[string]*ledger
}

func newStore(maps typedcorev1.ConfigMapInterface, namespace string) *store {
	return &store{maps: maps, namespace: namespace, shardMax: shardBytes, ledgers: map[string]*ledger{}}
}

// read is what an inventory says now; the result must not be changed. From memory, but for the first call (one LIST for all inventories) and after a write
// whose answer was lost.
func (s *store) read(ctx context.Context, i info) (entries, error) {
	l, err := s.load(ctx, i)
	if err != nil {
		return nil, err
	}
	return l.entries, nil
}

func (s *store) load(ctx context.Context, i info) (*ledger, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.listed {
		if err := s.list(ctx); err != nil {
			return nil, fmt.Errorf("read the inventories in namespace %s: %w", s.namespace, err)
		}
		s.listed = true
	}
	l := s.ledgers[i.id]
	if l == nil {
		l = &ledger{entries: entries{}, shards: map[int]shard{}}
		s.ledgers[i.id] = l
	}
	if l.info.id != "" && l.info.cluster != i.cluster && len(l.entries) > 0 {
		return nil, fmt.Errorf("inventory %s/%s is of objects in %s, and the target is for %s: name the former cluster again and take the entry out of the config, so that they go, "+
			"or delete the inventory's ConfigMaps, to leave them there", i.namespace, i.name, l.info.place(), i.place())
	}
	l.info = i
	if l.unsure || l.err != nil {
		if err := s.reload(ctx, i, l); err != nil {
			return nil, fmt.Errorf("read inventory %s/%s: %w", i.namespace, i.name, err)
		}
	}
	return l, nil
}

// unheard reports whether this process has never seen a ConfigMap of an inventory, whose target is known to have been applied: it may have been lost.
func (s *store) unheard(i info) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.ledgers[i.id]
	return l == nil || !l.ever
}

// list reads every inventory. Called with mu held.
func (s *store) list(ctx context.Context) error {
	opts := metav1.ListOptions{LabelSelector: deploy.LabelState + "=" + deploy.StateInventory, Limit: listPage}
	found := map[string]*ledger{}
	for {
		page, err := s.maps.List(ctx, opts)
		if err != nil {
			return err
		}
		for n := range page.Items {
			cm := &page.Items[n]
			id := cm.Labels[common.InventoryLabel]
			if found[id] == nil {
				found[id] = &ledger{info: s.infoIn(cm), entries: entries{}, shards: map[int]shard{}}
			}
			found[id].take(cm)
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			s.ledgers = found
			return nil
		}
	}
}

// infoIn is whose inventory a ConfigMap says that it is.
func (s *store) infoIn(cm *corev1.ConfigMap) info {
	n, err := deploy.ParseName(cm.Annotations[annotationTarget], "", "")
	if i := infoOf(s.namespace, n); err == nil && i.id == cm.Labels[common.InventoryLabel] {
		i.cluster = cm.Annotations[annotationCluster]
		return i
	}
	return info{}
}

// take adds one ConfigMap as it is on the server.
func (l *ledger) take(cm *corev1.ConfigMap) {
	n, _ := strconv.Atoi(cm.Annotations[annotationShard]) // absent or broken means 0; a wrong number only costs a write
	text := cm.Data[dataKey]
	if err := l.entries.decode(text, n); err != nil {
		l.err = fmt.Errorf("%w: configmap %s: %w", errUnreadable, cm.Name, err)
	}
	l.ever = true
	l.shards[n] = shard{version: cm.ResourceVersion, sum: sha256.Sum256([]byte(text)), cluster: cm.Annotations[annotationCluster]}
}

// reload reads one inventory again and merges: an object that either side knows stays, and where they differ nothing is believed of its content. Called with
// mu held.
func (s *store) reload(ctx context.Context, i info, l *ledger) error {
	page, err := s.maps.List(ctx, metav1.ListOptions{LabelSelector: common.InventoryLabel + "=" + i.id})
	if err != nil {
		return err
	}
	fresh := &ledger{info: i, ever: l.ever, entries: entries{}, shards: map[int]shard{}}
	for n := range page.Items {
		fresh.take(&page.Items[n])
	}
	if fresh.err != nil {
		l.err = fresh.err
		return fresh.err
	}
	for id, mine := range l.entries {
		theirs, ok := fresh.entries[id]
		mine.version = "" // the server does not keep it
		switch {
		case !ok:
			mine.rendered = ""
			fresh.entries[id] = mine
		case theirs != mine:
			theirs.rendered, theirs.kept = "", theirs.kept && mine.kept
			fresh.entries[id] = theirs
		}
	}
	*l = *fresh
	return nil
}
