package main_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/towline/towline/internal/testenv"
)

// receiver takes the alerts of a script's agent.
type receiver struct {
	// mu guards alerts.
	mu     sync.Mutex
	alerts []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	var out bytes.Buffer
	if json.Compact(&out, body) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alerts = append(r.alerts, out.String())
}

func (r *receiver) matching(pattern *regexp.Regexp) (n int, all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.alerts {
		if pattern.MatchString(a) {
			n++
		}
	}
	return n, r.alerts
}

// receiver starts one; $RECEIVER is its URL.
func cmdReceiver(ts *testscript.TestScript, _ bool, _ []string) {
	w := of(ts)
	w.receiver = &receiver{}
	s := httptest.NewServer(w.receiver)
	ts.Defer(s.Close)
	ts.Setenv("RECEIVER", s.URL)
}

// alerts N PATTERN waits until the receiver has got N alerts that match, and expects no more than that.
func cmdAlerts(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	var want int
	_, err := fmt.Sscanf(args[0], "%d", &want)
	ts.Check(err)
	pattern := regexp.MustCompile(args[1])
	var all []string
	deadline := time.Now().Add(awaitLimit)
	for got := 0; got != want; {
		if got, all = w.receiver.matching(pattern); got > want || time.Now().After(deadline) {
			w.fail(ts, "%d alerts match %s, want %d:\n%s", got, pattern, want, strings.Join(all, "\n"))
		}
		time.Sleep(25 * time.Millisecond)
	}
}

// events KIND/NAME REASON TYPE expects such a Kubernetes Event in the script's namespace.
func cmdEvents(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	kind, name, _ := strings.Cut(args[0], "/")
	all, err := kubernetes.NewForConfigOrDie(w.cluster.Config).CoreV1().Events(w.namespace).List(ctx, metav1.ListOptions{})
	ts.Check(err)
	var there []string
	for _, e := range all.Items {
		if e.InvolvedObject.Kind == kind && e.InvolvedObject.Name == name && e.Reason == args[1] && e.Type == args[2] {
			return
		}
		there = append(there, fmt.Sprintf("%s %s/%s %s: %s", e.Type, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message))
	}
	w.fail(ts, "no event %v among:\n%s", args, strings.Join(there, "\n"))
}

// certificate FILE writes the certificate of a new authority.
func cmdCertificate(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

// registry-down stops the script's registry for good.
func cmdRegistryDown(ts *testscript.TestScript, _ bool, _ []string) { of(ts).registry.Close() }

// block finds the fenced blocks of a guide.
var block = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// guide FILE plays a guide of docs: it runs every block of commands, one after the other in one shell, as a reader would who types all of it, and writes the configs to
// guide-1.yaml, guide-2.yaml and so on. The places that a guide names are those of the script: its registry, and folders in its work folder. What else a guide takes as
// given is there before.
func cmdGuide(ts *testscript.TestScript, _ bool, args []string) {
	root, err := testenv.Root()
	ts.Check(err)
	text, err := os.ReadFile(filepath.Join(root, "docs", args[0]))
	ts.Check(err)
	work := ts.Getenv("WORK")
	guide := strings.NewReplacer("registry.example.org", strings.Replace(ts.Getenv("REGISTRY"), "127.0.0.1", "localhost", 1), // which all tools talk plain HTTP to
		"/etc/towline/", work+"/", "/media/", work+"/", "/srv/", work+"/", "targetNamespace: default", "targetNamespace: "+ts.Getenv("NS"), "interval: 30s", "interval: 1s").Replace(string(text))
	var commands strings.Builder
	configs := 0
	for _, b := range block.FindAllStringSubmatch(guide, -1) {
		switch b[1] {
		case "sh":
			commands.WriteString(b[2])
		case "yaml":
			configs++
			ts.Check(os.WriteFile(filepath.Join(work, fmt.Sprintf("guide-%d.yaml", configs)), []byte("namespace: "+ts.Getenv("NS")+"\n"+b[2]), 0o600))
		default:
			ts.Fatalf("%s: a block of %q: nothing runs it", args[0], b[1])
		}
	}
	if commands.Len() == 0 {
		ts.Fatalf("%s has no commands", args[0])
	}
	cmd := exec.Command("bash", "-euxo", "pipefail", "-c", commands.String())
	cmd.Dir = work
	for _, name := range guideEnv {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		ts.Logf("%s", out)
		of(ts).fail(ts, "%s: %v", args[0], err)
	}
	_, err = ts.Stdout().Write(out)
	ts.Check(err)
}

// guideEnv is what a guide's commands find in their environment.
var guideEnv = []string{
	"PATH", "HOME", "XDG_CONFIG_HOME", "NS", "REGISTRY", "KUBECONFIG", "COSIGN_PASSWORD", "TUF_MIRROR",
	"TOWLINE_KUBECONFIG", "TOWLINE_CONFIG", "TOWLINE_CACHE_DIR", "TOWLINE_SOCKET",
}
