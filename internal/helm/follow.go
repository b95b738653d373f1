package helm

import (
	"context"
	"errors"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

const (
	// firstPause is between an error and the next try; it doubles up to lastPause.
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
	// shortWatch is a watch that was hardly worth opening: a proxy that cuts watches off must not make us ask in a circle.
	shortWatch = time.Second
	// silence is after how long without news the state is read anew: a connection can die without anybody noticing.
	silence = 30 * time.Second
)

// view is which objects of one kind are looked at: those that a label or field selector chooses.
type view struct {
	client         dynamic.ResourceInterface
	labels, fields string
}

// sighting is what was seen. Either all objects of a view (whole), or one that changed or is gone, or an error.
type sighting struct {
	group   *group // whose it is; follow does not know
	objects []*unstructured.Unstructured
	whole   bool
	gone    bool
	err     error
}

// follow says what happens to the objects of a view, beginning after version, or where that is empty with all there are. It ends with ctx only. Each time that the watch ends, for
// whatever reason, it reads the state anew: nothing is missed.
func (v view) follow(ctx context.Context, version string, say func(sighting)) {
	pause := firstPause
	rest := func() {
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
	for ctx.Err() == nil {
		if version == "" {
			list, err := v.client.List(ctx, metav1.ListOptions{LabelSelector: v.labels, FieldSelector: v.fields})
			if err != nil {
				say(sighting{err: err})
				rest()
				continue
			}
			all := sighting{whole: true}
			for i := range list.Items {
				all.objects = append(all.objects, &list.Items[i])
			}
			say(all)
			version = list.GetResourceVersion()
		}
		opened := time.Now()
		err := v.watch(ctx, version, say)
		version = ""
		if err != nil && !expired(err) {
			say(sighting{err: err})
		}
		if time.Since(opened) < shortWatch && !expired(err) {
			rest()
		} else {
			pause = firstPause
		}
	}
}

// watch hands on what changes after version, until the watch ends or has been silent for long. The error is why it could not be opened or what the server said at its end.
func (v view) watch(ctx context.Context, version string, say func(sighting)) error {
	w, err := v.client.Watch(ctx, metav1.ListOptions{LabelSelector: v.labels, FieldSelector: v.fields, ResourceVersion: version})
	if err != nil {
		return err
	}
	defer w.Stop()
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-quiet.C:
			return nil
		case e, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			quiet.Reset(silence)
			if e.Type == watch.Error {
				return apierrors.FromObject(e.Object)
			}
			if u, ok := e.Object.(*unstructured.Unstructured); ok && e.Type != watch.Bookmark {
				say(sighting{objects: []*unstructured.Unstructured{u}, gone: e.Type == watch.Deleted})
			}
		}
	}
}

// expired reports whether a watch only began too long ago.
func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// passing reports whether an error of a look may be gone at the next one.
func passing(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true // the network
	}
	code := status.Status().Code
	return code == 0 || code == 429 || code >= 500 && code != 501
}

// versionOf is an object's resource version as a number, 0 where it has none: the server compares them so too (KEP 5504), and every version that it gave out is one.
func versionOf(u *unstructured.Unstructured) uint64 {
	n, err := strconv.ParseUint(u.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
