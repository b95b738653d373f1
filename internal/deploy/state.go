package deploy

import (
	"fmt"
	"time"
)

// Pin is what a reference resolved to: the digest, and the tag that led there (empty for a reference that names the digest itself).
type Pin struct {
	Ref    string
	Digest string // algorithm:hex
	// Policy is a hash of what the source's signatures are checked with: keys, identities, roots. Empty where nothing is demanded. A pin with another policy has to be
	// fetched again, although nothing may have to be pulled for it.
	Policy string
}

// Work is what one attempt is for.
type Work struct {
	Target   Target
	Revision Revision
	// Full compares with the cluster instead of with what is remembered: drift that nobody reported is found. It costs reads, never needless writes.
	Full bool
	// Drifted names the objects that somebody changed, in a Full attempt that is for them alone: all others are known to be as wanted. Empty: every object is looked at.
	Drifted []ObjectID
	// Asked: somebody wants what is held back until there is news (a release whose retries are used up, or that was rolled back by hand) to be tried again.
	Asked bool
}

// Record is what is remembered of a target across restarts.
type Record struct {
	// Target as it was last run, without Helm values (they may be secret): enough to delete it when its config is gone.
	Target Target `json:"target"`
	// Intent is the digest that attempts set out to apply and that none of them has reached yet; empty after one that ended Ready.
	Intent string `json:"intent,omitempty"`
	// LastGood is the last attempt that ended Ready.
	LastGood *Good `json:"lastGood,omitempty"`
	// Earlier are the revisions that were good before, each once, newest first.
	Earlier []Good `json:"earlier,omitempty"`
	// Together is what the target was at when all targets of its rollback group were Ready the last time.
	Together *Good `json:"together,omitempty"`
	// Held says that it is kept at an earlier revision than its source says.
	Held *Held `json:"held,omitempty"`
	// History holds the last outcomes that differed from the one before, newest first.
	History []Past `json:"history,omitempty"`
}

// Good names a state that was reached.
type Good struct {
	Digest   string `json:"digest"`
	Revision string `json:"revision"`
	// Hash of the target's spec.
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
}

// Why a target is held.
const (
	HeldByFailure = "failure" // a newer revision did not become healthy
	HeldByGroup   = "group"   // one of another target of its group did not
	HeldByHand    = "hand"
)

// Held is a target that is kept at an earlier revision than its source says: until that says another one, the entry changes, or somebody asks for it. Immutable.
type Held struct {
	// Digest and Revision that it is kept at.
	Digest   string `json:"digest"`
	Revision string `json:"revision"`
	// Instead is the digest of what its source says, InsteadRevision the same with the tag, and Hash that of the entry.
	Instead         string `json:"instead"`
	InsteadRevision string `json:"insteadRevision"`
	Hash            string `json:"hash"`
	// Why is one of the HeldBy… words; Member the target of the group whose revision failed, Reason and Message how it did.
	Why     string    `json:"why"`
	Member  *Name     `json:"member,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	At      time.Time `json:"at"`
}

// String says it in a sentence.
func (h Held) String() string {
	until := "until its source means another artifact, its entry changes, or somebody says towline reconcile --force"
	switch h.Why {
	case HeldByFailure:
		return fmt.Sprintf("it is back at %s, the last good one, since %s failed (%s: %s), which is quarantined %s", h.Revision, h.InsteadRevision, h.Reason, h.Message, until)
	case HeldByGroup:
		return fmt.Sprintf("it went back to %s with %s of its group, and stays there in place of %s until that goes on, its own source means another artifact, its entry changes, or somebody says "+
			"towline reconcile --force", h.Revision, h.Member, h.InsteadRevision)
	}
	return fmt.Sprintf("it was rolled back by hand to %s, and stays there in place of %s %s", h.Revision, h.InsteadRevision, until)
}

// Past is an outcome as it is remembered.
type Past struct {
	Revision string    `json:"revision"`
	Phase    Phase     `json:"phase"`
	Reason   string    `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty"`
	Changes  int       `json:"changes"`
	At       time.Time `json:"at"`
	// Took is in seconds.
	Took float64 `json:"took"`
}

// SourceState is what the board shows of a source.
type SourceState struct {
	Name      Name   `json:"name"`
	URL       string `json:"url"`
	Revision  string `json:"revision,omitempty"`
	Digest    string `json:"digest,omitempty"`
	Suspended bool   `json:"suspended,omitempty"`
	Ready     bool   `json:"ready"`
	// VerifiedBy says what vouched for the revision.
	VerifiedBy string `json:"verifiedBy,omitempty"`
	// Cached says that the revision came from the disk, and that the source itself has not been reached since the start.
	Cached bool `json:"cached,omitempty"`
	// Failures in a row.
	Failures int `json:"failures,omitempty"`
	// Reason is one word for Message: one of the Source… reasons.
	Reason   string    `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty"`
	LastPoll time.Time `json:"lastPoll,omitzero"`
	NextPoll time.Time `json:"nextPoll,omitzero"`
	// Annotations of the artifact's manifest.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// TargetState is what the board shows of a target.
type TargetState struct {
	Name      Name   `json:"name"`
	Source    Name   `json:"source"`
	DependsOn []Name `json:"dependsOn,omitempty"`
	Phase     Phase  `json:"phase"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
	// WaitsFor says what the target waits for before it can start (a source, a dependency, a retry), in noun phrases that follow "waits for": nothing in them may
	// age, since they are read later than they are written.
	WaitsFor []string `json:"waitsFor,omitempty"`
	// Revision that the running attempt is made at, or the last one was; LastGood the last that ended Ready.
	Revision  string   `json:"revision,omitempty"`
	LastGood  *Good    `json:"lastGood,omitempty"`
	Changes   []Change `json:"changes,omitempty"`
	Failures  int      `json:"failures,omitempty"`
	Suspended bool     `json:"suspended,omitempty"`
	// Replacing: what an earlier entry made is deleted, in another cluster or a release of another name; the target itself stays.
	Replacing bool `json:"replacing,omitempty"`
	// Stage of a running attempt in words: "waiting for Deployment.apps/default/web: 1 of 2 replicas".
	Stage    string    `json:"stage,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Next     time.Time `json:"next,omitzero"`
	History  []Past    `json:"history,omitempty"`
	// Held says that it is kept at an earlier revision than its source says, and why.
	Held *Held `json:"held,omitempty"`
	// Contested are objects that others change again and again, sorted.
	Contested []Contest `json:"contested,omitempty"`
}

// Contest is an object that others change as often as it is put right, so that it is put right less often.
type Contest struct {
	Object ObjectID `json:"object"`
	// By names them, as far as the API server does.
	By string `json:"by"`
	// Pause between corrections, in seconds.
	Pause float64 `json:"pause"`
}

// String says it in a sentence.
func (c Contest) String() string {
	return fmt.Sprintf("%s change %s again and again: it is put right every %s at most; leave the field to them with ignore, or stop them",
		c.By, c.Object, time.Duration(c.Pause*float64(time.Second)).Round(time.Second))
}
