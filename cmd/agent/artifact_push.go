package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/towline/towline/internal/artifact/publish"
	"github.com/towline/towline/internal/artifact/store"
)

func newPush() *cobra.Command {
	return newVerb("push", "Publish an artifact", newPushArtifact())
}

// pushed is what is printed; the fields are those of flux push artifact.
type pushed struct {
	URL        string `json:"url"` // with the digest: what to sign
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Digest     string `json:"digest"`
}

func newPushArtifact() *cobra.Command {
	var (
		at           place
		in           publish.Input
		annotations  []string
		patterns     []string
		reproducible bool
		output       outputFlag
	)
	c := &cobra.Command{
		Use:   "artifact oci://HOST/REPOSITORY:TAG",
		Short: "Pack a folder or file of manifests and push it to a registry",
		Long: "Pack a folder, a file, an archive or standard input (-f -) and push it with Flux's media types, so that Flux can read it too. The tag is set when everything\n" +
			"else has arrived. What the registry has already is not sent again.",
		Example: "  towline push artifact oci://registry.example.org/apps/web:v1 -f ./deploy --source=https://git.example.org/web --revision=main@sha1:0123abc\n" +
			"  kustomize build . | towline push artifact oci://registry.example.org/apps/web:v1 -f - -o json",
		Args: exactlyOne("url"),
		RunE: func(c *cobra.Command, args []string) error {
			if in.Path == "" {
				return usageError{errors.New("what is to be published? Name a folder or file with --path, or - for standard input")}
			}
			var err error
			if in.Annotations, err = keyValues(annotations); err != nil {
				return usageError{err}
			}
			in.Ignore, in.Stdin = ignorePaths(c, patterns), c.InOrStdin()
			if !reproducible {
				in.Created = time.Now()
			}
			out, err := pushArtifact(c, at, in, args[0])
			if err != nil {
				return err
			}
			return output.write(c.OutOrStdout(), out, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "pushed oci://%s:%s\ndigest %s\n", out.Repository, out.Tag, out.Digest)
				return err
			})
		},
	}
	f := c.Flags()
	f.StringVarP(&in.Path, "path", "f", "", "`folder`, file or archive to publish; - is standard input")
	f.StringVar(&in.Source, "source", "", "`url` of the source, such as that of the Git repository")
	f.StringVar(&in.Revision, "revision", "", "`revision` of the source: branch|tag@sha1:commit")
	f.StringArrayVarP(&annotations, "annotations", "a", nil, "`key=value` to annotate the artifact with; may be repeated")
	f.BoolVar(&reproducible, "reproducible", false, "leave the time of creation out (it is 1970 then): equal content has an equal digest")
	addIgnorePaths(f, &patterns)
	at.add(f)
	output.add(c)
	return c
}

func pushArtifact(c *cobra.Command, at place, in publish.Input, url string) (pushed, error) {
	ref, repo, stop, err := at.reach(url)
	if err != nil {
		return pushed{}, err
	}
	defer stop()
	switch {
	case ref.Digest != "":
		return pushed{}, usageError{errors.New("the url must not hold a digest: that is what the push will tell")}
	case ref.Tag == "":
		return pushed{}, usageError{errors.New("the url has no tag: write one behind it, such as :v1 or :$(git rev-parse --short HEAD)")}
	}
	ctx, cancel := context.WithTimeout(c.Context(), at.timeout)
	defer cancel()
	a, err := publish.Pack(ctx, in)
	if err != nil {
		if ctx.Err() != nil {
			return pushed{}, failed(ctx, "push", ref, true, err)
		}
		return pushed{}, err
	}
	defer func() { _ = a.Close() }() // a temporary file
	if most := (store.Limits{}).WithDefaults().Compressed; a.Layer.Size > most {
		fmt.Fprintf(c.ErrOrStderr(), "Warning: the layer has %s; agents take up to %s unless they are told otherwise\n", mebibytes(a.Layer.Size), mebibytes(most))
	}
	bar := newTransferBar(c.ErrOrStderr(), "pushing")
	err = a.Push(ctx, repo, ref.Tag, bar.tell)
	bar.clear()
	if err != nil {
		return pushed{}, failed(ctx, "push", ref, true, err)
	}
	pinned := publish.Ref{Repo: ref.Repo, Digest: a.Digest}
	return pushed{URL: pinned.String(), Repository: ref.Repo.Name(), Tag: ref.Tag, Digest: a.Digest}, nil
}

// keyValues reads key=value texts.
func keyValues(texts []string) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--annotations %q: want key=value", text)
		}
		out[key] = value
	}
	return out, nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
