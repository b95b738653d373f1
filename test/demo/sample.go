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
	thirdImage    = "6.9.2" // nobody signs it at first
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

// pushManifests pushes the sample's manifests with the given image tag, with or without the banner, under a tag, and returns their digest.
func pushManifests(r *testenv.Registry, tag, image string, banner bool) string {
	m := files("manifests")
	m["deployment.yaml"] = strings.ReplaceAll(m["deployment.yaml"], "podinfo:"+firstImage, "podinfo:"+image)
	if !banner {
		delete(m, bannerFile)
	}
	return r.PushFiles(manifestsRepo, tag, m, map[string]string{
		"org.opencontainers.image.revision": image,
		"org.opencontainers.image.source":   "https://github.com/stefanprodan/podinfo",
	})
}

// publishChart pushes a version of the sample's chart.
func publishChart(r *testenv.Registry, version string) {
	r.PushChart(chartRepo, version, testenv.Chart("podinfo", version, files("chart")))
}

// publishManifests pushes, signs, and only then moves the tag that the agent follows: it never sees an artifact without its signature.
func (d *demo) publishManifests(image string, banner bool) error {
	digest := pushManifests(d.registry, image, image, banner)
	if err := d.signer.sign(d.registry, manifestsRepo, digest); err != nil {
		return err
	}
	d.registry.Tag(manifestsRepo, image, "latest")
	return nil
}

// agentConfig is the config for a registry at host, and for signatures of a key.
func agentConfig(host, key string) string {
	b, err := sample.ReadFile("sample/config.yaml")
	if err != nil {
		panic(err) // compiled in
	}
	return strings.NewReplacer("REGISTRY", host, "PUBLIC-KEY", key).Replace(string(b))
}
