package main

import (
	"embed"
	"io/fs"
	"strings"

	"github.com/towline/towline/internal/testenv"
)

//go:embed sample
var sample embed.FS

// The repositories that the demo publishes to, and the versions of its story.
const (
	manifestsRepo = "manifests/podinfo"
	chartRepo     = "charts/podinfo"
	firstImage    = "6.9.0"
	secondImage   = "6.9.1"
	firstChart    = "6.9.0"
	secondChart   = "6.10.0"
)

// bannerFile is in the first version of the manifests only.
const bannerFile = "banner.yaml"

// files reads a folder of the sample, by path below it.
func files(folder string) map[string]string {
	out := map[string]string{}
	root := "sample/" + folder
	err := fs.WalkDir(sample, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := sample.ReadFile(path)
		out[strings.TrimPrefix(path, root+"/")] = string(b)
		return err
	})
	if err != nil {
		panic(err) // the files are compiled in
	}
	return out
}

// publishManifests pushes the sample's manifests with the given image tag as tag latest, with or without the banner.
func publishManifests(r *testenv.Registry, image string, banner bool) {
	m := files("manifests")
	m["deployment.yaml"] = strings.ReplaceAll(m["deployment.yaml"], "podinfo:"+firstImage, "podinfo:"+image)
	if !banner {
		delete(m, bannerFile)
	}
	r.PushFiles(manifestsRepo, "latest", m, map[string]string{
		"org.opencontainers.image.revision": image,
		"org.opencontainers.image.source":   "https://github.com/stefanprodan/podinfo",
	})
}

// publishChart pushes a version of the sample's chart.
func publishChart(r *testenv.Registry, version string) {
	r.PushChart(chartRepo, version, testenv.Chart("podinfo", version, files("chart")))
}

// agentConfig is the config for a registry at host.
func agentConfig(host string) string {
	b, err := sample.ReadFile("sample/config.yaml")
	if err != nil {
		panic(err) // compiled in
	}
	return strings.ReplaceAll(string(b), "REGISTRY", host)
}
