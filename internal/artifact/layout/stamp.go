package layout

import (
	"io/fs"
	"syscall"
	"time"
)

// coarsest is how far apart two changes of a file must be to have different times on every file system: FAT, which sticks have, counts in 2 seconds.
const coarsest = 3 * time.Second

// stamp tells that a file changed without reading it. Two contents of one file have equal stamps only if both were written within coarsest.
type stamp struct {
	mode              fs.FileMode
	size              int64
	modified, changed int64 // Unix nanoseconds
	device, inode     uint64
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{mode: info.Mode(), size: info.Size(), modified: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.changed = time.Unix(sys.Ctim.Unix()).UnixNano()
		s.device, s.inode = sys.Dev, sys.Ino
	}
	return s
}

// settled reports whether a later change would show: not while the last one, by the clock at hand, was just now or is still to come.
func (s stamp) settled(now time.Time) bool {
	return max(s.modified, s.changed) < now.Add(-coarsest).UnixNano()
}
