package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long the files must have been left alone before they count as changed: an editor, a copy and a ConfigMap swap each make
// several events within a few milliseconds.
const settle = 100 * time.Millisecond

// maxSettle is when a change is looked at although events keep coming: others may be busy in the same folder.
const maxSettle = time.Second

// maxLinks bounds the symlinks that are followed, as Linux does (40, path_resolution(7)).
const maxLinks = 40

// Watch calls changed each time that the content of the config at path has changed, until the context ends; then it returns nil. What counts is
// content: touching a file, or replacing it by an equal one, is no change, and a config that disappears is one. The path may be a file or a folder and
// need not exist yet. changed is called from one goroutine at a time, and once at the beginning, as soon as nothing can be missed any more: what changed
// between the caller's first Load and then is noticed too. Watch blocks and leaves no goroutine behind.
func Watch(ctx context.Context, path string, changed func()) error {
	begun := false
	return watchLooks(ctx, path, changed, func() {
		if !begun {
			begun = true
			changed()
		}
	})
}

// watchLooks is Watch; it calls looked after each look at the content, the first of which is the one that later ones are compared with.
func watchLooks(ctx context.Context, path string, changed, looked func()) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("watch config: %w", err)
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch config: %w", err)
	}
	defer notify.Close()
	w := &watcher{path: path, notify: notify, folders: map[string]fs.FileInfo{}}
	if err := w.follow(); err != nil {
		return err
	}
	seen := fingerprint(path)
	looked()

	timer := time.NewTimer(settle)
	timer.Stop()
	defer timer.Stop()
	var first time.Time // of the events that the timer waits out; zero while it does not run
	wait := func() {
		if first.IsZero() {
			first = time.Now()
		}
		if time.Since(first) < maxSettle {
			timer.Reset(settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-notify.Events:
			if !open {
				return errors.New("watch config: the watcher was closed")
			}
			wait()
		case err, open := <-notify.Errors:
			if !open {
				return errors.New("watch config: the watcher was closed")
			}
			if !errors.Is(err, fsnotify.ErrEventOverflow) { // lost events are events
				return fmt.Errorf("watch config: %w", err)
			}
			wait()
		case <-timer.C:
			first = time.Time{}
			// Follow first: what changes after the look at the content then makes an event.
			if err := w.follow(); err != nil {
				return err
			}
			if now := fingerprint(path); now != seen {
				seen = now
				changed()
			}
			looked()
		}
	}
}

// watcher keeps an eye on every folder in which a change could make the path mean something else.
type watcher struct {
	path    string
	notify  *fsnotify.Watcher
	folders map[string]fs.FileInfo // what is watched, and which inode it was
}

// follow watches the folders that matter now and drops the others. A folder that was replaced by another of the same name is watched anew. It looks
// again until nothing is new, because what appears just before a folder is watched makes no event.
func (w *watcher) follow() error {
	for range maxLinks {
		if added, err := w.look(); err != nil || added == 0 {
			return err
		}
	}
	return nil
}

// look is one round of follow. It returns how many folders were added.
func (w *watcher) look() (added int, _ error) {
	want := map[string]bool{}
	addFolders(want, w.path)
	if files, err := listFiles(w.path); err == nil {
		for _, f := range files {
			addFolders(want, f)
		}
	}
	for folder, before := range w.folders {
		now, err := os.Stat(folder)
		if err != nil || !want[folder] || !os.SameFile(before, now) {
			_ = w.notify.Remove(folder) // it may be gone already
			delete(w.folders, folder)
		}
	}
	for folder := range want {
		if _, watched := w.folders[folder]; watched {
			continue
		}
		info, err := os.Stat(folder)
		if err != nil {
			continue // its parent is watched
		}
		if err := w.notify.Add(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return added, fmt.Errorf("watch config: watch the folder %s: %w (see fs.inotify.max_user_watches and max_user_instances)", folder, err)
		} else if err == nil {
			w.folders[folder] = info
			added++
		}
	}
	return added, nil
}

// addFolders adds the folder that holds each link on the way from path to what it means, the nearest existing folder above what is missing, and path
// itself where it is a folder.
func addFolders(folders map[string]bool, path string) {
	for range maxLinks {
		// Find the first element of the path that is a link or missing.
		dir, rest := string(filepath.Separator), path[1:]
		next := ""
		for rest != "" {
			head, tail, _ := strings.Cut(rest, string(filepath.Separator))
			element := filepath.Join(dir, head)
			info, err := os.Lstat(element)
			if err != nil {
				folders[dir] = true
				return
			}
			if info.Mode()&fs.ModeSymlink != 0 {
				folders[dir] = true
				target, err := os.Readlink(element)
				if err != nil {
					return
				}
				if !filepath.IsAbs(target) {
					target = filepath.Join(dir, target)
				}
				next = filepath.Join(target, tail)
				break
			}
			if tail == "" {
				folders[dir] = true
				if info.IsDir() {
					folders[element] = true
				}
				return
			}
			dir, rest = element, tail
		}
		if next == "" {
			return
		}
		path = next
	}
}

// fingerprint is a digest of what Load would read, or of why it could not.
func fingerprint(path string) [sha256.Size]byte {
	h := sha256.New()
	files, err := listFiles(path)
	if err != nil {
		fmt.Fprintf(h, "error %q\n", err)
	}
	for _, f := range files {
		content, err := readFile(f)
		fmt.Fprintf(h, "%q %d %v\n", f, len(content), err)
		h.Write(content)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
