package testenv

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// shared is the cluster of the running test package.
var shared struct {
	sync.Mutex // guards both
	cluster    *ControlPlane
	dir        string
}

// Main runs a package's tests and stops the cluster that they used, if any did. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		return nil
	}
	if err := shared.cluster.Stop(); err != nil {
		return err
	}
	return os.RemoveAll(shared.dir)
}

// Cluster is the package's control plane, started at the first call.
func Cluster(t testing.TB) *ControlPlane {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		dir, err := os.MkdirTemp("", "towline-cluster-")
		if err != nil {
			t.Fatal(err)
		}
		c, err := StartCluster(context.Background(), dir, ClusterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		shared.cluster, shared.dir = c, dir
	}
	return shared.cluster
}

// Namespace makes a namespace for one test. It is deleted, not waited for, when the test ends.
func (c *ControlPlane) Namespace(t testing.TB) string {
	t.Helper()
	client := kubernetes.NewForConfigOrDie(c.Config)
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create a namespace: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := client.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Logf("delete namespace %s: %v", ns.Name, err)
		}
	})
	return ns.Name
}

// APIRequest is one request as the API server saw it.
type APIRequest struct {
	Verb      string // get, list, watch, create, update, patch, delete, deletecollection
	URI       string
	UserAgent string
	Status    int
	At        time.Time
}

// Write reports whether the request asks for a change.
func (r APIRequest) Write() bool {
	switch r.Verb {
	case "get", "list", "watch":
		return false
	}
	return true
}

// Requests are those that the API server has answered, from the audit log, whose user agent begins with the given text.
func (c *ControlPlane) Requests(t testing.TB, userAgent string) []APIRequest {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	var out []APIRequest
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var ev struct {
			Verb           string
			RequestURI     string
			UserAgent      string
			StageTimestamp metav1.MicroTime
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			continue // the last line may still be being written
		}
		if strings.HasPrefix(ev.UserAgent, userAgent) {
			out = append(out, APIRequest{Verb: ev.Verb, URI: ev.RequestURI, UserAgent: ev.UserAgent, Status: ev.ResponseStatus.Code, At: ev.StageTimestamp.Time})
		}
	}
	return out
}

// Await calls check until it returns nil, and fails the test with its last error when the limit has passed.
func Await(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
