package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"

	helmkube "helm.sh/helm/v3/pkg/kube"

	"github.com/towline/towline/internal/deploy"
)

const (
	// firstPoll is the pause before an object is looked at again; it doubles up to lastPoll, Helm's own fixed interval.
	firstPoll = 250 * time.Millisecond
	lastPoll  = 2 * time.Second
	// maxPollErrors is how many errors in a row an object's look-up may give before the wait fails. Same as Helm.
	maxPollErrors = 30
)

// notReadyError is a wait that ran out of time.
type notReadyError struct{ object, detail string }

func (e *notReadyError) Error() string {
	if e.detail == "" {
		return e.object + " is not ready"
	}
	return e.object + " is not ready: " + e.detail
}

// Wait implements helmkube.Interface: until everything but Jobs is ready by Helm's own rules.
func (c *client) Wait(list helmkube.ResourceList, timeout time.Duration) error {
	return c.waitReady(list, timeout, false)
}

// WaitWithJobs implements helmkube.Interface: Jobs have to complete too.
func (c *client) WaitWithJobs(list helmkube.ResourceList, timeout time.Duration) error {
	return c.waitReady(list, timeout, true)
}

func (c *client) waitReady(list helmkube.ResourceList, timeout time.Duration, jobs bool) (err error) {
	defer recovered(&err)
	var detail string
	checker := helmkube.NewReadyChecker(c.set, func(format string, v ...any) { _, detail, _ = strings.Cut(fmt.Sprintf(format, v...), ". ") },
		helmkube.PausedAsReady(true), helmkube.CheckJobs(jobs))
	for _, i := range list {
		check := func(ctx context.Context) (bool, error) {
			detail = ""
			ready, err := checker.IsReady(ctx, i)
			if !ready && err == nil {
				c.progress(deploy.PhaseWaiting, "waiting for "+nameOf(i)+parenthesis(detail))
			}
			return ready, err
		}
		if err := c.poll(timeout, check); err != nil {
			if errors.Is(err, errTimeUp) {
				return &notReadyError{object: nameOf(i), detail: detail}
			}
			return fmt.Errorf("wait for %s: %w", nameOf(i), err)
		}
	}
	return nil
}

// WatchUntilReady implements helmkube.Interface, for hooks: Jobs have to complete and Pods to succeed, the rest only to exist.
func (c *client) WatchUntilReady(list helmkube.ResourceList, timeout time.Duration) (err error) {
	defer recovered(&err)
	for _, i := range list {
		var done func(map[string]any) (bool, error)
		switch kindOf(i) {
		case "Job":
			done = jobDone
		case "Pod":
			done = podDone
		default:
			continue
		}
		c.progress(deploy.PhaseApplying, "running hook "+nameOf(i))
		err := c.poll(timeout, func(context.Context) (bool, error) {
			live, err := resource.NewHelper(i.Client, i.Mapping).Get(i.Namespace, i.Name)
			if apierrors.IsNotFound(err) {
				return true, nil // a hook that was deleted has nothing more to say
			}
			u, ok := live.(*unstructured.Unstructured)
			if err != nil || !ok {
				return false, err
			}
			return done(u.Object)
		})
		if errors.Is(err, errTimeUp) {
			return &notReadyError{object: "hook " + nameOf(i)}
		}
		if err != nil {
			return fmt.Errorf("hook %s: %w", nameOf(i), err)
		}
	}
	return nil
}

// WaitForDelete implements helmkube.InterfaceExt.
func (c *client) WaitForDelete(list helmkube.ResourceList, timeout time.Duration) (err error) {
	defer recovered(&err)
	phase := deploy.PhaseApplying // an old hook that has to go before the new one: not the moment to be canceled
	if c.removing {
		phase = deploy.PhaseDeleting
	}
	for _, i := range list {
		err := c.poll(timeout, func(context.Context) (bool, error) {
			_, err := resource.NewHelper(i.Client, i.Mapping).Get(i.Namespace, i.Name)
			if apierrors.IsNotFound(err) {
				return true, nil
			}
			if err == nil {
				c.progress(phase, "waiting for "+nameOf(i)+" to be gone")
			}
			return false, err
		})
		if errors.Is(err, errTimeUp) {
			return &notReadyError{object: nameOf(i), detail: "still there, perhaps held by a finalizer"}
		}
		if err != nil {
			return fmt.Errorf("wait for the end of %s: %w", nameOf(i), err)
		}
	}
	return nil
}

type hookFailed string

func (e hookFailed) Error() string { return string(e) }

func jobDone(job map[string]any) (bool, error) {
	conditions, _, _ := unstructured.NestedSlice(job, "status", "conditions")
	for _, c := range conditions {
		m, ok := c.(map[string]any)
		if !ok || m["status"] != "True" {
			continue
		}
		switch m["type"] {
		case "Complete":
			return true, nil
		case "Failed":
			return false, hookFailed(fmt.Sprintf("the job failed: %v", m["reason"]))
		}
	}
	return false, nil
}

func podDone(pod map[string]any) (bool, error) {
	phase, _, _ := unstructured.NestedString(pod, "status", "phase")
	if phase == "Failed" {
		return false, hookFailed("the pod failed")
	}
	return phase == "Succeeded", nil
}

// errTimeUp is what poll returns when the time for waiting is over.
var errTimeUp = fmt.Errorf("time is up: %w", context.DeadlineExceeded)

// poll asks until the answer is yes, the operation ends, or the time is up: the SDK's timeout or the operation's, whichever is first, since hooks and waits of one
// operation share its time. Errors that may pass are borne for a while.
func (c *client) poll(timeout time.Duration, ask func(context.Context) (bool, error)) error {
	end := time.Now().Add(timeout)
	if end.After(c.deadline) {
		end = c.deadline
	}
	pause, failed := firstPoll, 0
	for {
		done, err := ask(c.ctx)
		switch {
		case c.ctx.Err() != nil:
			return c.ctx.Err()
		case err != nil && (!passing(err) || failed >= maxPollErrors):
			return err
		case err != nil:
			failed++
			c.log("look-up failed, asking again: %v", err)
		case done:
			return nil
		default:
			failed = 0
		}
		left := time.Until(end)
		if left <= 0 {
			c.late = true
			return errTimeUp
		}
		timer := time.NewTimer(min(pause, left))
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			timer.Stop()
			return c.ctx.Err()
		}
		pause = min(2*pause, lastPoll)
	}
}

// passing reports whether an error of a look-up may be gone at the next one.
func passing(err error) bool {
	var verdict hookFailed
	if errors.As(err, &verdict) {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return !strings.Contains(err.Error(), "job is failed") // Helm's own verdict about a Job; anything else is the network
	}
	code := status.Status().Code
	return code == 0 || code == 429 || code >= 500 && code != 501
}

func parenthesis(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
