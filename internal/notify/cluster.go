package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/towline/towline/internal/deploy"
)

const (
	// maxNote bounds the message of an Event, in bytes: the API's own limit.
	maxNote = 1024
	// eventTimeout bounds one request.
	eventTimeout = 10 * time.Second
	// eventsPerSecond and eventBurst bound what the API server has to take: a restart of a large node in one go, then little.
	eventsPerSecond = 2
	eventBurst      = 50
	// seriesAge is how long the same Event is counted up instead of written again. The API server forgets Events after an hour.
	seriesAge = 50 * time.Minute
	maxSeries = 256
	// forbiddenPause is how long nothing is tried in a namespace after the API server said that we may not: somebody has to change a Role first.
	forbiddenPause = 10 * time.Minute
	// maxEventName bounds what comes before the time in the name of an Event, in bytes: names may have 253.
	maxEventName = 230
)

// recorder writes events as Events of Kubernetes (core/v1, which every kubectl lists with age and count). It belongs to the goroutine of its outlet.
type recorder struct {
	client    kubernetes.Interface
	namespace string // the agent's
	instance  string
	rate      flowcontrol.RateLimiter
	series    map[line]series
	off       map[string]time.Time // namespaces that we may not write to, until then
}

// line is what makes two Events the same.
type line struct {
	words
	revision string
}

// series is an Event that is in the cluster.
type series struct {
	namespace, name string
	count           int32
	last            time.Time
}

func newRecorder(o Options) *recorder {
	return &recorder{
		client: o.Kubernetes, namespace: o.Namespace, instance: o.Instance,
		rate: flowcontrol.NewTokenBucketRateLimiter(eventsPerSecond, eventBurst), series: map[line]series{}, off: map[string]time.Time{},
	}
}

func (r *recorder) send(ctx context.Context, e deploy.Event) error {
	if r.isOff(e.Object.Namespace) && r.isOff(r.namespace) {
		return permanent{errors.New("write Event: not allowed a while ago")}
	}
	if err := r.rate.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	err := r.write(ctx, e)
	switch {
	case err == nil:
		return nil
	case noNamespace(err): // not even the agent's own
		return permanent{fmt.Errorf("write Event: %w", err)}
	case apierrors.IsForbidden(err):
		return permanent{fmt.Errorf("write Event (the agent needs create and patch on events; tried again in %s): %w", forbiddenPause, err)}
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return permanent{fmt.Errorf("write Event: %w", err)}
	}
	if after, ok := apierrors.SuggestsClientDelay(err); ok {
		return later{fmt.Errorf("write Event: %w", err), time.Duration(after) * time.Second}
	}
	return fmt.Errorf("write Event: %w", err)
}

func (r *recorder) isOff(namespace string) bool { return time.Now().Before(r.off[namespace]) }

// write counts up the Event that says the same, or creates one: in the object's namespace, or where that cannot be, in the agent's.
func (r *recorder) write(ctx context.Context, e deploy.Event) error {
	key, now := line{wordsOf(e), e.Revision}, time.Now()
	if s, ok := r.series[key]; ok && now.Sub(s.last) < seriesAge && !r.isOff(s.namespace) {
		s.count++
		err := r.countUp(ctx, s, now)
		if err == nil {
			s.last = now
			r.series[key] = s
		}
		if !apierrors.IsNotFound(err) {
			return r.note(s.namespace, err)
		}
	}
	var err error
	for _, namespace := range slices.Compact([]string{e.Object.Namespace, r.namespace}) {
		if r.isOff(namespace) {
			continue
		}
		var made *corev1.Event
		made, err = r.client.CoreV1().Events(namespace).Create(ctx, r.event(e, now, namespace), metav1.CreateOptions{FieldManager: deploy.FieldManager})
		if err == nil {
			r.remember(key, series{namespace: made.Namespace, name: made.Name, count: 1, last: now})
			return nil
		}
		if err = r.note(namespace, err); !noNamespace(err) && !apierrors.IsForbidden(err) {
			break
		}
	}
	return err
}

// note remembers where we may not write. It returns the error that it is given.
func (r *recorder) note(namespace string, err error) error {
	if apierrors.IsForbidden(err) && !noNamespace(err) {
		r.off[namespace] = time.Now().Add(forbiddenPause)
	}
	return err
}

func (r *recorder) countUp(ctx context.Context, s series, now time.Time) error {
	patch, err := json.Marshal(map[string]any{"count": s.count, "lastTimestamp": metav1.NewTime(now)})
	if err != nil {
		return err
	}
	_, err = r.client.CoreV1().Events(s.namespace).Patch(ctx, s.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: deploy.FieldManager})
	return err
}

// event is an Event in a namespace. The API wants the object in the same one, so where that is not the object's own, the message says whose it is.
func (r *recorder) event(e deploy.Event, now time.Time, namespace string) *corev1.Event {
	about := objectOf(e.Object)
	kind, message := corev1.EventTypeNormal, e.Message
	if e.Severity == deploy.SeverityError {
		kind = corev1.EventTypeWarning
	}
	if namespace != about.Namespace {
		message = e.Object.String() + ": " + message
	}
	at := metav1.NewTime(now)
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name:        fmt.Sprintf("%s.%x", eventName(about.Name), now.UnixNano()),
			Namespace:   namespace,
			Annotations: revisions(e),
		},
		InvolvedObject: corev1.ObjectReference{APIVersion: about.APIVersion, Kind: about.Kind, Namespace: namespace, Name: about.Name},
		Type:           kind, Reason: e.Reason, Message: cut(message, maxNote),
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
		Source:              corev1.EventSource{Component: controller, Host: r.instance},
		ReportingController: controller, ReportingInstance: r.instance,
	}
}

// eventName is the beginning of an Event's name: as much of the object's as there is room for, without a stop at the end, which may not come twice.
func eventName(name string) string {
	name = strings.ToLower(name)
	return strings.TrimRight(name[:min(len(name), maxEventName)], ".-")
}

// noNamespace reports whether a namespace is not there, or about to go.
func noNamespace(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// remember keeps the newest series only.
func (r *recorder) remember(key line, s series) {
	if len(r.series) >= maxSeries {
		var oldest line
		first := true
		for k, v := range r.series {
			if first || v.last.Before(r.series[oldest].last) {
				oldest, first = k, false
			}
		}
		delete(r.series, oldest)
	}
	r.series[key] = s
}
