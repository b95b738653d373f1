package applier

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	busy := statusError(&http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3"}}},
		[]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429,"message":"later"}`))
	var waits []time.Duration
	pause := func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	tries := 0
	err := retryPausing(t.Context(), pause, transient, func() error {
		if tries++; tries < 3 {
			return busy
		}
		return nil
	})
	if d := cmp.Diff([]time.Duration{3 * time.Second, 3 * time.Second}, waits); d != "" || err != nil {
		t.Fatal(d, err)
	}
}

func TestUnready(t *testing.T) {
	t.Parallel()
	answer := func(code int, message string) error {
		return statusError(&http.Response{StatusCode: code}, []byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"`+message+`"}`))
	}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"a service without endpoints", answer(500, `Internal error occurred: failed calling webhook x: no endpoints available for service y`), true},
		{"a refused connection", answer(500, `Internal error occurred: failed calling webhook x: dial tcp: connection refused`), true},
		{"a conversion", answer(500, `conversion webhook for example.org/v1, Kind=A failed: Post: connection refused`), true},
		{"a webhook's no", answer(403, `admission webhook x denied the request: failed calling webhook of mine`), false},
		{"another internal error", answer(500, `etcd is gone`), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := unready(c.err); got != c.want {
				t.Fatal(got)
			}
		})
	}
}

func TestImmutable(t *testing.T) {
	t.Parallel()
	answer := func(code int, message, cause string) error {
		return statusError(&http.Response{StatusCode: code}, []byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","message":"`+message+`",
			"details":{"causes":[{"reason":"FieldValueInvalid","field":"spec.x","message":"`+cause+`"}]}}`))
	}
	for _, c := range []struct {
		name string
		err  error
		want []string
	}{
		{"a field that says so", answer(422, "x is invalid", "Invalid value: 1: field is immutable"), []string{"spec.x"}},
		{"a StatefulSet", answer(422, "x is invalid", "Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden"), []string{"spec.x"}},
		{"an address", answer(422, "x is invalid", "Invalid value: []: may not change once set"), []string{"spec.x"}},
		{"a wrong value", answer(422, "x is invalid", "Unsupported value: 1"), nil},
		{"a policy's no", answer(422, "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: x is immutable", "x is immutable"), nil},
		{"none", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(c.want, immutable(c.err)); d != "" {
				t.Fatal(d)
			}
		})
	}
}
