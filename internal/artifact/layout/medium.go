package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// medium is where the files of an image layout are.
type medium interface {
	// open begins one call.
	open() (files, error)
}

// files are the files of a layout during one call.
type files interface {
	// file opens one by its path in the layout; whoever asks closes it. A file that is not there is an error that wraps fs.ErrNotExist.
	file(name string) (io.ReadCloser, error)
	Close() error
}

// folder is a layout as a folder.
type folder string

func (f folder) open() (files, error) {
	root, err := os.OpenRoot(string(f))
	if err != nil {
		return nil, err
	}
	return folderFiles{root}, nil
}

type folderFiles struct{ *os.Root }

// file opens regular files only: a pipe would never end. os.Root keeps links inside the folder.
func (f folderFiles) file(name string) (io.ReadCloser, error) {
	info, err := f.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return f.Open(name)
}

// read reads a small file of a layout. Where it is not there, present says so and there is no error.
func read(from files, name string, max int64) (content []byte, present bool, err error) {
	r, err := from.file(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	content, err = readAll(r, name, max)
	return content, true, errors.Join(err, r.Close())
}
