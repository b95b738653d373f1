package applier_test

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/deploy"
)

// library is a Builder with one artifact per folder.
type library struct {
	mu    sync.Mutex // guards texts
	texts []string
}

// add makes a folder of a text and returns its name.
func (l *library) add(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts = append(l.texts, text)
	return fmt.Sprint(len(l.texts) - 1)
}

func (l *library) Build(_ context.Context, _ deploy.Target, dir string) ([]*unstructured.Unstructured, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int
	if _, err := fmt.Sscan(dir, &n); err != nil || n >= len(l.texts) {
		return nil, fmt.Errorf("no folder %q", dir)
	}
	return parse(l.texts[n])
}
