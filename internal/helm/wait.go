package helm

import (
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	helmkube "helm.sh/helm/v3/pkg/kube"

	"github.com/towline/towline/internal/deploy"
)

// notReadyError is a wait that ran out of time.
type notReadyError struct{ what, state, detail string }

func (e *notReadyError) Error() string { return e.what + " " + e.state + parenthesis(e.detail) }

// question is what a wait wants to know of each object.
type question struct {
	phase deploy.Phase
	// words name the wait ("waiting for"), not what it has come to when the time is up ("is not ready").
	words, not string
	judge      func(*unstructured.Unstructured) verdict
	// absent is what it means that an object is not there.
	absent verdict
}

// Wait implements helmkube.Interface: until everything but Jobs is ready.
func (c *client) Wait(list helmkube.ResourceList, timeout time.Duration) error {
	return c.waitReady(list, timeout, false)
}

// WaitWithJobs implements helmkube.Interface: Jobs have to complete too.
func (c *client) WaitWithJobs(list helmkube.ResourceList, timeout time.Duration) error {
	return c.waitReady(list, timeout, true)
}

func (c *client) waitReady(list helmkube.ResourceList, timeout time.Duration, jobs bool) (err error) {
	defer recovered(&err)
	return c.await(list, timeout, question{
		phase: deploy.PhaseWaiting, words: "waiting for", not: "is not ready",
		judge:  func(u *unstructured.Unstructured) verdict { return c.rules.judge(u, jobs) },
		absent: failedFor("it is gone: something deleted it"),
	})
}

// WatchUntilReady implements helmkube.Interface, for hooks.
func (c *client) WatchUntilReady(list helmkube.ResourceList, timeout time.Duration) (err error) {
	defer recovered(&err)
	// A hook that was deleted has nothing more to say.
	q, what := question{phase: deploy.PhaseApplying, words: "running hook", not: "is not done", judge: completion, absent: isReady}, "hook"
	if c.testing { // it leaves nothing half done: news may end it
		q.phase, q.words, what = deploy.PhaseWaiting, "running test", "its"
		q.absent = failedFor("it is gone: something deleted it")
	}
	for _, i := range list {
		if err := c.await(helmkube.ResourceList{i}, timeout, q); err != nil {
			return fmt.Errorf("%s %w", what, err)
		}
	}
	return nil
}

// WaitForDelete implements helmkube.InterfaceExt. Object by object: most are gone at the first look.
func (c *client) WaitForDelete(list helmkube.ResourceList, timeout time.Duration) (err error) {
	defer recovered(&err)
	q := question{
		phase: deploy.PhaseApplying, // an old hook that has to go before the new one: not the moment to be canceled
		words: "waiting for the end of", not: "is still there",
		judge: func(u *unstructured.Unstructured) verdict {
			if f := u.GetFinalizers(); len(f) > 0 {
				return unready("held by finalizer %s", strings.Join(f, ", "))
			}
			return verdict{}
		},
		absent: isReady,
	}
	if c.removing {
		q.phase = deploy.PhaseDeleting
	}
	for _, i := range list {
		if err := c.await(helmkube.ResourceList{i}, timeout, q); err != nil {
			c.lingering = c.removing
			return err
		}
	}
	return nil
}

// timeUp names what is missing, and of the first workload among it why, as far as its pods tell.
func (w *waiting) timeUp() error {
	var out []error
	told := false
	for _, it := range w.pending {
		if len(out) == maxNamed {
			out = append(out, fmt.Errorf("and %d more", len(w.pending)-maxNamed))
			break
		}
		e := &notReadyError{it.name, w.question.not, it.detail}
		if !told {
			if trouble := w.client.podTroubleOf(it); trouble != "" {
				e.detail, told = e.detail+"; "+trouble, true
			}
		}
		out = append(out, e)
	}
	if len(out) == 1 {
		return out[0]
	}
	return errors.Join(out...)
}

// maxNamed is how many objects an error names.
const maxNamed = 5

// podTroubleOf looks once at a workload's pods and says what is wrong with the first that is not ready.
func (c *client) podTroubleOf(it *item) string {
	if it.seen == nil {
		return ""
	}
	selector, ok := podSelector(it.seen)
	if !ok {
		return ""
	}
	pods, err := c.set.CoreV1().Pods(it.info.Namespace).List(c.ctx, metav1.ListOptions{LabelSelector: selector, Limit: 50})
	if err != nil {
		return ""
	}
	for i := range pods.Items {
		if v := podReadiness(&pods.Items[i]); !v.ready {
			return "pod " + pods.Items[i].Name + ": " + v.detail
		}
	}
	return ""
}
