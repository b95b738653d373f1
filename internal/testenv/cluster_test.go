package testenv_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestClusterRunsWorkloads(t *testing.T) {
	c := testenv.Cluster(t)
	ns := c.Namespace(t)
	cfg := rest.CopyConfig(c.Config)
	cfg.UserAgent = "testenv-" + ns
	client := kubernetes.NewForConfigOrDie(cfg)
	labels := map[string]string{"app": "web"}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.org/web:1"}}},
			},
		},
	}
	if _, err := client.AppsV1().Deployments(ns).Create(t.Context(), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, 30*time.Second, "deployment available", func() error {
		d, err := client.AppsV1().Deployments(ns).Get(t.Context(), "web", metav1.GetOptions{})
		if err == nil && d.Status.AvailableReplicas != 1 {
			err = fmt.Errorf("%d available", d.Status.AvailableReplicas)
		}
		return err
	})
	testenv.Await(t, 5*time.Second, "exactly one write in the audit log", func() error {
		writes := 0
		for _, r := range c.Requests(t, cfg.UserAgent) {
			if r.Write() {
				writes++
			}
		}
		if writes != 1 {
			return errors.New("writes seen: " + fmt.Sprint(writes))
		}
		return nil
	})
}
