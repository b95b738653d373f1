package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/testenv"
)

// as is a client of the cluster that speaks for a user, who may do nothing at first.
func as(t *testing.T, cluster *testenv.ControlPlane, user string) kubernetes.Interface {
	t.Helper()
	c := rest.CopyConfig(cluster.Config)
	c.Impersonate, c.UserAgent = rest.ImpersonationConfig{UserName: user}, user
	return kubernetes.NewForConfigOrDie(c)
}

// allow lets a user write Events in a namespace.
func allow(t *testing.T, cluster *testenv.ControlPlane, user, namespace string) {
	t.Helper()
	admin := kubernetes.NewForConfigOrDie(cluster.Config).RbacV1()
	meta := metav1.ObjectMeta{Name: user}
	_, err := admin.Roles(namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = admin.RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// events are the messages of the Events in a namespace that are ours.
func events(t *testing.T, cluster *testenv.ControlPlane, namespace string) []corev1.Event {
	t.Helper()
	list, err := kubernetes.NewForConfigOrDie(cluster.Config).CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "source=towline"})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func about(namespace, words string) deploy.Event {
	return deploy.Event{
		Object:   deploy.Name{Kind: deploy.KindSource, Namespace: namespace, Name: "app"},
		Severity: deploy.SeverityInfo, Reason: reasonNewRevision, Message: words,
	}
}

func TestEventsThatWeMayNotWrite(t *testing.T) {
	cluster := testenv.Cluster(t)
	own, other := cluster.Namespace(t), cluster.Namespace(t)
	t.Run("go to the agent's namespace, and the other one is left in peace for a while", func(t *testing.T) {
		const user = "towline-here-only"
		// A new role is in force a moment later.
		allow(t, cluster, user, own)
		client := as(t, cluster, user)
		testenv.Await(t, 20*time.Second, "the role", func() error {
			_, err := client.CoreV1().Events(own).Create(t.Context(), newRecorder(Options{}).event(about(own, "probe"), time.Now(), own),
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		})
		r := newRecorder(Options{Kubernetes: client, Namespace: own})
		for _, words := range []string{"one", "two"} {
			if err := r.send(t.Context(), about(other, words)); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, e := range events(t, cluster, own) {
			got = append(got, e.Message)
		}
		if diff := cmp.Diff([]string{"source/" + other + "/app: one", "source/" + other + "/app: two"}, got); diff != "" {
			t.Error(diff)
		}
		testenv.Await(t, 20*time.Second, "the audit log", func() error {
			tried := 0
			for _, q := range cluster.Requests(t, user) {
				if strings.Contains(q.URI, "/"+other+"/") {
					tried++
				}
			}
			if tried != 1 {
				return fmt.Errorf("%d requests in the forbidden namespace", tried)
			}
			return nil
		})
	})
	t.Run("nowhere: that is said once, and nothing is asked for ten minutes", func(t *testing.T) {
		const user = "towline-nobody"
		r := newRecorder(Options{Kubernetes: as(t, cluster, user), Namespace: own})
		err := r.send(t.Context(), about(other, "one"))
		if !apierrors.IsForbidden(err) || !errors.As(err, new(permanent)) || !strings.Contains(err.Error(), "needs create and patch on events") {
			t.Errorf("the first: %v", err)
		}
		err = r.send(t.Context(), about(other, "two"))
		if !errors.As(err, new(permanent)) || !strings.Contains(err.Error(), "not allowed a while ago") {
			t.Errorf("the second: %v", err)
		}
		r.off[own], r.off[other] = time.Now(), time.Now() // the ten minutes are over
		if err = r.send(t.Context(), about(other, "three")); !apierrors.IsForbidden(err) {
			t.Errorf("the third: %v", err)
		}
	})
}

func TestEventsOfANotifier(t *testing.T) {
	cluster := testenv.Cluster(t)
	client := kubernetes.NewForConfigOrDie(cluster.Config)
	t.Run("are written, and counted up when they come again", func(t *testing.T) {
		namespace := cluster.Namespace(t)
		n := run(t, Options{Kubernetes: client})
		s := refused()
		s.Name.Namespace = namespace
		n.SourceState(s)
		fine := good("a")
		fine.Name = s.Name
		n.SourceState(fine)
		n.SourceState(s)
		testenv.Await(t, 20*time.Second, "the Events", func() error {
			got := map[string]string{}
			for _, e := range events(t, cluster, namespace) {
				got[e.Reason] = fmt.Sprintf("%s %d %s", e.Type, e.Count, e.Annotations["source.toolkit.fluxcd.io/digest"])
			}
			want := map[string]string{
				"NewRevision": "Normal 1 " + digest("a"), "VerificationFailed": "Warning 2 " + digest("a"), "Recovered": "Normal 1 " + digest("a"),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				return errors.New(diff)
			}
			return nil
		})
		if d := n.Dropped(); d[clusterName] != 0 {
			t.Errorf("dropped %v", d)
		}
	})
	t.Run("that nobody takes are tried for a while, hold up no sink and are counted", func(t *testing.T) {
		r := newReceiver(t)
		n := New(Options{
			Namespace: "default", Kubernetes: kubernetes.NewForConfigOrDie(&rest.Config{Host: "https://" + nobody(t)}), Log: zap.NewNop(),
		})
		n.Set([]deploy.Sink{sink(deploy.SinkGeneric, r.URL)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		n.ConfigFailed(errors.New("one"))
		r.await(t, 1)
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(drainTime + 5*time.Second):
			t.Fatal("the end does not come")
		}
		if diff := cmp.Diff(map[string]int{clusterName: 1, "default/generic": 0}, n.Dropped()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestEventName(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"is the object's in lower case": {"Web", "web"},
		"has room for the time":         {strings.Repeat("a", 300), strings.Repeat("a", maxEventName)},
		"does not end in a stop":        {strings.Repeat("a", maxEventName-1) + ".web", strings.Repeat("a", maxEventName-1)},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, eventName(c.in)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
