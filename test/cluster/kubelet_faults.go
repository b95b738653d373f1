package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// annotationPrefix is what the annotations start with that tell the simulated kubelet how a Pod behaves. The rest is the name of a field below.
const annotationPrefix = "kubelet.towline.dev/"

// faults is how a Pod behaves. The zero value is a Pod that gets Ready at once, or, when its restart policy is not Always, succeeds at once.
type faults struct {
	pending        bool          // the containers are created for ever
	imagePullError bool          // the image can't be pulled
	crashLoop      bool          // the containers exit with 1 again and again
	neverReady     bool          // the containers run, never get ready, and never end
	fail           bool          // the containers exit with 1 when they have run for runFor
	readyAfter     time.Duration // until then the containers run without being ready
	runFor         time.Duration // until then containers that end keep running
}

// parseFaults reads the annotations of a Pod. An unknown name or a bad value is an error that says what is allowed.
func parseFaults(annotations map[string]string) (faults, error) {
	var f faults
	flags := map[string]*bool{
		"pending":          &f.pending,
		"image-pull-error": &f.imagePullError,
		"crash-loop":       &f.crashLoop,
		"never-ready":      &f.neverReady,
		"fail":             &f.fail,
	}
	durations := map[string]*time.Duration{
		"ready-after": &f.readyAfter,
		"run-for":     &f.runFor,
	}
	for key, value := range annotations {
		name, ours := strings.CutPrefix(key, annotationPrefix)
		if !ours {
			continue
		}
		if flag, ok := flags[name]; ok {
			on, err := strconv.ParseBool(value)
			if err != nil && value != "" {
				return faults{}, fmt.Errorf("annotation %s: %q is neither true nor false", key, value)
			}
			*flag = on || value == ""
		} else if duration, ok := durations[name]; ok {
			parsed, err := time.ParseDuration(value)
			if err != nil || parsed < 0 {
				return faults{}, fmt.Errorf("annotation %s: %q is no duration such as 3s", key, value)
			}
			*duration = parsed
		} else {
			return faults{}, fmt.Errorf("annotation %s is unknown: use pending, image-pull-error, crash-loop, never-ready, fail, ready-after, run-for", key)
		}
	}
	return f, nil
}

// condition is what the containers of a Pod do at a moment.
type condition string

const (
	creating    condition = "creating"
	pullFailing condition = "pull-failing"
	unready     condition = "unready"
	ready       condition = "ready"
	crashing    condition = "crashing"
	succeeded   condition = "succeeded"
	failed      condition = "failed"
)

// decide returns what the containers of a Pod do at that age, and after how long to ask again; 0 means that it stays so.
func decide(policy corev1.RestartPolicy, f faults, age time.Duration) (condition, time.Duration) {
	ends := policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure
	switch {
	case f.pending:
		return creating, 0
	case f.imagePullError:
		return pullFailing, 0
	case f.crashLoop:
		return crashing, 0
	case f.neverReady:
		return unready, 0
	}
	var end time.Duration // until the containers exit; 0 when they never do
	if ends || f.fail {
		if age >= f.runFor {
			return exited(policy, f.fail), 0
		}
		end = f.runFor - age
	}
	if age >= f.readyAfter {
		return ready, end
	}
	wake := f.readyAfter - age
	if end > 0 {
		wake = min(wake, end)
	}
	return unready, wake
}

// exited is what follows when the containers exit: a kubelet restarts those that failed unless the policy forbids it.
func exited(policy corev1.RestartPolicy, fail bool) condition {
	switch {
	case !fail:
		return succeeded
	case policy == corev1.RestartPolicyNever:
		return failed
	default:
		return crashing
	}
}
