package main_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// TestReleaseKilledAnywhere kills the agent at 20 places of installations, upgrades, upgrades that fail and are rolled back, and uninstallations. Whatever was done by then, the next process
// makes the objects be as they should, with one deployed revision in Helm's records and none that is pending, or with nothing left.
func TestReleaseKilledAnywhere(t *testing.T) {
	t.Parallel()
	lanes := map[string][]string{
		"install": {
			"schedule.intent-recorded", "helm.before-install", "helm.installed-record-pending:1", "helm.installed-record-pending:2", "helm.installed-record-pending:3",
			"helm.before-record", "helm.before-test", "schedule.outcome-not-recorded",
		},
		"upgrade":  {"helm.before-upgrade", "helm.upgrade-pending", "helm.before-record", "helm.before-test"},
		"rollback": {"helm.before-undo", "helm.before-rollback", "helm.before-record", "schedule.outcome-not-recorded"},
		"uninstall": {
			"helm.before-uninstall", "helm.uninstalling", "helm.before-forget", "schedule.deleted",
		},
	}
	places := 0
	for lane, at := range lanes {
		places += len(at)
		t.Run(lane, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t)
			good, bad := v.chart, v.broken
			step := map[string]func(place string){
				"install": func(place string) {
					good()
					v.configure(true)
					v.diesAt(place)
					v.start("")
					v.awaitRelease(v.generation)
					v.configure(false)
					v.awaitNothing()
					v.stop()
				},
				"upgrade": func(place string) {
					good()
					v.diesAt(place)
					v.start("")
					v.awaitRelease(v.generation)
					v.stop()
				},
				"rollback": func(place string) {
					before := v.generation
					bad()
					v.diesAt(place)
					v.start("")
					v.awaitRelease(before)
					v.stop()
					good()
					v.start("")
					v.awaitRelease(v.generation)
					v.stop()
				},
				"uninstall": func(place string) {
					v.configure(false)
					v.diesAt(place)
					v.start("")
					v.awaitNothing()
					v.stop()
					good()
					v.configure(true)
					v.start("")
					v.awaitRelease(v.generation)
					v.stop()
				},
			}[lane]
			if lane != "install" {
				good()
				v.configure(true)
				v.start("")
				v.awaitRelease(v.generation)
				v.stop()
			}
			for _, place := range at {
				t.Run(place, func(t *testing.T) {
					v.t = t
					step(place)
					v.bystander()
				})
			}
		})
	}
	if places != 20 {
		t.Fatalf("%d places", places)
	}
}

// configure writes the config, with the release or without.
func (v *victim) configure(with bool) {
	v.t.Helper()
	config := fmt.Sprintf("namespace: %s\nsources:\n  - {name: web, url: \"oci://%s/charts/web\", insecure: true, interval: 1s, layerSelector: {operation: copy}}\n", v.namespace, v.registry.Host())
	if with {
		config += "helmReleases:\n  - {name: web, chartRef: web, interval: 1m, retryInterval: 1s, timeout: 20s, test: {enable: true}, upgrade: {remediation: {retries: 0, remediateLastFailure: true}}}\n"
	}
	if err := os.WriteFile(filepath.Join(v.dir, "config.yaml"), []byte(config), 0o600); err != nil {
		v.t.Fatal(err)
	}
}

// chart publishes the next generation of a chart: objects of three kinds, one that only every second generation has, hooks and a test.
func (v *victim) chart() { v.publish("") }

// broken publishes one that fails when its objects have been sent.
func (v *victim) broken() { v.publish("true") }

func (v *victim) publish(fail string) {
	v.generation++
	g := strconv.Itoa(v.generation)
	pod := func(name, hook, annotation string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", annotations: {helm.sh/hook: " + hook + ", helm.sh/hook-delete-policy: before-hook-creation" + annotation +
			"}}\nspec: {restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: a, image: \"example.org/a:1\"}]}\n"
	}
	annotation := ""
	if fail != "" {
		annotation = `, kubelet.towline.dev/fail: "true"`
	}
	v.registry.PushChart("charts/web", "latest", testenv.Chart("web", "1.0."+g, map[string]string{
		"templates/account.yaml": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n",
		"templates/always.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: always}\ndata: {v: \"" + g + "\"}\n",
		"templates/some.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + []string{"even", "odd"}[v.generation%2] + "}\ndata: {v: \"" + g + "\"}\n",
		"templates/service.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}\n",
		"templates/after.yaml":   pod("after", "post-upgrade", annotation),
		"templates/test.yaml":    pod("probe", "test", ""),
	}))
}

// diesAt starts the agent and waits until it has killed itself there.
func (v *victim) diesAt(place string) {
	v.t.Helper()
	v.start("TOWLINE_CRASH_AT=" + place)
	v.awaitDeath()
}

// held are the ConfigMaps of the release, by name.
func (v *victim) held() (map[string]string, error) {
	all, err := v.kube.CoreV1().ConfigMaps(v.namespace).List(v.t.Context(), metav1.ListOptions{LabelSelector: deploy.LabelTarget})
	if err != nil {
		return nil, err
	}
	live := map[string]string{}
	for i := range all.Items {
		if all.Items[i].Labels[deploy.LabelState] == "" {
			live[all.Items[i].Name] = all.Items[i].Data["v"]
		}
	}
	return live, nil
}

// records are how many of Helm's there are in each status.
func (v *victim) records() (map[string]int, error) {
	list, err := v.kube.CoreV1().Secrets(v.namespace).List(v.t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for i := range list.Items {
		out[list.Items[i].Labels["status"]]++
	}
	return out, nil
}

// awaitRelease waits until the objects are those of a generation, and the records say that one revision is deployed and nothing is going on.
func (v *victim) awaitRelease(generation int) {
	v.t.Helper()
	g := strconv.Itoa(generation)
	want := map[string]string{"always": g, []string{"even", "odd"}[generation%2]: g}
	testenv.Await(v.t, awaitLimit, "the release is as it should be", func() error {
		live, err := v.held()
		if err != nil {
			return err
		}
		if d := cmp.Diff(want, live); d != "" {
			return fmt.Errorf("objects (-want +got):\n%s\nlog:\n%s", d, v.log())
		}
		records, err := v.records()
		if err != nil {
			return err
		}
		for status, n := range records {
			switch status {
			case "superseded", "failed":
			case "deployed":
				if n != 1 {
					return fmt.Errorf("%d revisions are deployed", n)
				}
			default:
				return fmt.Errorf("%d revisions are %s; log:\n%s", n, status, v.log())
			}
		}
		if records["deployed"] == 0 {
			return errors.New("no revision is deployed")
		}
		return nil
	})
}

// awaitNothing waits until nothing of the release is left.
func (v *victim) awaitNothing() {
	v.t.Helper()
	testenv.Await(v.t, awaitLimit, "nothing is left of the release", func() error {
		live, err := v.held()
		if err != nil || len(live) > 0 {
			return fmt.Errorf("objects %v: %w; log:\n%s", live, err, v.log())
		}
		records, err := v.records()
		if err != nil || len(records) > 0 {
			return fmt.Errorf("records %v: %w", records, err)
		}
		if _, err := v.kube.CoreV1().ServiceAccounts(v.namespace).Get(v.t.Context(), "web", metav1.GetOptions{}); err == nil {
			return errors.New("the account is still there")
		}
		return nil
	})
}
