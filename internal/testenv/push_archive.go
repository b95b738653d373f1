package testenv

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// TarGz packs files (path → content) reproducibly: sorted, mode 0644, no times, no owners.
func TarGz(files map[string]string) []byte {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		must(tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name]))}))
		_, err := io.WriteString(tw, files[name])
		must(err)
	}
	must(tw.Close())
	must(zw.Close())
	return b.Bytes()
}

// Chart packs a Helm chart of the name and version: the files (path below the chart's folder → content) and, unless it is among them, a Chart.yaml.
func Chart(name, version string, files map[string]string) []byte {
	all := map[string]string{name + "/Chart.yaml": fmt.Sprintf("apiVersion: v2\nname: %s\nversion: %q\n", name, version)}
	for path, content := range files {
		all[name+"/"+path] = content
	}
	return TarGz(all)
}

// chartMetadata is the Chart.yaml of a chart archive as JSON, which Helm stores as the artifact's config.
func chartMetadata(chart []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(chart))
	if err != nil {
		return nil, fmt.Errorf("read the chart archive: %w", err)
	}
	tr := tar.NewReader(zr)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the chart archive has no Chart.yaml")
		}
		if err != nil {
			return nil, fmt.Errorf("read the chart archive: %w", err)
		}
		if _, file, _ := strings.Cut(h.Name, "/"); file != "Chart.yaml" {
			continue
		}
		raw, err := io.ReadAll(tr)
		if err != nil {
			return nil, fmt.Errorf("read Chart.yaml: %w", err)
		}
		return yaml.YAMLToJSON(raw)
	}
}

// must is for writes into memory, which cannot fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
