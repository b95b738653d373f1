package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// factsDir holds the small facts; factEnding ends their names.
const (
	factsDir   = "pins"
	factEnding = ".json"
)

// factKey is what a fact may be called: hex digits, so that it is never a path.
var factKey = regexp.MustCompile(`^[0-9a-f]{1,128}$`)

// Remember keeps a small fact, at most 1 MiB, through restarts and power cuts: what Recall finds is the old value or the new one. A value that is there already is not
// written again. The key is hex digits.
func (c *Cache) Remember(key string, value []byte) error {
	path, err := c.fact(key)
	if err != nil {
		return err
	}
	defer c.lock(factsDir)()
	if err := c.makeDir(filepath.Dir(path)); err != nil {
		return c.explain(fmt.Errorf("write the artifact cache: %w", err))
	}
	return c.replaceSealed(path, value, maxFact)
}

// Recall is what was remembered by a key; nil where there is nothing or it is damaged.
func (c *Cache) Recall(key string) ([]byte, error) {
	path, err := c.fact(key)
	if err != nil {
		return nil, err
	}
	value, err := readSealed(path, maxFact)
	if errors.Is(err, errDamaged) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the artifact cache: %w", err)
	}
	return value, nil
}

// Forget removes all facts but those with the keys to keep. It claims the folder.
func (c *Cache) Forget(keep []string) error {
	if err := c.Claim(); err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, key := range keep {
		kept[key] = true
	}
	defer c.lock(factsDir)()
	dir := filepath.Join(c.dir, factsDir)
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the artifact cache: %w", err)
	}
	var errs []error
	removed := false
	for _, d := range all {
		key, ours := strings.CutSuffix(d.Name(), factEnding)
		if !ours || !factKey.MatchString(key) || kept[key] {
			continue
		}
		errs = append(errs, removeFile(filepath.Join(dir, d.Name())))
		removed = true
	}
	if removed {
		errs = append(errs, syncPath(dir))
	}
	return errors.Join(errs...)
}

func (c *Cache) fact(key string) (path string, err error) {
	if !factKey.MatchString(key) {
		return "", fmt.Errorf("%.80q is not a key in the artifact cache: it must be hex digits", key)
	}
	return filepath.Join(c.dir, factsDir, key+factEnding), nil
}
