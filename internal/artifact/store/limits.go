package store

import "fmt"

// Limits bound what one artifact may cost, and all together. A zero field is its default.
type Limits struct {
	// Compressed is the size of the layer as it is pulled, in bytes.
	Compressed int64
	// Unpacked is the sum of the sizes of all files, in bytes.
	Unpacked int64
	// Files is how many files, folders and links there may be.
	Files int
	// Depth is how many elements a path may have.
	Depth int
	// Cache is what all artifacts together may take on disk, in bytes: what is needed stays, what is not stays as long as there is room.
	Cache int64
}

// Defaults: a hundred times what manifests and charts need, and still no danger to a small machine.
const (
	defaultCompressed = 64 << 20
	defaultUnpacked   = 256 << 20
	defaultFiles      = 20_000
	defaultDepth      = 32
	defaultCache      = 1 << 30
)

func (l Limits) withDefaults() Limits {
	if l.Compressed <= 0 {
		l.Compressed = defaultCompressed
	}
	if l.Unpacked <= 0 {
		l.Unpacked = defaultUnpacked
	}
	if l.Files <= 0 {
		l.Files = defaultFiles
	}
	if l.Depth <= 0 {
		l.Depth = defaultDepth
	}
	if l.Cache <= 0 {
		l.Cache = defaultCache
	}
	return l
}

// LimitError says which limit an artifact is over.
type LimitError struct {
	What string
	Max  int64
	Unit string
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the artifact is over a limit: %s may be at most %d %s", e.What, e.Max, e.Unit)
}
