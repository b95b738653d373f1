package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"

	"github.com/towline/towline/internal/testenv"
)

// ctx bounds nothing: every command has its own limit.
var ctx = context.Background()

// resource finds KIND[.group]/[NAMESPACE/]NAME; without a namespace it is the script's own.
func (w *world) resource(ref string) (dynamic.ResourceInterface, string, error) {
	parts := strings.Split(ref, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, "", fmt.Errorf("%q: want KIND[.group]/[NAMESPACE/]NAME", ref)
	}
	gk := schema.ParseGroupKind(parts[0])
	m, err := w.mapper.RESTMapping(gk)
	if meta.IsNoMatchError(err) {
		w.mapper.Reset()
		m, err = w.mapper.RESTMapping(gk)
	}
	if err != nil {
		return nil, "", err
	}
	name := parts[len(parts)-1]
	r := w.client.Resource(m.Resource)
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return r, name, nil
	}
	ns := w.namespace
	if len(parts) == 3 {
		ns = parts[1]
	}
	return r.Namespace(ns), name, nil
}

func (w *world) get(ref string) (*unstructured.Unstructured, error) {
	r, name, err := w.resource(ref)
	if err != nil {
		return nil, err
	}
	return r.Get(ctx, name, metav1.GetOptions{})
}

// kget REF prints an object as YAML; ! kget expects it not to be there.
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	w := of(ts)
	u, err := w.get(args[0])
	if neg {
		if !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err) {
			w.fail(ts, "%s: want not found, got %v", args[0], err)
		}
		return
	}
	if err != nil {
		w.fail(ts, "%s: %v", args[0], err)
	}
	b, err := yaml.Marshal(u.Object)
	ts.Check(err)
	_, err = ts.Stdout().Write(b)
	ts.Check(err)
}

// awaitLimit bounds every await: things take a second or two, a loaded machine needs more.
const awaitLimit = 60 * time.Second

// await exists REF | gone REF | field REF JSONPATH VALUE | lacks REF JSONPATH | phase TARGET PHASE | says TARGET TEXT | source NAME TEXT | log TEXT
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	deadline := time.Now().Add(awaitLimit)
	for {
		err := w.check(ts, args)
		if err == nil {
			return
		}
		if w.process != nil {
			select {
			case <-w.done:
				w.fail(ts, "await %v: the agent ended: %v", args, w.exit)
			default:
			}
		}
		if time.Now().After(deadline) {
			w.fail(ts, "await %s: %v", strings.Join(args, " "), err)
		}
		time.Sleep(25 * time.Millisecond)
	}
}

func (w *world) check(ts *testscript.TestScript, args []string) error {
	switch args[0] {
	case "exists":
		_, err := w.get(args[1])
		return err
	case "gone":
		_, err := w.get(args[1])
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there: %w", err)
	case "field":
		u, err := w.get(args[1])
		if err != nil {
			return err
		}
		got, err := field(u, args[2])
		if err == nil && got != args[3] {
			err = fmt.Errorf("is %q", got)
		}
		return err
	case "lacks":
		u, err := w.get(args[1])
		if err != nil {
			return err
		}
		if got, err := field(u, args[2]); err == nil {
			return fmt.Errorf("is %q", got)
		}
		return nil
	case "phase", "says":
		out, err := w.towline(ts, "explain", args[1], "-o", "json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if args[0] == "says" {
			if !strings.Contains(string(out), args[2]) {
				return fmt.Errorf("it says %s", out)
			}
			return nil
		}
		var x struct{ Target struct{ Phase string } }
		if err := json.Unmarshal(out, &x); err != nil {
			return err
		}
		if x.Target.Phase != args[2] {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	case "source":
		out, err := w.towline(ts, "status", "-o", "json")
		var s struct{ Sources []map[string]any }
		if jerr := json.Unmarshal(out, &s); jerr != nil { // it also ends with 1 where something is not ready
			return fmt.Errorf("%w: %w: %s", jerr, err, out)
		}
		for _, src := range s.Sources {
			b, err := json.Marshal(src)
			if err == nil && strings.HasSuffix(fmt.Sprint(src["name"]), "/"+args[1]) && strings.Contains(string(b), args[2]) {
				return nil
			}
		}
		return fmt.Errorf("it says %s", out)
	case "log":
		if !strings.Contains(ts.ReadFile(w.log), args[1]) {
			return fmt.Errorf("not logged")
		}
		return nil
	}
	return fmt.Errorf("await %s is not known", args[0])
}

// towline runs a command against the running agent.
func (w *world) towline(ts *testscript.TestScript, args ...string) ([]byte, error) {
	cmd := exec.Command(w.agentBinary, args...)
	cmd.Env = append(cmd.Environ(), "TOWLINE_SOCKET="+ts.Getenv("TOWLINE_SOCKET"))
	return cmd.CombinedOutput()
}

// field reads a JSONPATH such as .spec.replicas.
func field(u *unstructured.Unstructured, path string) (string, error) {
	p := jsonpath.New("field")
	if err := p.Parse("{" + path + "}"); err != nil {
		return "", err
	}
	var b strings.Builder
	err := p.Execute(&b, u.Object)
	return b.String(), err
}

// patch REF JSON [MANAGER] changes an object as somebody else would: an operator, or who else is named.
func cmdPatch(ts *testscript.TestScript, _ bool, args []string) {
	manager := "operator"
	if len(args) > 2 {
		manager = args[2]
	}
	r, name, err := of(ts).resource(args[0])
	ts.Check(err)
	_, err = r.Patch(ctx, name, types.MergePatchType, []byte(args[1]), metav1.PatchOptions{FieldManager: manager})
	ts.Check(err)
}

// delete REF deletes an object as a user would.
func cmdDelete(ts *testscript.TestScript, _ bool, args []string) {
	r, name, err := of(ts).resource(args[0])
	ts.Check(err)
	ts.Check(r.Delete(ctx, name, metav1.DeleteOptions{}))
}

// quiet SECONDS [disk] expects no write by the agent at the API server for that long, counted there, once the last attempt has been recorded: that may come a
// moment after its effect was seen. The lines of the audit log are written at once. With disk, nothing in the agent's folder of data is written either.
func cmdQuiet(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	period, err := time.ParseDuration(args[0])
	ts.Check(err)
	settled := func() (last time.Time) {
		for _, r := range w.cluster.Requests(w.tb, "towline/") {
			if r.Write() && strings.Contains(r.URI, w.namespace) {
				last = r.At
			}
		}
		return last
	}
	const pause = time.Second // shorter than every interval in the scripts: what writes at each interval is caught below
	testenv.Await(w.tb, awaitLimit, "the last attempt is recorded", func() error {
		if since := time.Since(settled()); since < pause {
			return fmt.Errorf("last write %s ago", since)
		}
		return nil
	})
	since := time.Now()
	disk := snapshot(ts)
	time.Sleep(period) // the claim is about a stretch of time: nothing to await
	if len(args) > 1 && args[1] == "disk" {
		if d := cmp.Diff(disk, snapshot(ts)); d != "" {
			w.fail(ts, "written to the disk while everything was settled (-before +after):\n%s", d)
		}
	}
	reads := 0
	for _, r := range w.cluster.Requests(w.tb, "towline/") {
		if !strings.Contains(r.URI, w.namespace) || r.At.Before(since) {
			continue
		}
		if r.Write() {
			w.fail(ts, "a write while everything was settled: %s %s", r.Verb, r.URI)
		}
		reads++
	}
	ts.Logf("%d reads in %s", reads, period)
	ts.Setenv("READS", fmt.Sprint(reads))
}

// heads REPO SECONDS N-M expects between N and M requests to a repository of the registry, every one a HEAD.
func cmdHeads(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	period, err := time.ParseDuration(args[1])
	ts.Check(err)
	var least, most int
	_, err = fmt.Sscanf(args[2], "%d-%d", &least, &most)
	ts.Check(err)
	w.registry.Reset()
	time.Sleep(period) // the claim is about a stretch of time: nothing to await
	heads := 0
	for _, r := range w.registry.Requests() {
		if !strings.Contains(r.Path, args[0]) {
			continue
		}
		if r.Method != http.MethodHead {
			w.fail(ts, "not a HEAD: %s %s", r.Method, r.Path)
		}
		heads++
	}
	if heads < least || heads > most {
		w.fail(ts, "%d HEADs in %s, want %s", heads, period, args[2])
	}
}

// fault KIND [PATH] makes the registry fail; fault heal ends it.
func cmdFault(ts *testscript.TestScript, _ bool, args []string) {
	r := of(ts).registry
	if args[0] == "heal" {
		r.Heal()
		return
	}
	f := testenv.Fault{Kind: testenv.FaultKind(args[0]), Delay: time.Hour} // of slow, which then never answers
	if len(args) > 1 {
		f.Path = args[1]
	}
	r.Fail(f)
}

// secret-docker NAME USER PASSWORD makes the registry ask for a login and stores it as a Secret.
func cmdDockerSecret(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	w.registry.RequireAuth(args[1], args[2])
	b, err := json.Marshal(map[string]any{"auths": map[string]any{w.registry.Host(): map[string]string{"username": args[1], "password": args[2]}}})
	ts.Check(err)
	_, err = kubernetes.NewForConfigOrDie(w.cluster.Config).CoreV1().Secrets(w.namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: b},
	}, metav1.CreateOptions{})
	ts.Check(err)
}
