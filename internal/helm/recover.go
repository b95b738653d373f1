package helm

import (
	"fmt"
	"strings"

	"go.uber.org/zap"

	"helm.sh/helm/v3/pkg/release"
)

// recover marks the newest revision failed where an operation died before it could say how it ended: Helm refuses to touch a release that is pending. Nothing is
// uninstalled; the upgrade that follows makes the objects right.
func (op *operation) recover(history []*release.Release, n note) error {
	if !n.decision.recover || len(history) == 0 {
		return nil
	}
	last := history[len(history)-1]
	if seen := n.observed.last().version; last.Version != seen {
		return fmt.Errorf("another Helm client made revision %d while revision %d was about to be taken up", last.Version, seen)
	}
	was := last.Info.Status
	if !(revision{status: was}).interrupted() {
		return nil // it ended after all, between look and act
	}
	last.SetStatus(release.StatusFailed, fmt.Sprintf("interrupted while %s", was))
	if err := op.cfg.Releases.Update(last); err != nil {
		return fmt.Errorf("mark the interrupted revision %d failed: %w", last.Version, err)
	}
	op.log.Warn("an operation was interrupted, taking it up again", zap.Int("revision", last.Version), zap.String("status", string(was)))
	return nil
}

// rememberTried tells the client what failed revisions have sent since the last good one.
func (op *operation) rememberTried(history []*release.Release) error {
	for _, r := range history {
		if r.Info.Status != release.StatusFailed {
			op.kube.tried = nil
			continue
		}
		if r.Namespace != op.place.namespace {
			continue // of an installation elsewhere that never came to be
		}
		sent, err := op.kube.Build(strings.NewReader(r.Manifest), false)
		if err != nil {
			return fmt.Errorf("read the manifest of failed revision %d: %w", r.Version, err)
		}
		op.kube.tried = append(op.kube.tried, sent)
	}
	return nil
}
