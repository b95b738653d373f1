package helm

import (
	"slices"

	"go.uber.org/zap"

	"helm.sh/helm/v3/pkg/release"
)

// trim removes the oldest records beyond what is to be kept; 0 keeps all. The SDK would do so before an operation, whatever the records say: with that of a failed revision the
// knowledge would go of what it had created. Here the record goes after its objects, and the newest good one never. What cannot be done now is done after the next operation.
func (op *operation) trim(keep int) {
	if keep <= 0 || op.secrets.count() <= keep || op.ctx.Err() != nil {
		return
	}
	history, err := op.history()
	if err != nil {
		return // bring said so, or it is not readable for the moment
	}
	for _, r := range surplus(history, keep) {
		others := slices.DeleteFunc(slices.Clone(history), func(o *release.Release) bool { return o == r })
		changes, err := op.removeLeftovers([]*release.Release{r}, others, release.StatusFailed)
		if err == nil {
			_, err = op.cfg.Releases.Delete(r.Name, r.Version)
		}
		if err != nil {
			op.log.Warn("an old revision's record is kept for now", zap.Int("revision", r.Version), zap.Error(err))
			return
		}
		history = others
		if len(changes) > 0 {
			op.log.Info("removed what a failed revision had left", zap.Int("revision", r.Version), zap.Int("objects", len(changes)))
		}
	}
}

// surplus are the oldest revisions beyond those to keep, oldest first. Neither the newest good revision nor the newest of all is among them.
func surplus(history []*release.Release, keep int) []*release.Release {
	good := -1
	for i, r := range history {
		switch {
		case r.Info.Status == release.StatusDeployed:
			good = i
		case r.Info.Status == release.StatusSuperseded && (good < 0 || history[good].Info.Status != release.StatusDeployed):
			good = i
		}
	}
	var out []*release.Release
	for i, r := range history[:max(0, len(history)-1)] {
		if len(history)-len(out) <= keep {
			break
		}
		if i != good {
			out = append(out, r)
		}
	}
	return out
}
