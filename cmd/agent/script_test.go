package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/towline/towline/internal/testenv"
	"github.com/towline/towline/internal/testenv/signing"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// binary builds the agent with its crash points, once per test run.
var binary = sync.OnceValues(func() (string, error) {
	root, err := testenv.Root()
	if err != nil {
		return "", err
	}
	out := filepath.Join(root, "bin", "towline-crashpoints")
	cmd := exec.Command("go", "build", "-tags", "crashpoints", "-o", out, "./cmd/agent")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w\n%s", err, b)
	}
	return out, nil
})

// TestScripts runs the whole agent, as a process, against the real control plane and a registry per script. The files in testdata/script tell what is shown.
func TestScripts(t *testing.T) {
	agent, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cluster := testenv.Cluster(t)
	disc, err := discovery.NewDiscoveryClientForConfig(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	signers := filepath.Dir(signing.Cosign(t))                      // cosign and notation
	sops, err := filepath.Abs("../../internal/build/sops/testdata") // files that the real sops encrypted, and their keys
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			tb := e.T().(testing.TB)
			w := &world{
				tb:          tb,
				agentBinary: agent,
				cluster:     cluster,
				client:      client,
				mapper:      restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disc)),
				registry:    testenv.NewRegistry(tb),
				namespace:   cluster.Namespace(tb),
				log:         filepath.Join(e.WorkDir, "agent.log"),
			}
			// A socket's path must be short: the work folder's is not.
			run, err := os.MkdirTemp("", "tl-")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(run) })
			e.Defer(w.kill)
			e.Values[worldKey{}] = w
			if err := os.Mkdir(filepath.Join(e.WorkDir, "etc"), 0o755); err != nil {
				return err
			}
			if err := os.Symlink(agent, filepath.Join(run, "towline")); err != nil {
				return err
			}
			e.Vars = append(e.Vars,
				"NS="+w.namespace,
				"REGISTRY="+w.registry.Host(),
				"KUBECONFIG="+cluster.Kubeconfig,
				"SOPS_FILES="+sops,
				"TOWLINE_KUBECONFIG="+cluster.Kubeconfig,
				"TOWLINE_CONFIG="+filepath.Join(e.WorkDir, "etc", "config.yaml"), // not among the files of the script
				"TOWLINE_CACHE_DIR="+filepath.Join(e.WorkDir, "cache"),
				"TOWLINE_SOCKET="+filepath.Join(run, "s"),
				"TOWLINE_LISTEN=127.0.0.1:0",
				"PATH="+strings.Join([]string{run, signers, os.Getenv("PATH")}, string(os.PathListSeparator)),
				"XDG_CONFIG_HOME="+filepath.Join(e.WorkDir, "xdg"),
				"COSIGN_PASSWORD=canary-cosign",
				"TUF_MIRROR=http://127.0.0.1:1", // cosign asks nobody else
				"NO_COLOR=1",
			)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"agent":         cmdAgent,
			"alerts":        cmdAlerts,
			"api-away":      cmdAPIAway,
			"api-back":      cmdAPIBack,
			"await":         cmdAwait,
			"await-death":   cmdAwaitDeath,
			"certificate":   cmdCertificate,
			"chart":         cmdChart,
			"config":        cmdConfig,
			"delete":        cmdDelete,
			"events":        cmdEvents,
			"fault":         cmdFault,
			"guide":         cmdGuide,
			"heads":         cmdHeads,
			"hook":          cmdHook,
			"kapply":        cmdApply,
			"kdump":         cmdDump,
			"kget":          cmdGet,
			"kill-agent":    cmdKillAgent,
			"page":          cmdPage,
			"patch":         cmdPatch,
			"push":          cmdPush,
			"quiet":         cmdQuiet,
			"receiver":      cmdReceiver,
			"registry-down": cmdRegistryDown,
			"stop-agent":    cmdStopAgent,
			"tag":           cmdTag,
			"sign":          cmdSign,
			"signal":        cmdSignal,
			"signers":       cmdSigners,
			"secret-docker": cmdDockerSecret,
			"secret-file":   cmdFileSecret,
			"versions":      cmdVersions,
		},
	})
}

type worldKey struct{}

// world is what one script plays in.
type world struct {
	tb          testing.TB
	agentBinary string
	cluster     *testenv.ControlPlane
	client      dynamic.Interface
	mapper      meta.ResettableRESTMapper
	registry    *testenv.Registry
	namespace   string
	log         string
	receiver    *receiver
	signers     *signers
	// front is where the API server is to be found, behind where it is, as host:port.
	front, behind string

	process *exec.Cmd
	done    chan struct{}
	exit    error // read after done is closed
}

func of(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// start runs the agent in the background with its log in a file.
func (w *world) start(ts *testscript.TestScript, env []string) {
	if w.process != nil {
		ts.Fatalf("the agent runs already")
	}
	log, err := os.OpenFile(w.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer log.Close()
	cmd := exec.Command(w.agentBinary, "run", "--log-level", "debug", "--log-format", "console")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	for _, name := range []string{"TOWLINE_KUBECONFIG", "TOWLINE_CONFIG", "TOWLINE_CACHE_DIR", "TOWLINE_SOCKET", "TOWLINE_LISTEN"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Env = append(cmd.Env, "HOME="+ts.Getenv("WORK"), "DOCKER_CONFIG="+ts.Getenv("WORK"))
	ts.Check(cmd.Start())
	w.process, w.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		w.exit = cmd.Wait()
		close(done)
	}(w.done)
}

// end waits for the agent to have ended and returns how.
func (w *world) end(limit time.Duration) error {
	select {
	case <-w.done:
		w.process = nil
		return w.exit
	case <-time.After(limit):
		return fmt.Errorf("the agent did not end within %s", limit)
	}
}

func (w *world) kill() {
	if w.process != nil {
		_ = w.process.Process.Kill()
		<-w.done
		w.process = nil
	}
}

// fail ends the script with the end of the agent's log.
func (w *world) fail(ts *testscript.TestScript, format string, args ...any) {
	b, _ := os.ReadFile(w.log)
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	ts.Logf("the agent's log:\n%s", bytes.Join(lines[max(0, len(lines)-60):], []byte("\n")))
	ts.Fatalf(format, args...)
}

// agent [KEY=VALUE...] starts it in the background.
func cmdAgent(ts *testscript.TestScript, _ bool, args []string) { of(ts).start(ts, args) }

// stop-agent sends SIGTERM and expects an orderly end.
func cmdStopAgent(ts *testscript.TestScript, _ bool, _ []string) {
	w := of(ts)
	ts.Check(w.process.Process.Signal(syscall.SIGTERM))
	if err := w.end(30 * time.Second); err != nil {
		w.fail(ts, "stop: %v", err)
	}
}

// kill-agent sends SIGKILL.
func cmdKillAgent(ts *testscript.TestScript, _ bool, _ []string) { of(ts).kill() }

// signal NAME sends the agent a signal.
func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(of(ts).process.Process.Signal(map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM}[args[0]]))
}

// await-death expects the agent to kill itself at a crash point.
func cmdAwaitDeath(ts *testscript.TestScript, _ bool, _ []string) {
	w := of(ts)
	err := w.end(60 * time.Second)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		w.fail(ts, "want death by SIGKILL, got %v", err)
	}
}

// config FILE writes the file as the agent's config, with $NS and $REGISTRY replaced, by renaming as editors do.
func cmdConfig(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	path := ts.Getenv("TOWLINE_CONFIG")
	ts.Check(os.WriteFile(path+".new", []byte(text), 0o600))
	ts.Check(os.Rename(path+".new", path))
}

// push REPO:TAG FOLDER publishes a folder, or nothing at all for an empty one.
func cmdPush(ts *testscript.TestScript, _ bool, args []string) {
	repo, tag, _ := strings.Cut(args[0], ":")
	digest := of(ts).registry.PushFiles(repo, tag, readFolder(ts, args[1]), nil)
	ts.Setenv("DIGEST", digest)
}

// tag REPO FROM TO lets another tag name the same artifact.
func cmdTag(ts *testscript.TestScript, _ bool, args []string) {
	of(ts).registry.Tag(args[0], args[1], args[2])
}

// chart REPO NAME VERSION FOLDER publishes a folder as a chart.
func cmdChart(ts *testscript.TestScript, _ bool, args []string) {
	of(ts).registry.PushChart(args[0], args[2], testenv.Chart(args[1], args[2], readFolder(ts, args[3])))
}

func readFolder(ts *testscript.TestScript, folder string) map[string]string {
	files := map[string]string{}
	root := ts.MkAbs(folder)
	ts.Check(filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files[rel] = strings.ReplaceAll(ts.ReadFile(path), "${NS}", ts.Getenv("NS")) // other variables are the artifact's own
		return nil
	}))
	return files
}
