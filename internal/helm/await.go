package helm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"

	helmkube "helm.sh/helm/v3/pkg/kube"

	"github.com/towline/towline/internal/deploy"
)

// maxErrors is how many errors in a row the look-ups of a wait may give before it fails: about a minute of them.
const maxErrors = 30

// item is an object that is waited for.
type item struct {
	info    *resource.Info
	name    string
	version uint64 // newest that was judged; older sightings are of the time before
	detail  string
	seen    *unstructured.Unstructured
}

// group is items of one kind that are looked at together.
type group struct {
	view   view
	items  []*item
	errors int
	stop   context.CancelFunc
}

// await blocks until the answer is yes for every object, no for one, or the time is up: the SDK's timeout or the operation's, whichever is first, since hooks and waits of one operation
// share its time. Objects are judged by what the server answered when they were sent; those that are not ready then are watched, one watch for a kind.
func (c *client) await(list helmkube.ResourceList, timeout time.Duration, q question) error {
	w := &waiting{client: c, question: q}
	if err := w.begin(list); err != nil || len(w.pending) == 0 {
		return err
	}
	end := time.Now().Add(timeout)
	if end.After(c.deadline) {
		end = c.deadline
	}
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()

	ctx, cancel := context.WithCancel(c.ctx)
	sightings := make(chan sighting)
	var followers sync.WaitGroup
	defer followers.Wait()
	defer cancel()
	for _, g := range w.groups(c.target) {
		var mine context.Context
		mine, g.stop = context.WithCancel(ctx)
		followers.Go(func() {
			g.view.follow(mine, g.since(), func(s sighting) {
				s.group = g
				select {
				case sightings <- s:
				case <-mine.Done():
				}
			})
		})
	}
	w.report()
	for len(w.pending) > 0 {
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-timer.C:
			c.late = true
			return w.timeUp()
		case s := <-sightings:
			if err := w.take(s); err != nil {
				return err
			}
		}
	}
	return c.ctx.Err()
}

// waiting is one wait.
type waiting struct {
	client   *client
	question question
	pending  []*item
	said     string
}

// begin judges what the server answered when the objects were sent; where that is not known, it asks once.
func (w *waiting) begin(list helmkube.ResourceList) error {
	for _, i := range list {
		it := &item{info: i, name: nameOf(i)}
		now, ok := i.Object.(*unstructured.Unstructured)
		if !ok || now.GetResourceVersion() == "" {
			var err error
			now, err = w.client.dynamic.Resource(i.Mapping.Resource).Namespace(i.Namespace).Get(w.client.ctx, i.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				now = nil
			} else if err != nil {
				w.pending = append(w.pending, it) // for those who follow it to see
				continue
			}
		}
		if done, err := w.judge(it, now); err != nil {
			return err
		} else if !done {
			w.pending = append(w.pending, it)
		}
	}
	return nil
}

// groups sorts the pending items by what one watch can show. By label where several objects of a kind bear it, else by name.
func (w *waiting) groups(target string) []*group {
	type key struct {
		resource             schema.GroupVersionResource
		namespace, one, many string
	}
	byKey := map[key]*group{}
	var out []*group
	for _, it := range w.pending {
		k := key{resource: it.info.Mapping.Resource, namespace: it.info.Namespace, one: it.info.Name}
		if it.seen != nil && target != "" && it.seen.GetLabels()[deploy.LabelTarget] == target {
			k.one, k.many = "", target
		}
		g := byKey[k]
		if g == nil {
			g = &group{view: view{client: w.client.dynamic.Resource(k.resource).Namespace(k.namespace)}}
			if k.many != "" {
				g.view.labels = deploy.LabelTarget + "=" + k.many
			}
			byKey[k] = g
			out = append(out, g)
		}
		g.items = append(g.items, it)
	}
	for _, g := range out {
		if len(g.items) == 1 {
			g.view.labels, g.view.fields = "", metav1.ObjectNameField+"="+g.items[0].info.Name
		}
	}
	return out
}

// since is the version to watch from: that of the oldest answer, or empty where there is none.
func (g *group) since() string {
	oldest := slices.MinFunc(g.items, func(a, b *item) int { return cmp.Compare(a.version, b.version) }).version
	if oldest == 0 {
		return ""
	}
	return strconv.FormatUint(oldest, 10)
}

// take works a sighting in. The error is a no, or why nothing can be seen.
func (w *waiting) take(s sighting) error {
	g := s.group
	if s.err != nil {
		if g.errors++; !passing(s.err) || g.errors > maxErrors {
			return fmt.Errorf("wait for %s: %w", g.items[0].name, s.err)
		}
		w.client.log("a look at %s failed, trying again: %v", g.items[0].name, s.err)
		return nil
	}
	g.errors = 0
	for _, it := range slices.Clone(g.items) {
		i := slices.IndexFunc(s.objects, func(u *unstructured.Unstructured) bool { return u.GetName() == it.info.Name })
		if i < 0 && !s.whole {
			continue
		}
		var now *unstructured.Unstructured
		if i >= 0 {
			now = s.objects[i]
			if v := versionOf(now); v != 0 && v <= it.version && !s.whole {
				continue
			}
			if s.gone {
				it.version, now = versionOf(now), nil
			}
		}
		done, err := w.judge(it, now)
		if err != nil {
			return err
		}
		if done {
			g.items = slices.DeleteFunc(g.items, func(o *item) bool { return o == it })
			w.pending = slices.DeleteFunc(w.pending, func(o *item) bool { return o == it })
		}
	}
	if len(g.items) == 0 {
		g.stop()
	}
	w.report()
	return nil
}

// judge asks the question about one object as it is now; nil: it is not there.
func (w *waiting) judge(it *item, now *unstructured.Unstructured) (bool, error) {
	v := w.question.absent
	if now != nil {
		v = w.question.judge(now)
		it.version, it.seen = versionOf(now), now
	}
	if v.failed {
		return false, fmt.Errorf("%s: %s", it.name, v.detail)
	}
	it.detail = v.detail
	return v.ready, nil
}

// report says what is waited for first, when that has changed.
func (w *waiting) report() {
	if len(w.pending) == 0 {
		return
	}
	say := w.question.words + " " + w.pending[0].name + parenthesis(w.pending[0].detail)
	if more := len(w.pending) - 1; more > 0 {
		say += fmt.Sprintf(" (and %d more)", more)
	}
	if say != w.said {
		w.said = say
		w.client.progress(w.question.phase, say)
	}
}
