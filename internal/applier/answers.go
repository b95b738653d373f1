package applier

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxStatusBytes of a refusal are read; a Status of thousands of causes has a few hundred KB.
const maxStatusBytes = 1 << 20

// answers remembers why the API server refused each PATCH of an operation. cli-utils and kubectl turn such errors into text with advice for people at a
// terminal; whether to try again, and what to tell, depends on the answer itself.
type answers struct {
	// mu guards refused, by the path of the request.
	mu      sync.Mutex
	refused map[string]error
}

// wrap is a transport.WrapperFunc.
func (a *answers) wrap(next http.RoundTripper) http.RoundTripper { return recorder{a, next} }

// take returns and forgets why the last PATCH to a path failed; nil where it was answered well or never sent.
func (a *answers) take(path string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.refused[path]
	delete(a.refused, path)
	return err
}

func (a *answers) put(path string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.refused, path)
	if err != nil {
		a.refused[path] = err
	}
}

type recorder struct {
	answers *answers
	next    http.RoundTripper
}

// RoundTrip passes everything on and reads along where a PATCH fails.
func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if req.Method != http.MethodPatch {
		return resp, err
	}
	path := req.URL.Path
	if err != nil {
		r.answers.put(path, &lostError{err})
		return resp, err
	}
	if resp.StatusCode < http.StatusBadRequest {
		r.answers.put(path, nil)
		return resp, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatusBytes))
	if err != nil {
		r.answers.put(path, &lostError{err})
	} else {
		r.answers.put(path, statusError(resp, body))
	}
	resp.Body = replayed{io.MultiReader(bytes.NewReader(body), resp.Body), resp.Body}
	return resp, nil
}

// replayed gives a body that has been read once more.
type replayed struct {
	io.Reader
	io.Closer
}

func statusError(resp *http.Response, body []byte) error {
	var s metav1.Status
	if json.Unmarshal(body, &s) == nil && s.Kind == "Status" {
		if s.Code == 0 {
			s.Code = int32(resp.StatusCode)
		}
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
			if s.Details == nil {
				s.Details = &metav1.StatusDetails{}
			}
			s.Details.RetryAfterSeconds = max(s.Details.RetryAfterSeconds, int32(min(seconds, 3600)))
		}
		return &apierrors.StatusError{ErrStatus: s}
	}
	return apierrors.NewGenericServerResponse(resp.StatusCode, http.MethodPatch, schema.GroupResource{}, "", strings.TrimSpace(string(body)), 0, true)
}

// pathOf is the path of an object below the server's address.
func pathOf(base string, m *meta.RESTMapping, namespace, name string) string {
	gv := m.Resource.GroupVersion()
	path := strings.TrimSuffix(base, "/") + "/apis/" + gv.String()
	if gv.Group == "" {
		path = strings.TrimSuffix(base, "/") + "/api/" + gv.Version
	}
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		path += "/namespaces/" + namespace
	}
	return path + "/" + m.Resource.Resource + "/" + name
}
