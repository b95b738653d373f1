package helm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

func TestFailures(t *testing.T) {
	t.Run("a chart that cannot be rendered touches nothing", func(t *testing.T) {
		e := newEnv(t)
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.0.0", map[string]string{"a": `{{ fail "give me a name" }}`})), false)
		wantFailure(t, err, deploy.ReasonInstallFailed, "give me a name")
		wantEqual(t, "history", e.history(e.ns, "web"), "release: not found")
	})
	t.Run("values against the schema name the path", func(t *testing.T) {
		e := newEnv(t)
		_, err := e.run(t.Context(), e.target(`{"replicaCount":"two"}`), e.revision(web("1.0.0", map[string]string{
			"values.schema.json": `{"properties":{"replicaCount":{"type":"integer"}}}`,
		})), false)
		wantFailure(t, err, deploy.ReasonInstallFailed, "/replicaCount must be integer, is string")
		if got := writes(e.counter.take()); len(got) > 0 {
			t.Errorf("writes %v", got)
		}
	})
	t.Run("what never gets ready runs into the timeout, is named, and a fixed chart installs", func(t *testing.T) {
		e := newEnv(t)
		bad := e.target(`{"podAnnotations":{"kubelet.towline.dev/never-ready":"true"}}`, func(s *deploy.HelmReleaseSpec) {
			s.Install = &deploy.Install{Timeout: &metav1.Duration{Duration: 2 * time.Second}}
		})
		start := time.Now()
		extra := e.revision(web("1.0.0", map[string]string{"templates/extra.yaml": configMapNamed("extra")}))
		_, err := e.run(t.Context(), bad, extra, false)
		wantFailure(t, err, deploy.ReasonTimeout, "Deployment.apps/"+e.ns+"/web is not ready: 0 of 1 pods are ready; pod web-")
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("took %s", took)
		}
		wantEqual(t, "history", e.history(e.ns, "web"), "1:failed")
		// A fresh installation, and still the pod annotation that only the failed revision had must go.
		changes, err := e.run(t.Context(), e.target(""), e.revision(web("1.0.1", nil)), false)
		e.must(err)
		wantEqual(t, "history after the fix", e.history(e.ns, "web"), "1:failed 2:deployed")
		if got := e.deployment("web").Spec.Template.Annotations; len(got) > 0 {
			t.Errorf("pod annotations of the failed revision stay: %v", got)
		}
		wantEqual(t, "leftover of the failed revision", e.configMaps(e.ns), "web")
		if len(changes) != 2 || changes[1].Action != deploy.ActionPrune || changes[1].Object.Name != "extra" {
			t.Errorf("changes %v", changes)
		}
	})
	t.Run("a failed upgrade keeps the release, cleans up if asked, and a fixed chart upgrades", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")})))
		broken := map[string]string{"a": configMapNamed("a") + "immutable: false\nbinaryData: {junk: aGk=}\n", "b": configMapNamed("b"), "c": "apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec: {ports: [{port: 99999}]}\n"}
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.1.0", broken)), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "99999")
		wantEqual(t, "history", e.history(e.ns, "web"), "1:deployed 2:failed")
		wantEqual(t, "objects after the failure", e.configMaps(e.ns), "a b")
		cleanup := e.target("", func(s *deploy.HelmReleaseSpec) { s.Upgrade = &deploy.Upgrade{CleanupOnFail: true} })
		e.must(e.set.CoreV1().ConfigMaps(e.ns).Delete(t.Context(), "b", metav1.DeleteOptions{}))
		_, err = e.run(t.Context(), cleanup, e.revision(plain("1.1.1", broken)), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "99999")
		wantEqual(t, "objects after a failure with cleanup", e.configMaps(e.ns), "a")
		e.bring(e.target(""), e.revision(plain("1.2.0", map[string]string{"a": configMapNamed("a")})))
		wantEqual(t, "history after the fix", e.history(e.ns, "web"), "1:superseded 2:failed 3:failed 4:deployed")
		a, err := e.set.CoreV1().ConfigMaps(e.ns).Get(t.Context(), "a", metav1.GetOptions{})
		e.must(err)
		if len(a.BinaryData) > 0 || a.Immutable != nil {
			t.Errorf("fields of the failed revisions stay: %v", a)
		}
	})
	t.Run("what an older revision has goes when a failed one is uninstalled", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")})))
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.1.0", map[string]string{
			"b": configMapNamed("b"), "c": "apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec: {ports: [{port: 99999}]}\n",
		})), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, "99999")
		e.must(e.engine.Delete(t.Context(), e.target(""), nil))
		wantEqual(t, "objects", e.configMaps(e.ns), "")
		wantEqual(t, "history", e.history(e.ns, "web"), "release: not found")
	})
	t.Run("a release too large for a Secret is refused before any object is sent", func(t *testing.T) {
		e := newEnv(t)
		big := map[string]string{}
		for i := range 3 {
			noise := make([]byte, 350<<10) // does not compress
			_, err := rand.Read(noise)
			e.must(err)
			name := fmt.Sprintf("big-%d", i)
			big[name] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\nbinaryData: {a: " + base64.StdEncoding.EncodeToString(noise) + "}\n"
		}
		_, err := e.run(t.Context(), e.target(""), e.revision(plain("1.0.0", big)), false)
		wantFailure(t, err, deploy.ReasonInstallFailed, "and a Secret holds 1024 KiB: its manifest has 140")
		wantEqual(t, "objects", e.configMaps(e.ns), "")
	})
	t.Run("a corrupt record is named, not passed over", func(t *testing.T) {
		e := newEnv(t)
		e.bring(e.target(""), e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a")})))
		s, err := e.set.CoreV1().Secrets(e.ns).Get(t.Context(), "sh.helm.release.v1.web.v1", metav1.GetOptions{})
		e.must(err)
		s.Data["release"] = []byte("H4sInonsense")
		_, err = e.set.CoreV1().Secrets(e.ns).Update(t.Context(), s, metav1.UpdateOptions{})
		e.must(err)
		_, err = e.run(t.Context(), e.target(""), e.revision(plain("1.1.0", map[string]string{"a": configMapNamed("a")})), false)
		wantFailure(t, err, deploy.ReasonUpgradeFailed, e.ns+"/sh.helm.release.v1.web.v1 cannot be decoded")
	})
}

// canary is a secret value: it must appear nowhere but in the cluster.
const canary = "canary-5f0c"

func TestSecretValuesStaySecret(t *testing.T) {
	e := newEnv(t)
	core, logs := observer.New(zap.DebugLevel)
	e.engine.log = zap.New(core)
	var std bytes.Buffer // where parts of the SDK write to
	defer log.SetOutput(log.Writer())
	log.SetOutput(&std)
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: {{ .Values.password | quote }}}\n"
	files := map[string]string{"templates/s.yaml": secret, "values.yaml": "password: ''\nsub: {a: 1}\n", "values.schema.json": `{"properties":{"n":{"enum":["x"]},"p":{"pattern":"^x$"}}}`}
	good := e.revision(testenv.Chart("web", "1.0.0", files))
	var said []string
	try := func(values string, r deploy.Revision) {
		_, err := e.run(t.Context(), e.target(values), r, false)
		said = append(said, fmt.Sprint(err))
	}
	try(`{"password":"`+canary+`"}`, good)
	try(`{"password":"`+canary+`2","sub":"`+canary+`"}`, good)
	try(`{"n":"`+canary+`","p":"`+canary+`"}`, good)
	files["templates/t.yaml"] = "apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec: {ports: [{port: 99999}]}\n"
	try(`{"password":"`+canary+`3"}`, e.revision(testenv.Chart("web", "1.0.1", files)))
	files["templates/t.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [{{ .Values.password }}]}\n"
	try(`{"password":"`+canary+`4"}`, e.revision(testenv.Chart("web", "1.0.2", files)))
	files["templates/t.yaml"] = "{{ fail .Values.password }}"
	try(`{"password":"`+canary+`5"}`, e.revision(testenv.Chart("web", "1.0.3", files)))
	files["templates/t.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: t, labels: {l: \"{{ .Values.password }}!\"}}\n"
	try(`{"password":"`+canary+`6"}`, e.revision(testenv.Chart("web", "1.0.4", files)))
	if want := "(value /password)"; !strings.Contains(said[len(said)-1], want) {
		t.Errorf("the server's refusal of a label reads %q, want %q in it", said[len(said)-1], want)
	}
	files["templates/t.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: t}\ndata: {{ .Values.password | quote }}\n"
	try(`{"password":"`+canary+`7"}`, e.revision(testenv.Chart("web", "1.0.5", files)))
	files["templates/t.yaml"] = "apiVersion: v1\nkind: {{ .Values.password }}\nmetadata: {name: t}\n"
	try(`{"password":"`+canary+`8"}`, e.revision(testenv.Chart("web", "1.0.6", files)))
	if said[0] != "<nil>" || said[1] != "<nil>" || slices.Contains(said[2:], "<nil>") {
		t.Fatalf("results %q: want two successes and three failures", said)
	}
	for _, l := range logs.All() {
		said = append(said, l.Message+fmt.Sprint(l.ContextMap()))
	}
	said = append(said, std.String())
	if len(said) < 20 {
		t.Errorf("only %d texts: the SDK's debug log is missing", len(said))
	}
	for _, s := range said {
		if strings.Contains(s, canary) || strings.Contains(s, base64.StdEncoding.EncodeToString([]byte(canary))[:12]) {
			t.Errorf("a secret value leaked: %s", s)
		}
	}
}

func TestStandardLogIsShut(t *testing.T) {
	New(Options{})
	if log.Writer() != io.Discard {
		t.Error("the SDK's warnings, which quote values that do not fit, are written")
	}
}

// TestSecretValuesOfRecordsStaySecret has what only records know: an uninstallation does not read valuesFrom, and a rollback sends what was wanted once.
func TestSecretValuesOfRecordsStaySecret(t *testing.T) {
	e := newEnv(t)
	core, logs := observer.New(zap.DebugLevel)
	e.engine.log = zap.New(core)
	password := canary
	e.engine.read = func(context.Context, string, string, string) (map[string][]byte, error) {
		return map[string][]byte{"values.yaml": []byte("password: " + password + "\npin: 83105274\n")}, nil
	}
	refused := func(hook string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + hook + ", annotations: {helm.sh/hook: " + hook + "}, " +
			"labels: {l: \"{{ .Values.password }}!\", pin: \"{{ .Values.pin }}!\"}}\n"
	}
	r := e.revision(plain("1.0.0", map[string]string{"a": configMapNamed("a"), "delete": refused("pre-delete"), "rollback": refused("pre-rollback")}))
	target := e.target("", func(s *deploy.HelmReleaseSpec) { s.ValuesFrom = []deploy.ValuesFrom{{Kind: "Secret", Name: "values"}} })
	full := func() {
		_, err := e.run(t.Context(), target, r, true)
		e.must(err)
	}
	full()
	password += "-2"
	full()
	var said []string
	e.must(e.engine.operate(t.Context(), target, placeOf(target), limit, func(_ deploy.Phase, words string) { said = append(said, words) }, func(op *operation) error {
		_, err := op.history()
		op.kube.progress(deploy.PhaseWaiting, "waiting for it ("+password+" is refused)") // as objects say in their status
		return err
	}))
	_, rollback := e.engine.Rollback(t.Context(), target, 1, nil)
	wantFailure(t, rollback, deploy.ReasonRollbackFailed, "(value /password)")
	uninstall := e.engine.Delete(t.Context(), target, nil)
	wantFailure(t, uninstall, deploy.ReasonUninstallFailed, "(value /pin)")
	said = append(said, rollback.Error(), uninstall.Error())
	for _, l := range logs.All() {
		said = append(said, l.Message+fmt.Sprint(l.ContextMap()))
	}
	for _, s := range said {
		if strings.Contains(s, canary) || strings.Contains(s, "83105274") {
			t.Errorf("a secret value leaked: %s", s)
		}
	}
}
