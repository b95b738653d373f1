package kube

import (
	"sync"

	"go.uber.org/zap"
)

// maxWarnings bounds the memory of warnings already said, in messages. A server has a few dozen (deprecated versions, unknown fields).
const maxWarnings = 512

// warnings logs each warning of the API server once: a target of a thousand objects in a deprecated version would say the same a thousand times.
type warnings struct {
	// mu guards said.
	mu   sync.Mutex
	said map[string]struct{}
}

// HandleWarningHeader implements rest.WarningHandler. Only code 299 is one that the server means for people (RFC 7234 §5.5.7).
func (w *warnings) HandleWarningHeader(code int, _ string, text string) {
	if code == 299 && text != "" && w.first(text) {
		zap.L().Named("kube").Warn("api server warning", zap.String("warning", text))
	}
}

func (w *warnings) first(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.said[text]; ok {
		return false
	}
	if w.said == nil || len(w.said) >= maxWarnings {
		w.said = map[string]struct{}{}
	}
	w.said[text] = struct{}{}
	return true
}
