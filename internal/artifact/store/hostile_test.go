package store

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// hostileMemory is by how much a process may grow while it refuses an artifact, in bytes.
const hostileMemory = 64 << 20

// header is a tar header as no writer would make it: any type, any size.
func header(name string, kind byte, size int64) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	if size < 1<<33 {
		copy(b[124:], fmt.Sprintf("%011o\x00", size))
	} else { // base 256
		b[124] = 0x80
		for i := range 8 {
			b[135-i] = byte(size >> (8 * i))
		}
	}
	copy(b[136:], "00000000000\x00")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// extended is a PAX header with records, padded to a block.
func extended(kind byte, records ...string) []byte {
	var body []byte
	for _, r := range records {
		n := len(r) + 3
		for len(strconv.Itoa(n))+len(r)+2 != n {
			n = len(strconv.Itoa(n)) + len(r) + 2
		}
		body = fmt.Appendf(body, "%d %s\n", n, r)
	}
	out := append(header("pax", kind, int64(len(body))), body...)
	return append(out, make([]byte, (512-len(out)%512)%512)...)
}

// stream is an artifact's layer that is never in memory as a whole: the parts follow each other, each as often as it says.
type stream []repeated

type repeated struct {
	raw   []byte
	times int
}

func (s stream) WriteTo(w io.Writer) (total int64, err error) {
	for _, r := range s {
		for range r.times {
			n, err := w.Write(r.raw)
			if total += int64(n); err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

// save writes the stream to a file and returns its descriptor.
func (s stream) save(t testing.TB, path string) v1.Descriptor {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	n, err := s.WriteTo(io.MultiWriter(f, sum))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{MediaType: "application/x.tar+gzip", Digest: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sum.Sum(nil))}, Size: n}
}

// member is a whole gzip member, of which many may follow each other.
func member(t testing.TB, content []byte) []byte { return zip(t, content) }

// manyFiles is a tar without its end that holds n empty files.
func manyFiles(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		b.Write(header(fmt.Sprintf("f%d", i), tar.TypeReg, 0))
	}
	return b.Bytes()
}

// endless is one gzip member of n MiB of zeros behind a head, as one long stream: each MiB is the same compressed bytes.
func endless(t testing.TB, head []byte, n int) stream {
	t.Helper()
	zeros := make([]byte, 1<<20)
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	step := func(content []byte) []byte {
		b.Reset()
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil { // to a whole byte, so that what follows can be repeated
			t.Fatal(err)
		}
		return bytes.Clone(b.Bytes())
	}
	begin, first, more := step(head), step(zeros), step(zeros)
	if again := step(zeros); !bytes.Equal(more, again) {
		t.Fatal("compressing the same twice gives different bytes")
	}
	sum := crc32.ChecksumIEEE(head)
	for range n {
		sum = crc32.Update(sum, crc32.IEEETable, zeros)
	}
	size := uint32(len(head) + n<<20)
	end := []byte{1, 0, 0, 0xff, 0xff, byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24), byte(size), byte(size >> 8), byte(size >> 16), byte(size >> 24)}
	return stream{{begin, 1}, {first, 1}, {more, n - 1}, {end, 1}}
}

const gib10 = 10 << 10 // 10 GiB in MiB

// hostile are layers that must be refused.
var hostile = []struct {
	name string
	want string // in the error
	make func(testing.TB) stream
}{
	{"10 GiB of zeros in one file", "the unpacked size", func(t testing.TB) stream {
		return endless(t, header("zeros", tar.TypeReg, gib10<<20), gib10)
	}},
	{"10 GiB of zeros in files of 1 MiB", "the unpacked size", func(t testing.TB) stream {
		return stream{{member(t, append(header("zeros", tar.TypeReg, 1<<20), make([]byte, 1<<20)...)), gib10}}
	}},
	{"10 GiB of zeros behind the end", "too much padding", func(t testing.TB) stream { return endless(t, pack(t, file("a", "b")), gib10) }},
	{"10 GiB of zeros that are no archive", "too much padding", func(t testing.TB) stream { return endless(t, make([]byte, 1024), gib10) }},
	{"10 GiB of zeros in zstd", "the unpacked size", func(t testing.TB) stream {
		return stream{{zstdOf(t, append(header("zeros", tar.TypeReg, 1<<20), make([]byte, 1<<20)...)), gib10}}
	}},
	{"zeros behind the end in zstd frames", "too much padding", func(t testing.TB) stream {
		return stream{{zstdOf(t, pack(t, file("a", "b"))), 1}, {zstdOf(t, make([]byte, 32<<20)), gib10 / 32}}
	}},
	{"a zstd window of 2 GiB", "window", func(testing.TB) stream { return stream{{[]byte("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"), 1}} }},
	{"a zstd dictionary that nobody has", "read the archive", func(testing.TB) stream { return stream{{[]byte("\x28\xb5\x2f\xfd\x01\x00\x07\x01\x00\x00"), 1}} }},
	{"a gzip in a gzip", "read the archive", func(t testing.TB) stream { return stream{{zip(t, zip(t, pack(t, file("a", "b")))), 1}} }},
	{"a gzip in a zstd", "read the archive", func(t testing.TB) stream { return stream{{zstdOf(t, zip(t, pack(t, file("a", "b")))), 1}} }},
	{"a million empty gzip members", "unexpected EOF", func(t testing.TB) stream { return stream{{member(t, nil), 1_000_000}} }},
	{"a million empty zstd frames", "unexpected EOF", func(t testing.TB) stream {
		return stream{{[]byte("\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"), 1_000_000}}
	}},
	{"a million files", "the number of files", func(t testing.TB) stream { return stream{{member(t, manyFiles(10_000)), 100}} }},
	{"a million folders", "the number of files", func(t testing.TB) stream { return stream{{member(t, folders(10_000)), 100}} }},
	{"a million headers that name no file", "the number of files", func(t testing.TB) stream {
		return stream{{member(t, bytes.Repeat(extended('g', "comment=x"), 10_000)), 100}}
	}},
	{"folders as deep as may be, which are not named", "the number of files", func(t testing.TB) stream { return stream{{zip(t, deepFolders(1000)), 1}} }},
	{"a path of a million elements", "the depth of a path", func(t testing.TB) stream {
		return stream{{zip(t, slices.Concat(extended('x', "path="+strings.Repeat("a/", 500_000)+"b"), header("b", tar.TypeReg, 0), make([]byte, 1024))), 1}}
	}},
	{"a path of a million elements that climb", `".."`, func(t testing.TB) stream {
		return stream{{zip(t, slices.Concat(extended('x', "path="+strings.Repeat("../", 300_000)+"b"), header("b", tar.TypeReg, 0), make([]byte, 1024))), 1}}
	}},
	{"links with long targets", "links", func(t testing.TB) stream {
		one := slices.Concat(extended('x', "linkpath="+strings.Repeat("a/", 500)), header("l", tar.TypeSymlink, 0))
		return stream{{member(t, bytes.Repeat(one, 1000)), 19}}
	}},
	{"links with targets of 1 MiB", "a link's target", func(t testing.TB) stream {
		return stream{{member(t, slices.Concat(extended('x', "linkpath="+strings.Repeat("a", 1_000_000)), header("l", tar.TypeSymlink, 0))), 1000}}
	}},
	{"a PAX header of 512 MiB", "header", func(t testing.TB) stream { return endless(t, header("pax", 'x', 512<<20), 513) }},
	{"a GNU name of 512 MiB", "header", func(t testing.TB) stream { return endless(t, header("././@LongLink", 'L', 512<<20), 513) }},
	{"a PAX header of a million records", "read the archive", func(t testing.TB) stream {
		records := slices.Repeat([]string{"a=b"}, 1_000_000)
		return stream{{zip(t, slices.Concat(extended('x', records...), header("b", tar.TypeReg, 0), make([]byte, 1024))), 1}}
	}},
	{"a sparse file of a terabyte", "the unpacked size", func(t testing.TB) stream {
		pax := extended('x', "GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name=big", "GNU.sparse.numblocks=1",
			"GNU.sparse.map=0,1", "GNU.sparse.size="+strconv.Itoa(1<<40))
		return stream{{zip(t, slices.Concat(pax, header("big", tar.TypeReg, 1), make([]byte, 512), make([]byte, 1024))), 1}}
	}},
	{"a sparse file with a map of 2 GiB", "read the archive", func(t testing.TB) stream {
		pax := extended('x', "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=big", "GNU.sparse.realsize="+strconv.Itoa(1<<40))
		body := append([]byte("100000000\n"), bytes.Repeat([]byte("0\n"), 255)...)
		return stream{{member(t, slices.Concat(pax, header("big", tar.TypeReg, 2<<30), body[:512])), 1}, {member(t, bytes.Repeat([]byte("1\n"), 1<<20)), 1024}}
	}},
	{"a file of 8 EiB", "the unpacked size", func(t testing.TB) stream { return stream{{header("big", tar.TypeReg, 1<<62), 1}} }},
	{"a link out", "does not end inside", func(t testing.TB) stream { return stream{{pack(t, symlink("l", "../../../../etc/passwd")), 1}} }},
	{"an absolute link", "only relative links", func(t testing.TB) stream { return stream{{pack(t, symlink("l", "/etc/passwd")), 1}} }},
	{"a hard link", "only files", func(t testing.TB) stream { return stream{{pack(t, special("l", tar.TypeLink)), 1}} }},
	{"a path that climbs", `".."`, func(t testing.TB) stream { return stream{{pack(t, file("../../x", "x")), 1}} }},
	{"an absolute path", "absolute", func(t testing.TB) stream { return stream{{pack(t, file("/etc/passwd", "x")), 1}} }},
	{"a device", "only files", func(t testing.TB) stream { return stream{{pack(t, special("null", tar.TypeChar)), 1}} }},
	{"a block device", "only files", func(t testing.TB) stream { return stream{{pack(t, special("sda", tar.TypeBlock)), 1}} }},
	{"a pipe", "only files", func(t testing.TB) stream { return stream{{pack(t, special("p", tar.TypeFifo)), 1}} }},
	{"a gzip that was cut", "unexpected EOF", func(t testing.TB) stream {
		z := zip(t, pack(t, file("a", strings.Repeat("b", 5000))))
		return stream{{z[:len(z)/2], 1}}
	}},
	{"a zstd that was cut", "unexpected EOF", func(t testing.TB) stream {
		z := zstdOf(t, pack(t, file("a", strings.Repeat("b", 5000))))
		return stream{{z[:len(z)/2], 1}}
	}},
}

func folders(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		b.Write(header(fmt.Sprintf("d%d/", i), tar.TypeDir, 0))
	}
	return b.Bytes()
}

// deepFolders is n files, each below thirty folders of its own.
func deepFolders(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		b.Write(extended('x', fmt.Sprintf("path=%d/%sf", i, strings.Repeat("d/", 29))))
		b.Write(header("f", tar.TypeReg, 0))
	}
	return b.Bytes()
}

// verdict is what the process that took a hostile artifact found.
type verdict struct {
	Err  string
	Left []string // in the cache
	Heap int64    // by how much the memory that Go has from the system grew at most, in bytes
	RSS  int64    // by how much the process grew at most, in bytes
}

// What TestHostile tells the process that it starts: the layer's file, its descriptor, and where the verdict goes.
const (
	hostileBlob  = "HOSTILE_BLOB"
	hostileLayer = "HOSTILE_LAYER"
	hostileOut   = "HOSTILE_OUT"
)

// TestHostileChild takes one hostile artifact in a process of its own, so that its peak of memory can be told.
func TestHostileChild(t *testing.T) {
	blob := os.Getenv(hostileBlob)
	if blob == "" {
		return // it was not started by TestHostile
	}
	it, _ := item(t, nil, "")
	if err := json.Unmarshal([]byte(os.Getenv(hostileLayer)), &it.Layers[0]); err != nil {
		t.Fatal(err)
	}
	it.Pull = func(_ v1.Descriptor, w io.Writer) error {
		f, err := os.Open(blob)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		_, err = io.Copy(w, f)
		return err
	}
	c := open(t, t.TempDir())
	debug.FreeOSMemory()
	heap, rss := goMemory(), resetPeak(t)
	_, perr := c.Put(EntryName(it.Digest, "ab"), it)
	v := verdict{Heap: goMemory() - heap, RSS: procMemory(t, "VmHWM:") - rss, Left: names(t, c.dir)}
	if perr != nil {
		v.Err = perr.Error()
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv(hostileOut), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// goMemory is what the Go runtime ever took from the system: it never gives addresses back, so that this is its peak.
func goMemory() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// resetPeak makes the kernel forget the process's peak and returns what it takes now, in bytes.
func resetPeak(t *testing.T) int64 {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return procMemory(t, "VmRSS:")
}

func procMemory(t *testing.T, key string) int64 {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, "/proc/self/status"), key)
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		t.Fatalf("the kernel says no %s", key)
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// raced is a build with the race detector, which has memory of its own for every byte of the program's.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// takeHostile lets another process take a layer.
func takeHostile(t *testing.T, blob string, layer v1.Descriptor) verdict {
	t.Helper()
	raw, err := json.Marshal(layer)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "verdict")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHostileChild$")
	cmd.Env = append(os.Environ(), hostileBlob+"="+blob, hostileLayer+"="+string(raw), hostileOut+"="+out)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var v verdict
	if err := json.Unmarshal([]byte(read(t, out)), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// refused looks at a verdict.
func refused(t *testing.T, v verdict, want string) {
	t.Helper()
	if !strings.Contains(v.Err, want) || len(v.Err) > 2000 {
		t.Errorf("error %.2000q, want a short one that says %q", v.Err, want)
	}
	if len(v.Left) != 0 {
		t.Errorf("left behind: %v", v.Left)
	}
	if v.Heap > hostileMemory || v.RSS > hostileMemory && !raced() {
		t.Errorf("it took %d MiB of Go's memory and %d MiB of the system's, at most %d MiB are allowed", v.Heap>>20, v.RSS>>20, hostileMemory>>20)
	}
	t.Logf("%d MiB of Go's memory, %d MiB of the system's", v.Heap>>20, v.RSS>>20)
}

func TestHostile(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			blob := filepath.Join(t.TempDir(), "blob")
			layer := c.make(t).save(t, blob)
			refused(t, takeHostile(t, blob, layer), c.want)
		})
	}
	sum := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	t.Run("a registry that never stops sending", func(t *testing.T) {
		refused(t, takeHostile(t, "/dev/zero", v1.Descriptor{Digest: sum, Size: 1000}), "larger than the manifest says")
	})
	t.Run("a layer that says it is 1 TiB", func(t *testing.T) {
		refused(t, takeHostile(t, "/dev/zero", v1.Descriptor{Digest: sum, Size: 1 << 40}), "the compressed size")
	})
	t.Run("a layer with another digest, as large as may be", func(t *testing.T) {
		refused(t, takeHostile(t, "/dev/zero", v1.Descriptor{Digest: sum, Size: defaultCompressed}), "larger than the manifest says")
	})
	t.Run("a layer with another digest", func(t *testing.T) {
		blob := filepath.Join(t.TempDir(), "blob")
		layer := stream{{make([]byte, 1<<20), defaultCompressed >> 20}}.save(t, blob)
		layer.Digest = sum
		refused(t, takeHostile(t, blob, layer), "has the digest sha256:")
	})
	t.Run("a layer that never comes", func(t *testing.T) {
		refused(t, takeHostile(t, "/dev/null", v1.Descriptor{Digest: sum, Size: defaultCompressed}), "missing")
	})
}
