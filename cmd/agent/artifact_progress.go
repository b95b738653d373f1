package main

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	// barDelay is how long a transfer is silent: most are over by then.
	barDelay = time.Second
	// barPause is the least time between two drawings: a slow line over SSH must not carry more of them than of the work.
	barPause = 100 * time.Millisecond
	barWidth = 30 // characters
)

// transferBar shows how far a transfer is, where it takes long and a person is watching.
type transferBar struct {
	what    string
	w       io.Writer // nil: nobody is
	started time.Time

	// mu guards the rest: a request that failed may still be reading what it was to send.
	mu  sync.Mutex
	bar *progressbar.ProgressBar
	end bool
}

func newTransferBar(w io.Writer, what string) *transferBar {
	b := &transferBar{what: what, started: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.w = f
	}
	return b
}

// tell is a publish.Progress.
func (b *transferBar) tell(done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.w == nil || b.end {
		return
	}
	if b.bar == nil { // from the first byte on, for it says how fast they pass
		b.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(late{b.w, b.started.Add(barDelay)}), progressbar.OptionSetDescription(b.what),
			progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(barWidth), progressbar.OptionThrottle(barPause), progressbar.OptionClearOnFinish())
	}
	_ = b.bar.Set64(done) // a terminal that cannot be written to
}

// clear takes the bar away: what comes next is the result.
func (b *transferBar) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end = true
	if b.bar != nil {
		_ = b.bar.Clear() // as above
	}
}

// late throws away what is written before its time.
type late struct {
	w    io.Writer
	from time.Time
}

func (l late) Write(p []byte) (int, error) {
	if time.Now().Before(l.from) {
		return len(p), nil
	}
	return l.w.Write(p)
}
