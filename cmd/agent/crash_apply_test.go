package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// each kind of object of a generation: changed, created and pruned by the next one.
const eachKind = 5

// TestKilledAnywhere kills the agent at 20 places of a change that creates, changes and prunes five objects each. Whatever was done by then, the next process makes the
// cluster, the inventory and the artifact the same again.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	places := []string{"schedule.intent-recorded", "applier.inventory-written", "applier.before-prune", "applier.before-record", "schedule.outcome-not-recorded"}
	for n := range 2 * eachKind {
		places = append(places, fmt.Sprintf("applier.object-applied:%d", n+1))
	}
	for n := range eachKind {
		places = append(places, fmt.Sprintf("applier.object-pruned:%d", n+1))
	}
	if len(places) != 20 {
		t.Fatalf("%d places", len(places))
	}
	const lanes = 4 // namespaces with an agent each, side by side
	for lane := range lanes {
		t.Run(fmt.Sprintf("lane %d", lane), func(t *testing.T) {
			t.Parallel()
			v := newVictim(t)
			v.push()
			v.start("")
			v.awaitWhole()
			v.stop()
			for i := lane; i < len(places); i += lanes {
				t.Run(places[i], func(t *testing.T) {
					v.t = t
					v.push()
					v.start("TOWLINE_CRASH_AT=" + places[i])
					v.awaitDeath()
					v.bystander()
					v.start("")
					v.awaitWhole()
					v.stop()
					v.bystander()
				})
			}
		})
	}
}

// victim is an agent that is killed again and again, with what it works on.
type victim struct {
	t          *testing.T
	dir, agent string
	cluster    *testenv.ControlPlane
	kube       kubernetes.Interface
	registry   *testenv.Registry
	namespace  string
	generation int

	process *exec.Cmd
	ended   chan error
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	agent, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "tl-") // short: a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	v := &victim{t: t, dir: dir, agent: agent, cluster: testenv.Cluster(t), registry: testenv.NewRegistry(t)}
	v.namespace = v.cluster.Namespace(t)
	if v.kube, err = kubernetes.NewForConfig(v.cluster.Config); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`namespace: %[1]s
sources:
  - {name: web, url: "oci://%[2]s/apps/web", insecure: true, interval: 1s}
kustomizations:
  - {name: web, sourceRef: web, interval: 1m, retryInterval: 1s, prune: true, targetNamespace: %[1]s}
`, v.namespace, v.registry.Host())
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}, Data: map[string]string{"v": "theirs"}}
	if _, err := v.kube.CoreV1().ConfigMaps(v.namespace).Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if v.process != nil {
			_ = v.process.Process.Kill()
			<-v.ended
		}
	})
	return v
}

// rendered are the names of this generation's objects: those that stay, and those that only every second generation has.
func (v *victim) rendered() []string {
	var names []string
	for i := range eachKind {
		names = append(names, fmt.Sprintf("always-%d", i), fmt.Sprintf("%s-%d", []string{"even", "odd"}[v.generation%2], i))
	}
	slices.Sort(names)
	return names
}

// push publishes the next generation.
func (v *victim) push() {
	v.generation++
	var b strings.Builder
	for _, name := range v.rendered() {
		fmt.Fprintf(&b, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {v: \"%d\"}\n---\n", name, v.generation)
	}
	v.registry.PushFiles("apps/web", "latest", map[string]string{"all.yaml": b.String()}, nil)
}

func (v *victim) start(env string) {
	v.t.Helper()
	log, err := os.OpenFile(filepath.Join(v.dir, "log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		v.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(v.agent, "run", "--log-format", "console")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "TOWLINE_KUBECONFIG="+v.cluster.Kubeconfig, "TOWLINE_CONFIG="+filepath.Join(v.dir, "config.yaml"),
		"TOWLINE_CACHE_DIR="+filepath.Join(v.dir, "cache"), "TOWLINE_SOCKET="+filepath.Join(v.dir, "s"), "TOWLINE_LISTEN=127.0.0.1:0",
		"HOME="+v.dir, "DOCKER_CONFIG="+v.dir)
	if env != "" {
		cmd.Env = append(cmd.Env, env)
	}
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	v.process, v.ended = cmd, make(chan error, 1)
	go func(ended chan<- error) { ended <- cmd.Wait() }(v.ended)
}

// end waits for the process to have ended, and returns how.
func (v *victim) end() error {
	v.t.Helper()
	select {
	case err := <-v.ended:
		v.process = nil
		return err
	case <-time.After(awaitLimit):
		v.t.Fatalf("the agent did not end within %s; its log:\n%s", awaitLimit, v.log())
		return nil
	}
}

// awaitDeath expects that it killed itself; whoever ends otherwise did not reach the place.
func (v *victim) awaitDeath() {
	v.t.Helper()
	err := v.end()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		v.t.Fatalf("want death by SIGKILL, got %v; the agent's log:\n%s", err, v.log())
	}
}

func (v *victim) stop() {
	v.t.Helper()
	testenv.Await(v.t, awaitLimit, "the agent has come up and listens to signals", func() error {
		if v.log() == "" {
			return errors.New("nothing in its log yet")
		}
		return nil
	})
	if err := v.process.Process.Signal(syscall.SIGTERM); err != nil {
		v.t.Fatal(err)
	}
	if err := v.end(); err != nil {
		v.t.Fatalf("stop: %v; the agent's log:\n%s", err, v.log())
	}
}

func (v *victim) log() string {
	b, err := os.ReadFile(filepath.Join(v.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// awaitWhole waits until the objects with our label, the inventory, and the artifact are the same, and every object has this generation's content.
func (v *victim) awaitWhole() {
	v.t.Helper()
	maps := v.kube.CoreV1().ConfigMaps(v.namespace)
	want := map[string]string{}
	for _, name := range v.rendered() {
		want[name] = fmt.Sprint(v.generation)
	}
	testenv.Await(v.t, awaitLimit, "everything is as the artifact says", func() error {
		all, err := maps.List(v.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		live, known := map[string]string{}, []string{}
		for i := range all.Items {
			cm := &all.Items[i]
			switch {
			case cm.Labels[deploy.LabelState] == deploy.StateInventory:
				for line := range strings.Lines(cm.Data["objects"]) {
					id, _, _ := strings.Cut(line, " ")
					known = append(known, id[strings.LastIndexByte(id, '/')+1:])
				}
			case cm.Labels[deploy.LabelTarget] != "":
				live[cm.Name] = cm.Data["v"]
			}
		}
		slices.Sort(known)
		if d := cmp.Diff(want, live); d != "" {
			return fmt.Errorf("objects (-want +got):\n%s\nlog:\n%s", d, v.log())
		}
		if d := cmp.Diff(v.rendered(), known); d != "" {
			return fmt.Errorf("inventory (-want +got):\n%s", d)
		}
		return nil
	})
}

// bystander looks at the object that is nobody's business.
func (v *victim) bystander() {
	v.t.Helper()
	cm, err := v.kube.CoreV1().ConfigMaps(v.namespace).Get(v.t.Context(), "foreign", metav1.GetOptions{})
	if err != nil || cm.Data["v"] != "theirs" || len(cm.Labels) > 0 {
		v.t.Fatalf("the foreign object: %v, %v", cm, err)
	}
}
