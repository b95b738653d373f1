package helm

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"

	"github.com/towline/towline/internal/deploy"
)

const (
	// surelyFits is a record's JSON, in bytes, that fits a Secret even if it cannot be compressed: base64 makes four bytes of three.
	surelyFits = corev1.MaxSecretSize / 4 * 3
	// bigChart is from how many bytes of templates, files and values on a chart is rendered once for its size alone, before anything is touched.
	bigChart = 512 << 10
	// biggest is how many objects an error names.
	biggest = 3
)

// tooBigError is a record that does not fit a Secret.
type tooBigError struct{ text string }

func (e *tooBigError) Error() string { return e.text }

// fits fails for a release whose record would be too big for a Secret, and says what is big. It measures what the driver will write.
func fits(rel *release.Release) error {
	text, err := json.Marshal(slim(rel))
	if err != nil || len(text) <= surelyFits {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = z.Write(text)
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return fmt.Errorf("measure the record: %w", err)
	}
	size := base64.StdEncoding.EncodedLen(packed.Len())
	if size <= corev1.MaxSecretSize {
		return nil
	}
	return &tooBigError{fmt.Sprintf("the record of release %s would have %d KiB, and a Secret holds %d KiB: %s; split the chart, or take big files out of it (nothing was changed)",
		rel.Name, size>>10, corev1.MaxSecretSize>>10, whatIsBig(rel))}
}

// whatIsBig lists the parts of a record, and its biggest objects, before compression.
func whatIsBig(rel *release.Release) string {
	hooks := 0
	for _, h := range rel.Hooks {
		hooks += len(h.Manifest)
	}
	parts := []string{fmt.Sprintf("its manifest has %d KiB", len(rel.Manifest)>>10)}
	for _, p := range []struct {
		what string
		size int
	}{{"hooks", hooks}, {"values", sizeOf(rel.Config)}, {"the chart's own values", sizeOf(ownValues(rel.Chart))}} {
		if p.size >= 1<<10 {
			parts = append(parts, fmt.Sprintf("%s %d KiB", p.what, p.size>>10))
		}
	}
	text := strings.Join(parts, ", ")
	objects, err := parseObjects(rel.Manifest)
	if err != nil || len(objects) == 0 {
		return text
	}
	type sized struct {
		id   deploy.ObjectID
		size int
	}
	var list []sized
	for _, u := range flatten(objects) {
		list = append(list, sized{deploy.IDOf(u), sizeOf(u.Object)})
	}
	slices.SortStableFunc(list, func(a, b sized) int { return b.size - a.size })
	var names []string
	for _, s := range list[:min(len(list), biggest)] {
		names = append(names, fmt.Sprintf("%s with %d KiB", s.id, s.size>>10))
	}
	return text + "; the biggest of its " + fmt.Sprint(len(list)) + " objects: " + strings.Join(names, ", ")
}

func ownValues(c *chart.Chart) map[string]any {
	if c == nil {
		return nil
	}
	return c.Values
}

func sizeOf(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		return 0
	}
	return len(b)
}

// big reports whether a chart is to be measured before anything is touched.
func big(c *chart.Chart, values map[string]any) bool {
	size := sizeOf(values)
	for _, f := range c.Raw {
		size += len(f.Data)
	}
	return size >= bigChart
}
