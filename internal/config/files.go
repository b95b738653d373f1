package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxFileBytes bounds one config file: a thousand targets need about half a MiB, a ConfigMap holds 1 MiB.
const maxFileBytes = 16 << 20

// listFiles is the file itself, or the config files of a folder in the order of their names. Names that begin with a dot are left out: editors'
// temporary files, and the ..data folders of a mounted ConfigMap, whose content is linked to under its proper name beside them.
func listFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	var files []string
	for _, e := range entries {
		if !isConfigName(e.Name()) {
			continue
		}
		file := filepath.Join(path, e.Name())
		// A link that leads nowhere stays in the list: reading it reports it.
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			continue
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil, newError([]Problem{{File: path, Message: "the folder has no *.yaml or *.yml file: an agent without entries is written as sources: []"}})
	}
	return files, nil
}

func isConfigName(name string) bool {
	ext := filepath.Ext(name)
	return !strings.HasPrefix(name, ".") && (ext == ".yaml" || ext == ".yml")
}

// readFile reads a regular file of at most maxFileBytes.
func readFile(path string) ([]byte, error) {
	// The stat comes first because opening a named pipe would wait for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, plainCause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, plainCause(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, plainCause(err)
	}
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("the file is larger than %d MiB", maxFileBytes>>20)
	}
	return b, nil
}

// plainCause drops the path from a file error: a Problem has it already.
func plainCause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
