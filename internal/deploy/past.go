package deploy

import "time"

// ReleaseRevision is one revision of a Helm release, as its record says.
type ReleaseRevision struct {
	Revision int    `json:"revision"`
	Status   string `json:"status"` // Helm's word: deployed, superseded, failed, pending-upgrade, uninstalled, ...
	// Chart is the chart's name, Version its version, with the beginning of the artifact's digest behind a + where the agent installed it, and AppVersion what is in it.
	Chart      string    `json:"chart,omitempty"`
	Version    string    `json:"version,omitempty"`
	AppVersion string    `json:"appVersion,omitempty"`
	Updated    time.Time `json:"updated,omitzero"`
	// Description is Helm's sentence about what made the revision.
	Description string `json:"description,omitempty"`
	// Foreign: the revision was made by somebody else than the agent for this target.
	Foreign bool `json:"foreign,omitempty"`
	// Held: somebody rolled back to here by hand, and the release stays here until there is news.
	Held bool `json:"held,omitempty"`
	// Rejected: the revision undoes one that failed.
	Rejected bool `json:"rejected,omitempty"`
	// Attempts that failed with what the revision was made of, or with what it undoes.
	Attempts int `json:"attempts,omitempty"`
	// Tested is how the chart's tests went with it: passed, failed or ignored. Empty: they did not run.
	Tested string `json:"tested,omitempty"`
	// Problem says why the record could not be read; then most of the rest is empty.
	Problem string `json:"problem,omitempty"`
}
