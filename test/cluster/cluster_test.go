package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// patience bounds every wait: on a free machine none takes a tenth of it.
const patience = 90 * time.Second

// running is a cluster in a process of its own, started from this test binary.
type running struct {
	dir     string
	command *exec.Cmd
	stderr  *bytes.Buffer
	ended   chan error
}

// launch starts a cluster and waits until its kubeconfig is there.
func launch(t *testing.T, args ...string) *running {
	t.Helper()
	executable, err := os.Executable()
	must(t, err)
	r := &running{dir: filepath.Join(t.TempDir(), "cluster"), stderr: &bytes.Buffer{}, ended: make(chan error, 1)}
	r.command = exec.Command(executable, append([]string{"--dir", r.dir, "--die-with-parent"}, args...)...)
	r.command.Env = append(os.Environ(), asCluster+"=1")
	r.command.Stderr = r.stderr
	must(t, r.command.Start())
	go func() { r.ended <- r.command.Wait() }()
	t.Cleanup(func() {
		_ = r.command.Process.Kill()
		select {
		case <-r.ended:
		default:
		}
	})
	await(t, "the kubeconfig is written", func(context.Context) (bool, error) {
		select {
		case err := <-r.ended:
			t.Fatalf("the cluster ended: %v\n%s", err, r.stderr)
		default:
		}
		_, err := os.Stat(filepath.Join(r.dir, "kubeconfig"))
		return err == nil, nil
	})
	return r
}

// wait returns how the cluster ended.
func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		r.ended <- err
		return err
	case <-time.After(patience):
		t.Fatalf("the cluster still runs after %s", patience)
		return nil
	}
}

func (r *running) clients(t *testing.T) (kubernetes.Interface, dynamic.Interface) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(r.dir, "kubeconfig"))
	must(t, err)
	config.UserAgent = "towline-cluster-test"
	config.QPS = -1
	typed, err := kubernetes.NewForConfig(config)
	must(t, err)
	untyped, err := dynamic.NewForConfig(config)
	must(t, err)
	return typed, untyped
}

// await repeats the condition until it holds.
func await(t *testing.T, what string, condition wait.ConditionWithContextFunc) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(context.Background(), 20*time.Millisecond, patience, true, condition); err != nil {
		t.Fatalf("wait until %s: %v", what, err)
	}
}

// object reads a manifest as a typed object.
func object[T runtime.Object](t *testing.T, manifest string) T {
	t.Helper()
	decoded, _, err := serializer.NewCodecFactory(scheme.Scheme).UniversalDeserializer().Decode([]byte(manifest), nil, nil)
	must(t, err)
	typed, ok := decoded.(T)
	if !ok {
		t.Fatalf("manifest is a %T", decoded)
	}
	return typed
}

func TestCluster(t *testing.T) {
	cluster := launch(t, "--audit", "--nodes=2")
	client, untyped := cluster.clients(t)
	ctx := t.Context()
	namespace := func(t *testing.T) string {
		created, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
		must(t, err)
		return created.Name
	}

	// The subtests share the processor with the control plane anyway, so they wait at the same time.
	t.Run("with controllers", func(t *testing.T) {
		t.Run("makes a Deployment available and removes its Pods with it", func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			deployments := client.AppsV1().Deployments(ns)
			_, err := deployments.Create(ctx, object[*appsv1.Deployment](t, deploymentManifest), metav1.CreateOptions{})
			must(t, err)
			await(t, "the Deployment is available", func(ctx context.Context) (bool, error) {
				d, err := deployments.Get(ctx, "web", metav1.GetOptions{})
				return err == nil && d.Status.AvailableReplicas == 3, err
			})
			must(t, deployments.Delete(ctx, "web", metav1.DeleteOptions{}))
			await(t, "its Pods are gone", func(ctx context.Context) (bool, error) {
				pods, err := client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
				return err == nil && len(pods.Items) == 0, err
			})
		})
		t.Run("completes a Job, and fails one that is told to", func(t *testing.T) {
			t.Parallel()
			jobs := client.BatchV1().Jobs(namespace(t))
			for name, annotations := range map[string]map[string]string{
				"good": {annotationPrefix + "run-for": "100ms"},
				"bad":  {annotationPrefix + "fail": "true"},
			} {
				job := object[*batchv1.Job](t, jobManifest)
				job.Name = name
				job.Spec.Template.Annotations = annotations
				_, err := jobs.Create(ctx, job, metav1.CreateOptions{})
				must(t, err)
			}
			for name, kind := range map[string]batchv1.JobConditionType{"good": batchv1.JobComplete, "bad": batchv1.JobFailed} {
				await(t, name+" is "+string(kind), func(ctx context.Context) (bool, error) {
					job, err := jobs.Get(ctx, name, metav1.GetOptions{})
					if err != nil {
						return false, err
					}
					for _, c := range job.Status.Conditions {
						if c.Type == kind && c.Status == corev1.ConditionTrue {
							return true, nil
						}
					}
					return false, nil
				})
			}
		})
		t.Run("binds the claims of a StatefulSet and deletes its namespace with its Pods and volumes", func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			_, err := client.AppsV1().StatefulSets(ns).Create(ctx, object[*appsv1.StatefulSet](t, statefulSetManifest), metav1.CreateOptions{})
			must(t, err)
			await(t, "the StatefulSet is ready", func(ctx context.Context) (bool, error) {
				s, err := client.AppsV1().StatefulSets(ns).Get(ctx, "db", metav1.GetOptions{})
				return err == nil && s.Status.ReadyReplicas == 2, err
			})
			claim, err := client.CoreV1().PersistentVolumeClaims(ns).Get(ctx, "data-db-0", metav1.GetOptions{})
			must(t, err)
			if claim.Status.Phase != corev1.ClaimBound {
				t.Errorf("the claim is %s", claim.Status.Phase)
			}
			must(t, client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}))
			await(t, "the namespace is gone", func(ctx context.Context) (bool, error) {
				_, err := client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
				return apierrors.IsNotFound(err), nil
			})
			await(t, "the volume is gone", func(ctx context.Context) (bool, error) {
				_, err := client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
				return apierrors.IsNotFound(err), nil
			})
		})
		t.Run("runs a DaemonSet on every node and gives a load balancer an address", func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			_, err := client.AppsV1().DaemonSets(ns).Create(ctx, object[*appsv1.DaemonSet](t, daemonSetManifest), metav1.CreateOptions{})
			must(t, err)
			_, err = client.CoreV1().Services(ns).Create(ctx, object[*corev1.Service](t, loadBalancerManifest), metav1.CreateOptions{})
			must(t, err)
			await(t, "the DaemonSet is available on two nodes", func(ctx context.Context) (bool, error) {
				d, err := client.AppsV1().DaemonSets(ns).Get(ctx, "agent", metav1.GetOptions{})
				return err == nil && d.Status.NumberAvailable == 2, err
			})
			await(t, "the Service has an address", func(ctx context.Context) (bool, error) {
				s, err := client.CoreV1().Services(ns).Get(ctx, "lb", metav1.GetOptions{})
				return err == nil && len(s.Status.LoadBalancer.Ingress) == 1, err
			})
		})
		t.Run("follows an annotation that is taken away", func(t *testing.T) {
			t.Parallel()
			pods := client.CoreV1().Pods(namespace(t))
			await(t, "the Pod is admitted", func(ctx context.Context) (bool, error) { // its ServiceAccount takes a moment
				_, err := pods.Create(ctx, object[*corev1.Pod](t, neverReadyManifest), metav1.CreateOptions{})
				return err == nil, nil
			})
			readiness := func(want corev1.ConditionStatus) wait.ConditionWithContextFunc {
				return func(ctx context.Context) (bool, error) {
					pod, err := pods.Get(ctx, "shy", metav1.GetOptions{})
					if err != nil {
						return false, err
					}
					return pod.Status.Phase == corev1.PodRunning && summarize(t, pod.Status).Ready == want, nil
				}
			}
			await(t, "the Pod runs without being ready", readiness(corev1.ConditionFalse))
			_, err := pods.Patch(ctx, "shy", "application/merge-patch+json", []byte(`{"metadata":{"annotations":null}}`), metav1.PatchOptions{})
			must(t, err)
			await(t, "the Pod is ready", readiness(corev1.ConditionTrue))
		})
		t.Run("serves a custom resource as soon as its definition is established", func(t *testing.T) {
			t.Parallel()
			apply := func(resource schema.GroupVersionResource, namespace, manifest string) error {
				var u unstructured.Unstructured
				must(t, yaml.Unmarshal([]byte(manifest), &u.Object))
				_, err := untyped.Resource(resource).Namespace(namespace).Apply(ctx, u.GetName(), &u, metav1.ApplyOptions{FieldManager: "test"})
				return err
			}
			must(t, apply(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}, "", crdManifest))
			ns := namespace(t)
			await(t, "a Boat is accepted", func(context.Context) (bool, error) {
				return apply(schema.GroupVersionResource{Group: "towline.dev", Version: "v1", Resource: "boats"}, ns, boatManifest) == nil, nil
			})
		})
	})

	t.Run("audits a request before its answer ends", func(t *testing.T) {
		_, err := client.CoreV1().ConfigMaps("default").Get(ctx, "not-there", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		content, err := os.Open(filepath.Join(cluster.dir, "audit.log"))
		must(t, err)
		defer content.Close()
		found := 0
		lines := bufio.NewScanner(content)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var event struct{ Verb, UserAgent, RequestURI, Stage string }
			must(t, json.Unmarshal(lines.Bytes(), &event))
			if event.Stage != "ResponseComplete" {
				t.Fatalf("stage %s", event.Stage)
			}
			if event.Verb == "get" && event.UserAgent == "towline-cluster-test" && strings.HasSuffix(event.RequestURI, "/configmaps/not-there") {
				found++
			}
		}
		must(t, lines.Err())
		if found != 1 {
			t.Errorf("the request is in the log %d times", found)
		}
	})
	t.Run("refuses a second cluster in the same directory", func(t *testing.T) {
		executable, err := os.Executable()
		must(t, err)
		second := exec.Command(executable, "--dir", cluster.dir)
		second.Env = append(os.Environ(), asCluster+"=1")
		output, err := second.CombinedOutput()
		if err == nil || !strings.Contains(string(output), "another cluster runs") {
			t.Errorf("error %v, output %s", err, output)
		}
	})
	t.Run("ends with 0 when it is told to stop", func(t *testing.T) {
		must(t, cluster.command.Process.Signal(syscall.SIGTERM))
		if err := cluster.wait(t); err != nil {
			t.Errorf("%v\n%s", err, cluster.stderr)
		}
	})
}

func TestClusterWithoutControllers(t *testing.T) {
	cluster := launch(t, "--only-apiserver", "--quiet")
	client, _ := cluster.clients(t)
	t.Run("accepts Pods", func(t *testing.T) {
		_, err := client.CoreV1().Pods("default").Create(t.Context(), object[*corev1.Pod](t, neverReadyManifest), metav1.CreateOptions{})
		must(t, err)
	})
}
