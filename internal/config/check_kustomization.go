package config

import (
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
)

// affixPattern is what may be put before or behind an object's name.
var affixPattern = regexp.MustCompile(`^[a-z0-9.-]*$`)

func (e *entry) checkKustomization(k *deploy.KustomizationSpec) {
	e.checkInside("path", k.Path)
	e.checkDuration("interval", k.Interval)
	e.checkDuration("retryInterval", k.RetryInterval)
	e.checkDuration("timeout", k.Timeout)
	e.checkShare("pruneLimit", k.PruneLimit)
	e.checkSHA256("allowMassPrune", k.AllowMassPrune)
	e.oneOf("deletionPolicy", string(k.DeletionPolicy), string(deploy.DeletionMirrorPrune), string(deploy.DeletionDelete), string(deploy.DeletionWait), string(deploy.DeletionOrphan))
	e.checkHealthChecks(k.HealthChecks)
	e.checkHealthCheckExprs(k.HealthCheckExprs)
	e.checkReadyExprs(k.DependsOn)
	e.checkIgnoreRules("ignore", k.Ignore)
	e.checkDriftDetection(k.DriftDetection)
	if r := k.Rollback; r != nil {
		e.checkFallback(r.OnFailure, r.Group)
		if r.OnFailure == deploy.OnFailureLastGood && !k.Wait && len(k.HealthChecks) == 0 && !e.brokenBelow("healthChecks") {
			e.bad("rollback.onFailure", "nothing of this target is checked for health, so nothing could fail: set wait: true, or give healthChecks")
		}
	}
	e.checkServiceAccount(k.ServiceAccountName)
	if c := k.KubeConfig; c != nil {
		e.checkKubeConfig(c)
	}
	e.checkBuild(k)
}

// checkBuild checks the fields that say how the manifests are built.
func (e *entry) checkBuild(k *deploy.KustomizationSpec) {
	e.checkLabel("targetNamespace", k.TargetNamespace)
	e.checkAffix("namePrefix", k.NamePrefix)
	e.checkAffix("nameSuffix", k.NameSuffix)
	if m := k.CommonMetadata; m != nil {
		e.checkCommonMetadata(m)
	}
	e.checkComponents(k.Path, k.Components)
	e.checkPatches("patches", k.Patches)
	e.checkImages("images", k.Images)
	if p := k.PostBuild; p != nil {
		e.checkPostBuild(p)
	}
	if d := k.Decryption; d != nil {
		e.checkDecryption(d)
	}
}

// checkShare reports what is no count and no share of a whole.
func (e *entry) checkShare(path string, limit *intstr.IntOrString) {
	if limit == nil {
		return
	}
	if limit.Type == intstr.Int {
		if limit.IntVal < 0 {
			e.bad(path, "%d is negative: want a count of objects, or a percentage such as 30%%", limit.IntVal)
		}
		return
	}
	if n, err := strconv.Atoi(strings.TrimSuffix(limit.StrVal, "%")); err != nil || n > 100 {
		e.bad(path, "%s is more than everything: want at most 100%%, which is no limit", limit.StrVal)
	}
}

// checkComponents checks folders that stand beside or below dir, which a kustomization usually leaves for them: ../components/tls.
func (e *entry) checkComponents(dir string, components []string) {
	const field = "components"
	seen := map[string]bool{}
	for i, c := range components {
		at, inside := item(field, i), path.Join(dir, c)
		if e.checkComponent(at, dir, c) && seen[inside] {
			e.bad(at, "%q is listed twice", c)
		}
		seen[inside] = c != "" || seen[inside]
	}
}

// checkComponent reports whether a component is one.
func (e *entry) checkComponent(at, dir, c string) bool {
	switch joined := path.Join(dir, c); {
	case c == "":
		e.emptyIfWritten(at, "want a folder with a component")
	case strings.Contains(c, "://"):
		e.bad(at, "%q is a URL: what is built has to be in the artifact", c)
	case strings.HasPrefix(c, "/"):
		e.bad(at, "%q is absolute: want a folder relative to path, such as ../components/tls", c)
	case strings.Contains(c, `\`):
		e.bad(at, "%q has a backslash: folders are separated by /", c)
	case strings.ContainsRune(c, 0):
		e.bad(at, "has a NUL character")
	case path.IsAbs(dir) || !filepath.IsLocal(path.Clean(dir)): // said of path already
	case !filepath.IsLocal(joined):
		e.bad(at, "%q leaves the artifact: it is relative to path, %s", c, path.Clean(dir))
	case joined == path.Clean(dir):
		e.bad(at, "%q is the folder of path itself", c)
	default:
		return true
	}
	return false
}

func (e *entry) checkAffix(path, s string) {
	if !affixPattern.MatchString(s) {
		e.bad(path, "%q cannot be part of a name: want lower-case letters, digits, - and .", s)
	}
}

func (e *entry) checkCommonMetadata(m *deploy.CommonMetadata) {
	for k, v := range m.Labels {
		path := "commonMetadata.labels." + k
		if len(validation.IsQualifiedName(k)) > 0 {
			e.bad(path, "the key is not a label's: want [prefix/]name, the name at most 63 letters, digits, - _ and .")
		} else if len(validation.IsValidLabelValue(v)) > 0 {
			e.bad(path, "%q is not a label's value: want at most 63 letters, digits, - _ and ., with a letter or digit at both ends", v)
		}
	}
	for k := range m.Annotations {
		if len(validation.IsQualifiedName(strings.ToLower(k))) > 0 {
			e.bad("commonMetadata.annotations."+k, "the key is not an annotation's: want [prefix/]name, the name at most 63 letters, digits, - _ and .")
		}
	}
}

func (e *entry) checkImages(path string, images []deploy.Image) {
	for i, img := range images {
		e.checkImage(item(path, i), img)
	}
}

func (e *entry) checkImage(path string, img deploy.Image) {
	if img.Name == "" {
		if _, written := e.places[path+".name"]; written {
			e.bad(path+".name", "is empty: want the image as the manifests name it")
		}
	}
	if img.NewName == "" && img.NewTag == "" && img.Digest == "" {
		e.bad(path, "changes nothing: give newName, newTag or digest")
	}
	if img.NewTag != "" && !tagPattern.MatchString(img.NewTag) {
		e.bad(path+".newTag", "%q is not a tag", img.NewTag)
	}
	e.checkSHA256(path+".digest", img.Digest)
}
