package applier

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/cli-utils/pkg/common"
	"sigs.k8s.io/cli-utils/pkg/object"

	"github.com/towline/towline/internal/deploy"
)

// update changes an inventory. The edit may be called again with newer entries where somebody else wrote too. Shards whose text stays the same are not written;
// where nothing changes, no request is made.
func (s *store) update(ctx context.Context, i info, edit func(entries)) error {
	err := retry(ctx, transientOrRaced, func() error {
		l, err := s.load(ctx, i)
		if err != nil {
			return err
		}
		next := maps.Clone(l.entries)
		edit(next)
		next.place(s.shardMax)
		return s.write(ctx, i, l, next)
	})
	if err != nil {
		return fmt.Errorf("write inventory %s/%s: %w", i.namespace, i.name, err)
	}
	return nil
}

// rename makes an inventory say that its objects are in to.cluster. What one cut off left half done is done by the next one.
func (s *store) rename(ctx context.Context, from, to info) error {
	s.mu.Lock()
	if l := s.ledgers[from.id]; l != nil && l.info.cluster == to.cluster {
		from = to // the former got that far
	}
	s.mu.Unlock()
	if _, err := s.read(ctx, from); err != nil {
		return err
	}
	s.mu.Lock()
	s.ledgers[from.id].info = to
	s.mu.Unlock()
	return s.update(ctx, to, func(entries) {})
}

// put sets what is known of an object; the line of a known one stays where it is.
func (es entries) put(id object.ObjMetadata, e entry) {
	e.shard = -1
	if old, ok := es[id]; ok {
		e.shard = old.shard
	}
	es[id] = e
}

// place gives every new entry (shard -1) a shard with room, and leaves the others where they are.
func (es entries) place(most int) {
	used := map[int]int{}
	var homeless []object.ObjMetadata
	for id, e := range es {
		if e.shard < 0 {
			homeless = append(homeless, id)
			continue
		}
		used[e.shard] += lineBytes(id)
	}
	slices.SortFunc(homeless, compareIDs)
	n := 0
	for _, id := range homeless {
		need := lineBytes(id)
		for used[n] > 0 && used[n]+need > most {
			n++
		}
		used[n] += need
		e := es[id]
		e.shard = n
		es[id] = e
	}
}

// write brings the ConfigMaps from l to next. The ledger is trusted again only when every write was answered.
func (s *store) write(ctx context.Context, i info, l *ledger, next entries) error {
	wanted := map[int]bool{}
	for _, e := range next {
		wanted[e.shard] = true
	}
	shards := maps.Clone(l.shards)
	numbers := slices.Sorted(maps.Keys(wanted))
	for n := range shards {
		if !wanted[n] {
			numbers = append(numbers, n)
		}
	}
	for _, n := range numbers {
		old, exists := shards[n]
		text := next.encode(n)
		sum := sha256.Sum256(text)
		var err error
		switch {
		case len(text) == 0:
			err = s.drop(ctx, i.shardName(n), old)
			delete(shards, n)
		case exists && old.sum == sum && old.cluster == i.cluster:
			continue
		default:
			shards[n], err = s.put(ctx, i.configMap(n, old.version, text), sum)
		}
		if err != nil {
			s.mu.Lock()
			l.unsure = true
			s.mu.Unlock()
			return err
		}
	}
	s.mu.Lock()
	l.entries, l.shards, l.ever = next, shards, true
	s.mu.Unlock()
	return nil
}

func (s *store) put(ctx context.Context, cm *corev1.ConfigMap, sum [sha256.Size]byte) (shard, error) {
	if cm.ResourceVersion != "" {
		out, err := s.maps.Update(ctx, cm, metav1.UpdateOptions{FieldManager: deploy.FieldManager})
		if err != nil {
			return shard{}, err
		}
		return shard{version: out.ResourceVersion, sum: sum, cluster: cm.Annotations[annotationCluster]}, nil
	}
	out, err := s.maps.Create(ctx, cm, metav1.CreateOptions{FieldManager: deploy.FieldManager})
	if apierrors.IsNotFound(err) {
		return shard{}, fmt.Errorf("the agent's namespace %s does not exist; create it or set the config's namespace: %w", s.namespace, errMissingNamespace)
	}
	if err != nil {
		return shard{}, err
	}
	return shard{version: out.ResourceVersion, sum: sum, cluster: cm.Annotations[annotationCluster]}, nil
}

func (s *store) drop(ctx context.Context, name string, old shard) error {
	err := s.maps.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &old.version}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (i info) configMap(n int, version string, text []byte) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name:            i.shardName(n),
			Namespace:       i.namespace,
			ResourceVersion: version,
			Labels:          map[string]string{deploy.LabelState: deploy.StateInventory, common.InventoryLabel: i.id},
			Annotations:     map[string]string{annotationTarget: i.target, annotationShard: strconv.Itoa(n)},
		},
		Data: map[string]string{dataKey: string(text)},
	}
	if i.cluster != "" {
		cm.Annotations[annotationCluster] = i.cluster
	}
	return cm
}
