package publish

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.yaml.in/yaml/v3"

	"github.com/towline/towline/internal/artifact/ignore"
	"github.com/towline/towline/internal/artifact/layout"
	"github.com/towline/towline/internal/artifact/pack"
	"github.com/towline/towline/internal/artifact/store"
)

const (
	// Stdin is the path that means Input.Stdin.
	Stdin = "-"
	// stdinFile is the name of what came from there: what is not named .yaml or .yml is not applied.
	stdinFile = "manifests.yaml"
	// maxStdin is how much is taken from standard input, in bytes: it is held in memory.
	maxStdin = 32 << 20
)

// Input is what to make an artifact of.
type Input struct {
	// Path of a folder, of a single file, of a .tar, .tar.gz or .tgz archive, or Stdin.
	Path  string
	Stdin io.Reader
	// Ignore holds patterns of .gitignore, behind those of the .sourceignore files. Nil: those of Flux.
	Ignore *string
	// Source, Revision and Annotations describe it; Annotations win.
	Source, Revision string
	Annotations      map[string]string
	// Created is noted as the time of creation; the zero time is 1970, so that equal content has equal digests.
	Created time.Time
}

// Artifact is packed and waits on disk for Push. Close throws it away.
type Artifact struct {
	Digest string
	// Layer is the tar+gzip.
	Layer    v1.Descriptor
	manifest []byte
	config   []byte
	file     string
}

// Pack makes an artifact. Nothing of the content is held in memory, but for what comes from standard input.
func Pack(ctx context.Context, in Input) (*Artifact, error) {
	f, err := os.CreateTemp("", "towline-layer-*")
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	a := &Artifact{file: f.Name()}
	sum := &tally{ctx: ctx, w: f, hash: sha256.New()}
	err = errors.Join(in.pack(sum), f.Close())
	if err == nil {
		a.describe(in, sum)
		return a, nil
	}
	_ = a.Close()
	return nil, err
}

// Close throws the packed layer away.
func (a *Artifact) Close() error { return os.Remove(a.file) }

func (a *Artifact) describe(in Input, sum *tally) {
	annotations := map[string]string{AnnotationCreated: in.created()}
	if in.Source != "" {
		annotations[AnnotationSource] = in.Source
	}
	if in.Revision != "" {
		annotations[AnnotationRevision] = in.Revision
	}
	maps.Copy(annotations, in.Annotations)
	a.Layer = v1.Descriptor{MediaType: layout.LayerMediaType, Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sum.hash.Sum(nil))}, Size: sum.n}
	a.manifest, a.config = layout.ManifestOf(a.Layer, annotations)
	a.Digest = fmt.Sprintf("sha256:%x", sha256.Sum256(a.manifest))
}

func (in Input) created() string {
	if in.Created.IsZero() {
		return layout.NoTime
	}
	return in.Created.UTC().Format(time.RFC3339)
}

// pack writes the layer.
func (in Input) pack(w io.Writer) error {
	if in.Path == Stdin {
		content, err := manifests(in.Stdin)
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		return pack.File(w, stdinFile, bytes.NewReader(content))
	}
	info, err := os.Stat(in.Path)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	if info.IsDir() {
		return in.folder(w)
	}
	f, err := os.Open(in.Path)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	switch name := strings.ToLower(in.Path); {
	case !info.Mode().IsRegular():
		return fmt.Errorf("pack %s: it is neither a folder nor a file (-f - reads standard input)", in.Path)
	case info.Size() == 0:
		return fmt.Errorf("pack %s: it is empty", in.Path)
	case hasSuffix(name, ".tar", ".tar.gz", ".tgz"):
		return archive(w, f)
	case hasSuffix(name, ".yaml", ".yml", ".json"):
		return pack.File(w, filepath.Base(in.Path), f)
	}
	return fmt.Errorf("pack %s: it is neither a folder nor a .yaml, .yml, .json, .tar, .tgz or .tar.gz file", in.Path)
}

func hasSuffix(s string, suffixes ...string) bool {
	return slices.ContainsFunc(suffixes, func(x string) bool { return strings.HasSuffix(s, x) })
}

func (in Input) folder(w io.Writer) error {
	root, err := os.OpenRoot(in.Path)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	defer func() { _ = root.Close() }() // only read
	m, err := ignore.Read(root.FS(), in.Ignore)
	if err != nil {
		return fmt.Errorf("pack %s: %w", in.Path, err)
	}
	if err := notEmpty(root.FS(), m); err != nil {
		return fmt.Errorf("pack %s: %w", in.Path, err)
	}
	return pack.Write(w, root.FS(), m)
}

// notEmpty wants one file that is not ignored.
func notEmpty(fsys fs.FS, m *ignore.Matcher) error {
	there, ignored := false, 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case m.Match(name, d.IsDir()):
			ignored++
			if d.IsDir() {
				return fs.SkipDir
			}
		case !d.IsDir():
			there = true
			return fs.SkipAll
		}
		return nil
	})
	switch {
	case err != nil || there:
		return err
	case ignored > 0:
		return errors.New("nothing is left to pack: the ignore rules (.sourceignore, --ignore-paths) take everything away")
	}
	return errors.New("the folder is empty: there is nothing to pack")
}

// archive writes an archive as the layer, as it is but for compression; it is read to its end first, so that no bad one is published.
func archive(w io.Writer, f *os.File) error {
	dir, err := os.MkdirTemp("", "towline-archive-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := store.Unpack(f, root, store.Limits{}); err != nil {
		return fmt.Errorf("pack %s: %w", f.Name(), err)
	}
	if err := notEmpty(root.FS(), nil); err != nil {
		return fmt.Errorf("pack %s: %w", f.Name(), err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	b := bufio.NewReader(f)
	if magic, _ := b.Peek(2); string(magic) == "\x1f\x8b" { // RFC 1952
		_, err = io.Copy(w, b)
		return err
	}
	return pack.Compress(w, b)
}

// unpack puts what Pack would make of the input into an empty folder.
func (in Input) unpack(ctx context.Context, root *os.Root, limits store.Limits) error {
	a, err := Pack(ctx, in)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }()
	f, err := os.Open(a.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	return store.Unpack(f, root, limits)
}

// manifests reads YAML or JSON documents. Several JSON documents become YAML ones, for JSON has no way to hold them.
func manifests(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxStdin+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxStdin:
		return nil, fmt.Errorf("more than %d bytes: pack a folder instead", maxStdin)
	}
	if text := bytes.TrimSpace(b); len(text) > 0 && (text[0] == '{' || text[0] == '[') {
		if docs, ok := jsonDocuments(text); ok {
			return docs, nil
		}
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	objects := 0
	for n := 1; ; n++ {
		var doc yaml.Node
		err := dec.Decode(&doc)
		switch {
		case errors.Is(err, io.EOF) && objects == 0:
			return nil, errors.New("there is no manifest in it")
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil: // the parser quotes what it read: that may be secret
			return nil, fmt.Errorf("document %d is neither YAML nor JSON", n)
		case len(doc.Content) == 0 || doc.Content[0].Tag == "!!null": // a document of comments
		case doc.Content[0].Kind != yaml.MappingNode && doc.Content[0].Kind != yaml.SequenceNode:
			return nil, fmt.Errorf("document %d is no object", n)
		default:
			objects++
		}
	}
}

// jsonDocuments is false where the text is not JSON; it may still be YAML.
func jsonDocuments(text []byte) ([]byte, bool) {
	var out bytes.Buffer
	dec := json.NewDecoder(bytes.NewReader(text))
	for n := 0; ; n++ {
		var doc json.RawMessage
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out.Bytes(), true
		}
		if err != nil {
			return nil, false
		}
		if n > 0 {
			out.WriteString("---\n")
		}
		out.Write(doc)
		out.WriteString("\n")
	}
}

// tally counts and hashes what is written, and ends the writing with ctx.
type tally struct {
	ctx  context.Context //nolint:containedctx // for io.Writer has none
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (t *tally) Write(p []byte) (int, error) {
	if t.ctx.Err() != nil {
		return 0, context.Cause(t.ctx)
	}
	n, err := t.w.Write(p)
	t.n += int64(n)
	_, _ = t.hash.Write(p[:n]) // a hash does not fail
	return n, err
}
