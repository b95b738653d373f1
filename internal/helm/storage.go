package helm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// records is Helm's own storage in Secrets, with three differences: new revisions bear our labels, charts are stored without their templates and files, and a
// corrupt record is an error instead of a panic.
type records struct {
	*driver.Secrets
	op *operation
}

var _ driver.Driver = records{}

func newRecords(op *operation) records {
	return records{Secrets: driver.NewSecrets(op.secrets), op: op}
}

// Create stores a new revision, always a pending one.
func (r records) Create(key string, rel *release.Release) error {
	stamped := maps.Clone(rel.Labels)
	if stamped == nil {
		stamped = map[string]string{}
	}
	for _, l := range ourLabels {
		delete(stamped, l)
	}
	maps.Copy(stamped, r.op.stamp)
	stamped[labelRevision] = strconv.Itoa(rel.Version)
	rel.Labels = stamped // on the release itself: the SDK writes it again at the end
	if err := fits(rel); err != nil {
		return err
	}
	if err := r.Secrets.Create(key, slim(rel)); err != nil {
		return r.explain(rel, err)
	}
	r.op.kube.recorded = true
	if rel.Info.Status == release.StatusPendingUpgrade {
		crashpoint.At("helm.upgrade-pending")
	}
	return nil
}

// Update stores a revision's new state.
func (r records) Update(key string, rel *release.Release) error {
	if rel.Info.Status == release.StatusDeployed {
		crashpoint.At("helm.before-record")
	}
	if rel.Info.Status == release.StatusUninstalled && r.op.kube.lingering {
		info := *rel.Info
		info.Status = release.StatusUninstalling // so that the next attempt goes on with it
		still := *rel
		still.Info = &info
		rel = &still
	}
	err := r.Secrets.Update(key, slim(r.op.whole(rel)))
	if rel.Info.Status == release.StatusUninstalling {
		crashpoint.At("helm.uninstalling")
	}
	return err
}

// errLingering keeps records that the SDK would delete: without them nobody would know what is left.
var errLingering = errors.New("its records stay until all of its objects are gone")

// Delete removes a revision's record.
func (r records) Delete(key string) (*release.Release, error) {
	if r.op.kube.lingering {
		return nil, errLingering
	}
	if r.op.kube.removing {
		crashpoint.At("helm.before-forget")
	}
	return r.Secrets.Delete(key)
}

// Get implements driver.Driver.
func (r records) Get(key string) (rel *release.Release, err error) {
	defer func() {
		if recover() != nil { // the SDK uses the release before it looks at the error
			rel, err = nil, fmt.Errorf("release record %s/%s cannot be decoded", r.op.place.storage, key)
		}
	}()
	return r.Secrets.Get(key)
}

// slim leaves out what the artifact has under its digest. What Helm reads back stays: manifest, hooks, values, metadata and default values, so that its get,
// history, rollback and uninstall work.
func slim(rel *release.Release) *release.Release {
	if rel == nil || rel.Chart == nil {
		return rel
	}
	c := *rel
	c.Chart = &chart.Chart{Metadata: rel.Chart.Metadata, Values: rel.Chart.Values, Lock: rel.Chart.Lock}
	return &c
}

// explain says what the server's refusal of a new record means.
func (r records) explain(rel *release.Release, err error) error {
	switch {
	case strings.Contains(err.Error(), "Too long") || apierrors.IsRequestEntityTooLargeError(err):
		return fmt.Errorf("the record of release %s does not fit a Secret: %s: %w", rel.Name, whatIsBig(rel), err)
	case errors.Is(err, driver.ErrReleaseExists):
		return fmt.Errorf("revision %d of release %s came to be meanwhile: another target or Helm client is installing it: %w", rel.Version, r.op.place, err)
	}
	return err
}

// secretCache answers what the SDK asks again and again during one operation from one LIST: it reads the history up to four times per upgrade. Writes go
// through. Nobody else writes meanwhile, and where somebody does, the server refuses the revision number that both chose.
type secretCache struct {
	typedcorev1.SecretInterface
	release string
	// dry keeps writes in memory: the operation only looks at what it would do.
	dry bool

	// mu guards the rest: the SDK works on goroutines of its own.
	mu     sync.Mutex
	loaded bool
	held   map[string]*corev1.Secret
}

// seed says that there are no records, which saves the LIST.
func (s *secretCache) seed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.held = true, map[string]*corev1.Secret{}
}

func (s *secretCache) load(ctx context.Context) error {
	if s.loaded {
		return nil
	}
	list, err := s.SecretInterface.List(ctx, metav1.ListOptions{LabelSelector: labels.Set{"owner": "helm", "name": s.release}.String()})
	if err != nil {
		return err
	}
	s.held = make(map[string]*corev1.Secret, len(list.Items))
	for i := range list.Items {
		s.held[list.Items[i].Name] = &list.Items[i]
	}
	s.loaded = true
	return nil
}

// List implements the only kind of query that the SDK makes: by labels, of one release.
func (s *secretCache) List(ctx context.Context, opts metav1.ListOptions) (*corev1.SecretList, error) {
	selector, err := labels.Parse(opts.LabelSelector)
	if err != nil {
		return nil, err
	}
	if name, ok := selector.RequiresExactMatch("name"); !ok || name != s.release {
		return s.SecretInterface.List(ctx, opts)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	out := &corev1.SecretList{}
	for _, held := range s.held {
		if selector.Matches(labels.Set(held.Labels)) {
			out.Items = append(out.Items, *held.DeepCopy())
		}
	}
	return out, nil
}

// Get implements typedcorev1.SecretInterface.
func (s *secretCache) Get(ctx context.Context, name string, _ metav1.GetOptions) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	if held, ok := s.held[name]; ok {
		return held.DeepCopy(), nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
}

// Create implements typedcorev1.SecretInterface.
func (s *secretCache) Create(ctx context.Context, secret *corev1.Secret, opts metav1.CreateOptions) (*corev1.Secret, error) {
	if s.dry {
		return s.keep(secret.DeepCopy(), nil)
	}
	opts.FieldManager = deploy.FieldManager // by which a later run knows its own records
	out, err := s.SecretInterface.Create(ctx, secret, opts)
	return s.keep(out, err)
}

// Update implements typedcorev1.SecretInterface.
func (s *secretCache) Update(ctx context.Context, secret *corev1.Secret, opts metav1.UpdateOptions) (*corev1.Secret, error) {
	if s.dry {
		return s.keep(secret.DeepCopy(), nil)
	}
	opts.FieldManager = deploy.FieldManager
	out, err := s.SecretInterface.Update(ctx, secret, opts)
	return s.keep(out, err)
}

// Delete implements typedcorev1.SecretInterface.
func (s *secretCache) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	if !s.dry {
		if err := s.SecretInterface.Delete(ctx, name, opts); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, name)
	return nil
}

func (s *secretCache) keep(out *corev1.Secret, err error) (*corev1.Secret, error) {
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		s.held[out.Name] = out
	}
	return out, nil
}

// seed tells the operation what the plan saw.
func (op *operation) seed(o observation) {
	if len(o) == 0 {
		op.secrets.seed()
	}
}

// history decodes every revision, oldest first. A record that cannot be decoded fails it: the SDK would skip it in silence and choose its number again.
func (op *operation) history() ([]*release.Release, error) {
	list, err := op.secrets.List(op.ctx, metav1.ListOptions{LabelSelector: labels.Set{"owner": "helm", "name": op.place.name}.String()})
	if err != nil {
		return nil, fmt.Errorf("read the history of release %s: %w", op.place, err)
	}
	var out []*release.Release
	for _, s := range list.Items {
		rel, err := op.cfg.Releases.Driver.Get(s.Name)
		if err != nil || rel == nil || rel.Info == nil {
			return nil, fmt.Errorf("release record %s/%s cannot be decoded: delete that Secret", op.place.storage, s.Name)
		}
		rel.Labels = s.Labels
		out = append(out, rel)
	}
	sortByRevision(out)
	return out, nil
}

// names of the records, as far as they were read.
func (s *secretCache) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.held))
}

// count is how many records there are.
func (s *secretCache) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// status is what the record of a revision says, from its labels.
func (s *secretCache) status(version int) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, held := range s.held {
		if held.Labels["version"] == strconv.Itoa(version) {
			return held.Labels["status"], nil
		}
	}
	return "", fmt.Errorf("the record of revision %d of release %s is gone", version, s.release)
}
