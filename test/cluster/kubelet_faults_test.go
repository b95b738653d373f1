package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestParseFaults(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        faults
	}{
		"no annotation is no fault":       {nil, faults{}},
		"others' annotations are ignored": {map[string]string{"example.com/fail": "true"}, faults{}},
		"an empty value switches on":      {map[string]string{"kubelet.towline.dev/never-ready": ""}, faults{neverReady: true}},
		"true switches on":                {map[string]string{"kubelet.towline.dev/crash-loop": "true"}, faults{crashLoop: true}},
		"false switches off":              {map[string]string{"kubelet.towline.dev/fail": "false"}, faults{}},
		"durations and flags go together": {
			map[string]string{"kubelet.towline.dev/run-for": "2s", "kubelet.towline.dev/ready-after": "300ms", "kubelet.towline.dev/fail": "1"},
			faults{fail: true, runFor: 2 * time.Second, readyAfter: 300 * time.Millisecond},
		},
		"pending":          {map[string]string{"kubelet.towline.dev/pending": ""}, faults{pending: true}},
		"image-pull-error": {map[string]string{"kubelet.towline.dev/image-pull-error": ""}, faults{imagePullError: true}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseFaults(c.annotations)
			must(t, err)
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(faults{})); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
	for name, c := range map[string]struct{ key, value, want string }{
		"an unknown name lists the known ones": {"crashloop", "", "use pending, image-pull-error"},
		"a flag wants true or false":           {"fail", "always", "neither true nor false"},
		"a duration needs a unit":              {"ready-after", "3", "no duration such as 3s"},
		"a duration is not negative":           {"run-for", "-3s", "no duration such as 3s"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseFaults(map[string]string{annotationPrefix + c.key: c.value})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	const always, never, onFailure = corev1.RestartPolicyAlways, corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure
	for name, c := range map[string]struct {
		policy corev1.RestartPolicy
		faults faults
		age    time.Duration
		want   condition
		again  time.Duration
	}{
		"a Pod of a Deployment is ready at once":           {always, faults{}, 0, ready, 0},
		"a Pod of a Job succeeds at once":                  {never, faults{}, 0, succeeded, 0},
		"a Pod of a Job that may restart succeeds at once": {onFailure, faults{}, 0, succeeded, 0},
		"pending stays":                 {always, faults{pending: true}, time.Hour, creating, 0},
		"pending holds a Job":           {never, faults{pending: true}, time.Hour, creating, 0},
		"a missing image stays missing": {always, faults{imagePullError: true}, time.Hour, pullFailing, 0},
		"a crash loop stays":            {always, faults{crashLoop: true}, time.Hour, crashing, 0},
		"never ready stays":             {always, faults{neverReady: true}, time.Hour, unready, 0},
		"never ready holds a Job":       {never, faults{neverReady: true}, time.Hour, unready, 0},
		"ready-after waits":             {always, faults{readyAfter: 3 * time.Second}, time.Second, unready, 2 * time.Second},
		"ready-after ends":              {always, faults{readyAfter: 3 * time.Second}, 3 * time.Second, ready, 0},
		"run-for runs":                  {never, faults{runFor: 2 * time.Second}, time.Second, ready, time.Second},
		"run-for ends":                  {never, faults{runFor: 2 * time.Second}, 2 * time.Second, succeeded, 0},
		"run-for is nothing to a container that restarts":        {always, faults{runFor: 2 * time.Second}, time.Hour, ready, 0},
		"a Job that gets ready first asks again at that time":    {never, faults{readyAfter: time.Second, runFor: 3 * time.Second}, 0, unready, time.Second},
		"a Job that ends before it is ready asks again then":     {never, faults{readyAfter: 3 * time.Second, runFor: time.Second}, 0, unready, time.Second},
		"a failing Pod fails":                                    {never, faults{fail: true}, 0, failed, 0},
		"a failing Pod fails after run-for":                      {never, faults{fail: true, runFor: time.Second}, 0, ready, time.Second},
		"a failing Pod that restarts crashes":                    {onFailure, faults{fail: true}, 0, crashing, 0},
		"a failing Pod of a Deployment crashes":                  {always, faults{fail: true}, 0, crashing, 0},
		"a failing Pod of a Deployment is ready before it fails": {always, faults{fail: true, runFor: time.Second}, 0, ready, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			got, again := decide(c.policy, c.faults, c.age)
			if got != c.want || again != c.again {
				t.Errorf("decide = %s, again after %s; want %s, %s", got, again, c.want, c.again)
			}
		})
	}
}
