package helm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/towline/towline/internal/deploy"
)

// chartFile is what makes a folder a chart.
const chartFile = "Chart.yaml"

// loadChart reads the chart of a revision: its one copied archive, or the folder that it was extracted to. Every call reads it anew, because working with a chart changes it
// (disabled subcharts are cut off for good), and a chart in memory costs more than the 65 µs of reading a small one.
func loadChart(r deploy.Revision) (*chart.Chart, error) {
	at, err := chartPath(r)
	if err != nil {
		return nil, err
	}
	c, err := loader.Load(at)
	if err != nil {
		return nil, fmt.Errorf("load the chart of %s: %w", r, withoutPath(err, r.Dir))
	}
	c.Metadata.Version = versionWith(c.Metadata.Version, r.Digest)
	return c, nil
}

// versionDigits is how much of the artifact's digest a chart's version bears, as in Flux.
const versionDigits = 12

// versionWith is a chart's version with the beginning of the artifact's digest as build metadata, in place of what it has there: so a chart that is pushed again under its version can be
// told from the one before, in templates, records and helm list.
func versionWith(version, digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	v, err := semver.NewVersion(version)
	if err != nil || !ok || len(hex) < versionDigits {
		return version // the loader refuses what is no version; a folder of the disk has no digest
	}
	with, err := v.SetMetadata(hex[:versionDigits])
	if err != nil {
		return version
	}
	return with.String()
}

// chartPath is the archive or the folder to load. In an extracted artifact the chart is at the root, or one folder deep as in Helm's own archives.
func chartPath(r deploy.Revision) (string, error) {
	if r.File != "" {
		return filepath.Join(r.Dir, r.File), nil
	}
	if isChart(r.Dir) {
		return r.Dir, nil
	}
	entries, err := os.ReadDir(r.Dir)
	if err != nil {
		return "", fmt.Errorf("read the artifact of %s: %w", r, withoutPath(err, r.Dir))
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() && isChart(filepath.Join(r.Dir, e.Name())) {
			found = append(found, e.Name())
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("the artifact %s is no chart: no %s at its root or one folder deep; a chart layer needs layerSelector.operation copy or extract", r, chartFile)
	case 1:
		return filepath.Join(r.Dir, found[0]), nil
	}
	return "", fmt.Errorf("the artifact %s holds %d charts (%s): it must hold one", r, len(found), strings.Join(found, ", "))
}

func isChart(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, chartFile))
	return err == nil && info.Mode().IsRegular()
}

// withoutPath keeps the cache's own paths out of messages.
func withoutPath(err error, dir string) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Op, p.Err)
	}
	if dir != "" && strings.Contains(err.Error(), dir) {
		return errors.New(strings.ReplaceAll(err.Error(), dir, "artifact"))
	}
	return err
}

// prepared is a chart that is known to fit its values, and the CRDs that come with it.
type prepared struct {
	chart  *chart.Chart
	values map[string]any
	crds   []chart.CRD
}

// prepare loads chart and values and checks what can be checked before anything is touched: the values against the charts' schemas, unless the spec of the operation says not to.
func prepare(w deploy.Work, do act) (*prepared, error) {
	c, err := loadChart(w.Revision)
	if err != nil {
		return nil, err
	}
	if c.Metadata.Type == "library" {
		return nil, fmt.Errorf("%s is a library chart: it can be part of a chart, but not installed", c.Name())
	}
	if err := action.CheckDependencies(c, c.Metadata.Dependencies); err != nil {
		return nil, fmt.Errorf("the chart is not complete, package it with its dependencies: %w", err)
	}
	p := &prepared{chart: c}
	if p.values, err = parseValues(w.Target.HelmRelease.Values); err != nil {
		return nil, err
	}
	unchecked := orZero(w.Target.HelmRelease.Upgrade).DisableSchemaValidation
	if do == doInstall {
		unchecked = orZero(w.Target.HelmRelease.Install).DisableSchemaValidation
	}
	if schemas := hasSchema(c) && !unchecked; schemas || len(c.CRDObjects()) > 0 {
		if p.crds, err = examine(w, schemas); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// examine works on a chart of its own, since it cuts disabled subcharts off: it holds the values against the schemas of what is left and returns the CRDs
// of that.
func examine(w deploy.Work, schemas bool) ([]chart.CRD, error) {
	c, err := loadChart(w.Revision)
	if err != nil {
		return nil, err
	}
	values, err := parseValues(w.Target.HelmRelease.Values)
	if err != nil {
		return nil, err
	}
	if err := chartutil.ProcessDependenciesWithMerge(c, values); err != nil {
		return nil, fmt.Errorf("work out which subcharts are enabled: %w", err)
	}
	if schemas {
		all, err := chartutil.CoalesceValues(c, values)
		if err != nil {
			return nil, fmt.Errorf("merge the values with the chart's own: %w", err)
		}
		if err := checkSchemas(c, all); err != nil {
			return nil, err
		}
	}
	return c.CRDObjects(), nil
}

func hasSchema(c *chart.Chart) bool {
	if c.Schema != nil {
		return true
	}
	return slices.ContainsFunc(c.Dependencies(), hasSchema)
}
