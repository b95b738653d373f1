package applier

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/towline/towline/internal/crashpoint"
	"github.com/towline/towline/internal/deploy"
)

// goneFor is how long the end of an object that is made anew is waited for at most: pods are given 30 s by default to stop, and its finalizers some more.
const goneFor = 2 * time.Minute

// immutable are the fields because of which the server refuses a change, where it does so because they must not change. What an admission policy or webhook denies is
// not among it: an object that is made anew would be denied as well.
func immutable(err error) []string {
	var s apierrors.APIStatus
	if err == nil || !apierrors.IsInvalid(err) || !errors.As(err, &s) || s.Status().Details == nil || strings.Contains(s.Status().Message, "denied ") {
		return nil
	}
	var fields []string
	for _, c := range s.Status().Details.Causes {
		text := strings.ToLower(c.Message)
		for _, sign := range []string{
			"immutable", "updates to statefulset spec for fields other than", "may not change fields other than", "may not change once set", "may not be changed", "cannot be changed",
		} {
			if strings.Contains(text, sign) && c.Field != "metadata.uid" && !slices.Contains(fields, c.Field) {
				fields = append(fields, c.Field)
			}
		}
	}
	return fields
}

// recreate deletes the object and creates it anew, where somebody asked for that and a dry run shows that the server takes the new one. Between the two the inventory
// has the object as one of which nothing is known, so that whoever comes after a crash creates it.
func (a *attempt) recreate(ctx context.Context, refusal error, fields []string) error {
	r, gk := a.of, a.u.GroupVersionKind().GroupKind()
	fields = shownFields(a.u, fields)
	if why, ok := protected[gk]; ok {
		return fmt.Errorf("%s cannot be changed, and a %s is never deleted to be created anew (%s): %w", strings.Join(fields, ", "), gk.Kind, why, refusal)
	}
	if !a.mode.force && !r.target.Kustomization.Force {
		return fmt.Errorf("%s cannot be changed; annotate the object with %s%s: %s, or set force on the target, to have it deleted and created anew: %w",
			strings.Join(fields, ", "), prefixes[0], markForce, valueEnabled, refusal)
	}
	uid := a.pre.uid
	if uid == "" {
		return refusal // it is not known which one would be deleted
	}
	mapping, err := r.clients.Mapper.RESTMapping(gk, a.u.GroupVersionKind().Version)
	if err != nil {
		return err
	}
	client := r.clients.Dynamic.Resource(mapping.Resource).Namespace(a.u.GetNamespace())
	if _, err := client.Create(ctx, stand(a.u), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: deploy.FieldManager}); err != nil {
		return fmt.Errorf("%s cannot be changed, and it is not deleted because the server would not take the new object: %w", strings.Join(fields, ", "), err)
	}
	r.engine.log.Info("object is made anew", zap.Stringer("target", r.target.Name), zap.Stringer("object", deploy.IDOf(a.u)), zap.Strings("fields", fields))
	// In the background: a controller of the new object cannot adopt the old one's children, which have an owner and go with it, and waits for their names itself.
	background := metav1.DeletePropagationBackground
	err = client.Delete(ctx, a.u.GetName(), metav1.DeleteOptions{
		PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: (*types.UID)(&uid)},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete it to create it anew: %w", err)
	}
	crashpoint.At("applier.recreate-deleted")
	if err := a.awaitEnd(ctx, uid); err != nil {
		return err
	}
	a.pre = precondition{create: true}
	if a.res, err = a.send(ctx); err == nil {
		a.res.recreated = true
	}
	return err
}

// awaitEnd waits until the object of a uid is gone. What does not go is named with what holds it; the next attempt finds it and goes on.
func (a *attempt) awaitEnd(ctx context.Context, uid string) error {
	until := time.Now().Add(min(goneFor, time.Until(a.of.deadline)))
	for wait := retryFirst; ; wait = min(wait*2, retryMost) {
		m, err := a.of.engine.metadata(ctx, a.id)
		if apierrors.IsNotFound(err) || err == nil && string(m.UID) != uid {
			return nil
		}
		if err != nil && !transient(err) {
			return fmt.Errorf("wait for its end: %w", err)
		}
		if !time.Now().Add(wait).Before(until) || a.of.engine.pause(ctx, wait) != nil {
			held := ""
			if m != nil && len(m.Finalizers) > 0 {
				held = "; it waits for " + strings.Join(m.Finalizers, ", ")
			}
			return fmt.Errorf("it was deleted to be created anew but does not go%s", held)
		}
	}
}

// stand is a copy of an object by which the server can be asked whether it would take the object, while the name is taken. A dry run stores nothing, so that any free name
// does. It is no longer than the name is, but for very short ones, since names that fit one kind may be too long for another; rules of admission for the beginnings of
// names see the beginning that they would see, and those for a whole name are only met by the creation itself. What a Service has reserved for itself would
// be refused as taken.
func stand(u *unstructured.Unstructured) *unstructured.Unstructured {
	const random = 4 // bytes; two digits each
	c := u.DeepCopy()
	var b [random]byte
	_, _ = rand.Read(b[:]) // never fails
	name := c.GetName()
	name = strings.TrimRight(name[:max(min(len(name), 4), len(name)-2*random-1)], "-._")
	c.SetName(name + "-" + hex.EncodeToString(b[:]))
	if c.GetAPIVersion() == "v1" && c.GetKind() == "Service" {
		for _, f := range []string{"clusterIP", "clusterIPs", "healthCheckNodePort"} {
			if v, _, _ := unstructured.NestedFieldNoCopy(c.Object, "spec", f); v != "None" {
				unstructured.RemoveNestedField(c.Object, "spec", f)
			}
		}
		ports, _, _ := unstructured.NestedFieldNoCopy(c.Object, "spec", "ports")
		list, _ := ports.([]any)
		for _, p := range list {
			if p, ok := p.(map[string]any); ok {
				delete(p, "nodePort")
			}
		}
	}
	return c
}
