package inputs

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"os"
	"time"
)

// lookEvery is how often a file is looked at. A look costs a system call and finds every way in which a file can be replaced, those of mounted volumes and network file
// systems included.
const lookEvery = 5 * time.Second

// coarse is the longest step in which file systems keep the time of a change (FAT's): of a file that is younger the time does not tell whether it was changed again.
const coarse = 2 * time.Second

// imprint is what tells one state of a file from another without reading it.
type imprint struct {
	info    fs.FileInfo // nil: not there
	sure    bool        // a later change would show in info
	content [sha256.Size]byte
}

// followFile looks at a file until ctx ends.
func (w *Watcher) followFile(ctx context.Context, r ref) {
	before := imprintOf(r.file, imprint{})
	tick := time.NewTicker(w.look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := imprintOf(r.file, before)
		if now.content != before.content {
			w.note(r)
		}
		before = now
	}
}

// imprintOf reads the file only where it may have changed since. One that cannot be read is as good as one that is not there: the target's attempt says why.
func imprintOf(path string, before imprint) imprint {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() { // reading a pipe may never end
		return imprint{}
	}
	if before.info != nil && os.SameFile(info, before.info) && info.ModTime().Equal(before.info.ModTime()) && info.Size() == before.info.Size() && before.sure {
		return before
	}
	sure := time.Since(info.ModTime()) > coarse
	content, err := os.ReadFile(path)
	if err != nil {
		return imprint{}
	}
	return imprint{info: info, sure: sure, content: sha256.Sum256(content)}
}
