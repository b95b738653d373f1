package helm

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/towline/towline/internal/deploy"
)

// annotationsDrift leave an object alone when they say disabled: ours, and Flux's for those who come from there.
var annotationsDrift = []string{"towline.dev/driftDetection", "helm.toolkit.fluxcd.io/driftDetection"}

// deviation is an object of a release that is not as its manifest says.
type deviation struct {
	piece
	// live is nil where the object is gone. then is what it would be again.
	live, then *unstructured.Unstructured
	patch      []byte
	kind       types.PatchType
	fields     []string
}

// reason says in a few words what is wrong with it.
func (d deviation) reason() string {
	if d.live == nil {
		return "it is gone"
	}
	return "it was changed" + by(d.live, d.fields)
}

// by names those who own one of the fields now, as far as the server knows.
func by(live *unstructured.Unstructured, fields []string) string {
	var names []string
	for _, m := range live.GetManagedFields() {
		var owned map[string]any
		if m.Manager == deploy.FieldManager || m.FieldsV1 == nil || json.Unmarshal(m.FieldsV1.GetRawBytes(), &owned) != nil {
			continue
		}
		owns := slices.ContainsFunc(fields, func(f string) bool { return ownsField(owned, f) })
		if name := strconv.Quote(m.Manager); owns && len(names) < maxNamed && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " by " + strings.Join(names, ", ")
}

// ownsField follows a path of differences through a manager's fields, as far as the first list: whose entry is meant there cannot be told from its place.
// https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
func ownsField(owned map[string]any, path string) bool {
	for path != "" {
		key := path
		switch end := strings.IndexAny(path, ".["); {
		case strings.HasPrefix(path, `["`):
			quoted, err := strconv.QuotedPrefix(path[1:])
			if err != nil {
				return false
			}
			key, _ = strconv.Unquote(quoted) // it is what QuotedPrefix found
			path = strings.TrimPrefix(path[1+len(quoted):], "]")
		case strings.HasPrefix(path, "["):
			return true
		case end >= 0:
			key, path = path[:end], path[end:]
		default:
			path = ""
		}
		path = strings.TrimPrefix(path, ".")
		below, ok := owned["f:"+key].(map[string]any)
		if !ok {
			return false
		}
		if len(below) == 0 {
			return true // owned as a whole
		}
		owned = below
	}
	return true
}

// drift compares the objects of a revision with the cluster. What others added is none; a field that the manifest has and that is different is, unless a dry run shows that the server
// would leave it so: it writes quantities in its own way, and a webhook may insist. An object that cannot be read is left out, and the error says so.
// With only it looks at those objects alone.
func (op *operation) drift(t deploy.Target, version int, known *sameness, only []deploy.ObjectID) ([]deviation, error) {
	rules, err := deploy.CompileIgnore(t.HelmRelease.DriftDetection.Ignore)
	if err != nil {
		return nil, fmt.Errorf("driftDetection.%w", err)
	}
	rel, err := op.revision(version)
	if err != nil {
		return nil, err
	}
	op.place.namespace = rel.Namespace
	s := &sketch{op: op}
	pieces, err := s.objects(rel, false)
	if err != nil {
		return nil, err
	}
	op.kinds = kindsOf(pieces)
	if len(only) > 0 {
		pieces = slices.DeleteFunc(pieces, func(p piece) bool { return !slices.Contains(only, p.id) })
	}
	found := make([]*deviation, len(pieces))
	failed := make([]error, len(pieces))
	var group errgroup.Group
	group.SetLimit(maxLooks)
	for i, p := range pieces {
		group.Go(func() error {
			found[i], failed[i] = op.deviationOf(p, rules, known)
			return nil
		})
	}
	_ = group.Wait() // nobody fails
	if op.ctx.Err() != nil {
		return nil, op.ctx.Err()
	}
	var out []deviation
	errs := s.lostKinds()
	for i, d := range found {
		if failed[i] != nil {
			errs = append(errs, fmt.Errorf("compare %s with the cluster: %w", pieces[i].id, failed[i]))
		}
		if d != nil {
			out = append(out, *d)
		}
	}
	return out, someOf(errs)
}

// lostKinds names the objects whose kind is gone, and they with it. One that the server has in another version is left to the next revision.
func (s *sketch) lostKinds() (errs []error) {
	for _, u := range s.lost {
		if _, err := s.op.pool.clients.Mapper.RESTMapping(u.GroupVersionKind().GroupKind()); meta.IsNoMatchError(err) && !leftAlone(u) {
			errs = append(errs, fmt.Errorf("%s is gone, and so is its kind: install its CRD again", deploy.IDOf(u)))
		}
	}
	return errs
}

// deviationOf looks at one object; nil: it is as wanted, or left to others. Where somebody writes to it meanwhile, it looks again, and at last does not
// insist on an answer about the version that it has read.
func (op *operation) deviationOf(p piece, rules deploy.Ignored, known *sameness) (*deviation, error) {
	if p.mapping == nil || leftAlone(p.Unstructured) {
		return nil, nil
	}
	const tries = 3 // what a controller writes comes in two or three steps
	for try := 1; ; try++ {
		d, err := op.deviationNow(p, rules, known, try < tries)
		if !apierrors.IsConflict(err) || try == tries {
			return d, err
		}
	}
}

// deviationNow looks once; exact demands an answer about the very version that was read, or a conflict.
func (op *operation) deviationNow(p piece, rules deploy.Ignored, known *sameness, exact bool) (*deviation, error) {
	client := op.dynamic.Resource(p.mapping.Resource).Namespace(p.GetNamespace())
	live, err := client.Get(op.ctx, p.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if endsByItself(p.Unstructured) {
			return nil, nil
		}
		return &deviation{piece: p}, nil
	}
	if err != nil {
		return nil, err
	}
	if leftAlone(live) || live.GetDeletionTimestamp() != nil {
		return nil, nil // what is on its way out cannot be repaired; it will be gone at the next look
	}
	want := encoded(p.DeepCopy())
	for _, path := range rules.Of(want) {
		leave(want.Object, live.Object, path)
	}
	d := &deviation{piece: p, live: live}
	if d.patch, d.kind, err = patchOf(want, live); err != nil || d.patch == nil {
		return nil, err
	}
	bare := own(live.DeepCopy())
	if known.has(p.id, want, bare) {
		return nil, nil
	}
	dry := d.patch
	if exact {
		want.SetResourceVersion(live.GetResourceVersion())
		if dry, _, err = patchOf(want, withoutVersion(live)); err != nil {
			return nil, err
		}
		unstructured.RemoveNestedField(want.Object, "metadata", "resourceVersion")
	}
	then, err := client.Patch(op.ctx, p.GetName(), d.kind, dry, metav1.PatchOptions{FieldManager: deploy.FieldManager, DryRun: []string{metav1.DryRunAll}})
	switch {
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err): // the repair will say why it cannot be
		if d.then, err = overlay(bare, want); err == nil {
			d.fields = fieldsThatDiffer(bare.Object, d.then.Object)
		}
		return d, err
	case apierrors.IsNotFound(err):
		return &deviation{piece: p}, nil
	case err != nil:
		return nil, err
	}
	d.then = own(then)
	d.fields = fieldsThatDiffer(bare.Object, d.then.Object)
	if !exact { // what somebody wrote meanwhile is in the answer too
		if d.then, err = overlay(bare, want); err != nil {
			return nil, err
		}
		sent := fieldsThatDiffer(bare.Object, d.then.Object)
		d.fields = slices.DeleteFunc(d.fields, func(f string) bool {
			return !slices.ContainsFunc(sent, func(s string) bool { return within(f, s) || within(s, f) })
		})
	}
	switch {
	case len(d.fields) > 0:
		return d, nil
	case exact:
		known.add(p.id, want, bare)
	}
	return nil, nil
}

// within reports whether a path of differences is another one, or leads below it.
func within(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func withoutVersion(live *unstructured.Unstructured) *unstructured.Unstructured {
	c := live.DeepCopy()
	c.SetResourceVersion("")
	return c
}

// leftAlone reports whether an object says that drift of it is to be overlooked.
func leftAlone(u *unstructured.Unstructured) bool {
	a := u.GetAnnotations()
	for _, key := range annotationsDrift {
		if strings.EqualFold(a[key], string(deploy.DriftDisabled)) {
			return true
		}
	}
	return false
}

// endsByItself reports whether an object is removed by the cluster when its work is done.
func endsByItself(u *unstructured.Unstructured) bool {
	_, ttl, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "ttlSecondsAfterFinished")
	return ttl && u.GroupVersionKind().GroupKind().String() == "Job.batch"
}

// patchOf is what makes the live object have every field that is wanted, nil for nothing. As Helm does it: a strategic merge for kinds that are built in, a plain one for others.
func patchOf(want, live *unstructured.Unstructured) ([]byte, types.PatchType, error) {
	wanted, err := json.Marshal(withoutNulls(want.Object))
	if err != nil {
		return nil, "", err
	}
	now, err := live.MarshalJSON()
	if err != nil {
		return nil, "", err
	}
	var patch []byte
	kind := types.StrategicMergePatchType
	typed, err := scheme.Scheme.New(want.GroupVersionKind())
	switch {
	case runtime.IsNotRegisteredError(err):
		kind = types.MergePatchType
		patch, err = jsonmergepatch.CreateThreeWayJSONMergePatch(wanted, wanted, now)
	case err == nil:
		var how strategicpatch.LookupPatchMeta
		if how, err = strategicpatch.NewPatchMetaFromStruct(typed); err == nil {
			patch, err = strategicpatch.CreateThreeWayMergePatch(wanted, wanted, now, how, true)
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("compare it with the manifest: %w", err)
	}
	if string(patch) == "{}" {
		return nil, kind, nil
	}
	return patch, kind, nil
}

// encoded moves a Secret's stringData into data, as the server does.
func encoded(u *unstructured.Unstructured) *unstructured.Unstructured {
	plain, ok, _ := unstructured.NestedStringMap(u.Object, "stringData")
	if !ok || u.GroupVersionKind().GroupKind().String() != "Secret" {
		return u
	}
	delete(u.Object, "stringData")
	if u.Object["data"] == nil {
		delete(u.Object, "data") // charts write it empty
	}
	for key, value := range plain {
		_ = unstructured.SetNestedField(u.Object, base64.StdEncoding.EncodeToString([]byte(value)), "data", key) // data of another shape is for the server to refuse
	}
	return u
}

// repair makes objects be as their manifest says again. No revision is added, and no hook is run. One that cannot be repaired does not keep the others from it.
func (op *operation) repair(found []deviation) ([]deploy.Change, error) {
	var changes []deploy.Change
	var errs []error
	for _, d := range found {
		if err := op.ctx.Err(); err != nil {
			return changes, err
		}
		c := d.change()
		client := op.dynamic.Resource(d.mapping.Resource).Namespace(d.GetNamespace())
		var err error
		if d.live == nil {
			_, err = client.Create(op.ctx, d.Unstructured, metav1.CreateOptions{FieldManager: deploy.FieldManager})
			if apierrors.IsAlreadyExists(err) {
				err = nil // somebody was faster; the next look compares it
			}
		} else {
			_, err = client.Patch(op.ctx, d.GetName(), d.kind, d.patch, metav1.PatchOptions{FieldManager: deploy.FieldManager})
		}
		if err != nil {
			c.Err = fmt.Errorf("repair it: %w", err)
			errs = append(errs, fmt.Errorf("repair %s: %w", d.id, err))
		} else {
			op.log.Info("object repaired", zap.Stringer("object", d.id), zap.Strings("fields", d.fields))
		}
		changes = append(changes, c)
	}
	return changes, someOf(errs)
}

// change is the deviation as a plan shows it.
func (d deviation) change() deploy.Change {
	action := deploy.ActionUpdate
	if d.live == nil {
		action = deploy.ActionCreate
	}
	return deploy.Change{Action: action, Object: d.id, Fields: d.fields, Reason: d.reason()}
}

// someOf is what is said of several errors: the first few of them.
func someOf(errs []error) error {
	if more := len(errs) - maxNamed; more > 0 {
		errs = append(slices.Clone(errs[:maxNamed]), fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// sameness remembers objects that look different from their manifest and that a dry run has shown to be the same, so that they are not tried at each look.
type sameness struct {
	mu   sync.Mutex // guards seen
	seed maphash.Seed
	seen map[deploy.ObjectID]uint64
}

func newSameness() *sameness {
	return &sameness{seed: maphash.MakeSeed(), seen: map[deploy.ObjectID]uint64{}}
}

func (s *sameness) hash(want, live *unstructured.Unstructured) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, u := range []*unstructured.Unstructured{want, live} {
		b, err := u.MarshalJSON() // with sorted keys
		if err != nil {
			return 0 // it came as JSON
		}
		_, _ = h.Write(b) // never fails
	}
	return h.Sum64()
}

func (s *sameness) has(id deploy.ObjectID, want, live *unstructured.Unstructured) bool {
	sum := s.hash(want, live)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[id] == sum && sum != 0
}

func (s *sameness) add(id deploy.ObjectID, want, live *unstructured.Unstructured) {
	sum := s.hash(want, live)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[id] = sum
}
