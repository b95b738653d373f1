package build

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// artifactDir is where kustomize sees the artifact. Beside it, in a folder whose name an artifact cannot guess, stands the one generated kustomization file: it
// holds the spec's patches, which are not the artifact's to read.
const artifactDir = "/artifact"

// errReadOnly answers every wish of kustomize to write; a build has none.
var errReadOnly = errors.New("a build does not write")

// errFolder answers the wish to read a folder as a file: kustomize always tries that first.
var errFolder = errors.New("is a folder")

// view is the file system that kustomize is given: the artifact, read through an os.Root and thus without a way out of it, and the overlay.
type view struct {
	root *os.Root
	// real is the artifact's folder without links.
	real string
	// overlay is the content of the generated kustomization file, overlayFile in overlayDir.
	overlay                 []byte
	overlayDir, overlayFile string
	// decrypt opens files when they are read.
	decrypt *decrypter
}

var _ filesys.FileSystem = (*view)(nil)

func newView(root *os.Root, dir string) (*view, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		_ = root.Close() // nothing was written
		return nil, fmt.Errorf("open the unpacked artifact: %w", err)
	}
	top := "/overlay-" + rand.Text()
	return &view{root: root, real: real, overlayDir: top, overlayFile: path.Join(top, konfig.DefaultKustomizationFileName())}, nil
}

func (v *view) close() { _ = v.root.Close() } // nothing was written

// relative turns a path of kustomize into one below the artifact's root.
func relative(p string) (string, bool) {
	p = path.Clean("/" + filepath.ToSlash(p))
	if p == artifactDir {
		return ".", true
	}
	return strings.CutPrefix(p, artifactDir+"/")
}

// canonical resolves the links of a path below the root, so that a folder has one name however it is reached. A link that leads out is an error.
func (v *view) canonical(p string) (string, error) {
	full, err := filepath.EvalSymlinks(filepath.Join(v.real, p))
	if err != nil {
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err // without the place of the cache on this machine
		}
		return "", err
	}
	rel, err := filepath.Rel(v.real, full)
	if err != nil || !filepath.IsLocal(rel) {
		return "", errors.New("a link leads out of the artifact")
	}
	return filepath.ToSlash(rel), nil
}

// kustomizationFile is the name of a folder's kustomization file; empty where it has none. Two are an error, as for kustomize.
func (v *view) kustomizationFile(dir string) (string, error) {
	var here string
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		p := path.Join(dir, name)
		info, err := v.root.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", p, err)
		}
		if info.IsDir() {
			continue
		}
		if here != "" {
			return "", fmt.Errorf("%s and %s are both there: keep one of them", here, p)
		}
		here = p
	}
	return here, nil
}

// CleanedAbs splits a path into its folder, without links, and the file in it.
func (v *view) CleanedAbs(p string) (filesys.ConfirmedDir, string, error) {
	switch path.Clean("/" + p) {
	case v.overlayDir:
		return filesys.ConfirmedDir(v.overlayDir), "", nil
	case v.overlayFile:
		return filesys.ConfirmedDir(v.overlayDir), path.Base(v.overlayFile), nil
	}
	rel, ok := relative(p)
	if !ok {
		return "", "", fmt.Errorf("%s is outside of the artifact", p)
	}
	rel, err := v.canonical(rel)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", strings.TrimPrefix(p, artifactDir+"/"), err)
	}
	full := path.Join(artifactDir, rel)
	if v.IsDir(full) {
		return filesys.ConfirmedDir(full), "", nil
	}
	return filesys.ConfirmedDir(path.Dir(full)), path.Base(full), nil
}

// ReadFile reads a file of the artifact, or the overlay.
func (v *view) ReadFile(p string) ([]byte, error) {
	if path.Clean("/"+p) == v.overlayFile {
		return v.overlay, nil
	}
	rel, ok := relative(p)
	if !ok {
		return nil, fmt.Errorf("%s is outside of the artifact", p)
	}
	info, err := v.root.Stat(rel)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errFolder // the error of ReadFile would name the place of the cache on this machine
	}
	content, err := v.content(rel)
	if errors.Is(err, errAliases) || errors.Is(err, errCircle) {
		return nil, fmt.Errorf("%s: %w", rel, err)
	}
	return content, err
}

// content reads a file below the root and opens it if it is encrypted.
func (v *view) content(rel string) ([]byte, error) {
	content, err := v.plain(rel)
	if err != nil || v.decrypt == nil {
		return content, err
	}
	opened, err := v.decrypt.file(rel, content)
	if err != nil {
		return nil, err
	}
	return opened, aliases(opened, 0)
}

// plain reads a file below the root as it is.
func (v *view) plain(rel string) ([]byte, error) {
	content, err := v.root.ReadFile(rel)
	if err != nil {
		return nil, err
	}
	return content, aliases(content, 0)
}

// Open opens a file of the artifact for reading.
func (v *view) Open(p string) (filesys.File, error) {
	rel, ok := relative(p)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return v.root.Open(rel)
}

// Exists reports whether there is something at a path.
func (v *view) Exists(p string) bool {
	switch path.Clean("/" + p) {
	case v.overlayDir, v.overlayFile:
		return true
	}
	_, err := v.stat(p)
	return err == nil
}

// IsDir reports whether there is a folder at a path.
func (v *view) IsDir(p string) bool {
	if path.Clean("/"+p) == v.overlayDir {
		return true
	}
	info, err := v.stat(p)
	return err == nil && info.IsDir()
}

func (v *view) stat(p string) (fs.FileInfo, error) {
	rel, ok := relative(p)
	if !ok {
		return nil, &fs.PathError{Op: "stat", Path: p, Err: fs.ErrNotExist}
	}
	return v.root.Stat(rel)
}

// ReadDir lists the names in a folder of the artifact.
func (v *view) ReadDir(p string) ([]string, error) {
	rel, ok := relative(p)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	entries, err := fs.ReadDir(v.root.FS(), rel)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Glob lists the paths of the artifact that match a pattern.
func (v *view) Glob(pattern string) ([]string, error) {
	rel, ok := relative(pattern)
	if !ok {
		return nil, nil
	}
	matches, err := fs.Glob(v.root.FS(), rel)
	for i, m := range matches {
		matches[i] = path.Join(artifactDir, m)
	}
	return matches, err
}

// Walk visits a folder of the artifact and all below it.
func (v *view) Walk(p string, visit filepath.WalkFunc) error {
	rel, ok := relative(p)
	if !ok {
		return &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return fs.WalkDir(v.root.FS(), rel, func(at string, e fs.DirEntry, err error) error {
		at = path.Join(artifactDir, at)
		if err != nil {
			return visit(at, nil, err)
		}
		info, err := e.Info()
		return visit(at, info, err)
	})
}

// Create refuses.
func (v *view) Create(string) (filesys.File, error) { return nil, errReadOnly }

// Mkdir refuses.
func (v *view) Mkdir(string) error { return errReadOnly }

// MkdirAll refuses.
func (v *view) MkdirAll(string) error { return errReadOnly }

// RemoveAll refuses.
func (v *view) RemoveAll(string) error { return errReadOnly }

// WriteFile refuses.
func (v *view) WriteFile(string, []byte) error { return errReadOnly }
