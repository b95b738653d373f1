package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/record"
)

// memory is the records in a namespace that is made where it is missing: at the start, and again should somebody delete it. An attempt saves its intent before
// it writes anything else of its state, so nothing else has to care.
type memory struct {
	*record.Store
	client    kubernetes.Interface
	namespace string
	// reached is called when the API server has answered; late before that where it did not at first.
	reached, late func()
	// cache keeps what records name.
	cache *cacheKeeper
	log   *zap.Logger
	tried atomic.Bool
}

// Load reads the records. An error says that the cluster could not be reached; the scheduler tries again for as long as it takes, and shows it.
func (m *memory) Load(ctx context.Context) ([]deploy.Record, error) {
	if err := ensureNamespace(ctx, m.client, m.namespace); err != nil {
		m.tried.Store(true)
		return nil, suspicious(err)
	}
	records, err := m.Store.Load(ctx)
	if err != nil && !partial(err) {
		m.tried.Store(true)
		return nil, suspicious(err)
	}
	if m.tried.Load() {
		m.log.Info("cluster reached")
		m.late()
	}
	m.reached()
	m.cache.noteAll(records)
	return records, err
}

// suspicious says that the clock may be wrong where that is why the API server is not believed.
func suspicious(err error) error {
	if clock := deploy.SuspectClock(err, time.Now()); clock != nil {
		return clock
	}
	return err
}

// partial reports whether an error of Load came with the records that could be read.
func partial(err error) bool {
	var p interface{ Partial() bool }
	return errors.As(err, &p) && p.Partial()
}

// Forget removes a record.
func (m *memory) Forget(ctx context.Context, n deploy.Name) error {
	err := m.Store.Forget(ctx, n)
	if err == nil {
		m.cache.drop(n)
	}
	return err
}

// Save stores a record.
func (m *memory) Save(ctx context.Context, rec deploy.Record) error {
	m.cache.note(rec) // before it is stored: what it names must not go meanwhile
	err := m.Store.Save(ctx, rec)
	if !apierrors.IsNotFound(err) {
		return err
	}
	// A record that is not there is made: what is missing is the namespace.
	if err := ensureNamespace(ctx, m.client, m.namespace); err != nil {
		return err
	}
	m.log.Warn("the namespace of the agent's state was deleted, with the inventories in it; it is made anew", zap.String("namespace", m.namespace))
	return m.Store.Save(ctx, rec)
}

// ensureNamespace creates the namespace of the agent's state where it is missing. An account that may not look at namespaces is trusted to have it.
func ensureNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	namespaces := client.CoreV1().Namespaces()
	_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{FieldManager: deploy.FieldManager})
	}
	if apierrors.IsForbidden(err) || apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	return nil
}
