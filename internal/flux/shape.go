package flux

// shape are the fields that a kind of Flux has, of those that we have too; nil: whatever stands below. What is in an entry and not here has no counterpart, and is said to be left out.
type shape map[string]shape

// kind is one of Flux's three.
type kind struct {
	apiVersion string
	spec       shape
}

var (
	name      = shape{"name": nil}
	reference = shape{"kind": nil, "name": nil, "namespace": nil}
	depends   = shape{"name": nil, "namespace": nil, "readyExpr": nil}
	selector  = shape{"group": nil, "version": nil, "kind": nil, "namespace": nil, "name": nil, "annotationSelector": nil, "labelSelector": nil}
)

var ociRepository = kind{"source.toolkit.fluxcd.io/v1", shape{
	"url": nil, "interval": nil, "timeout": nil, "suspend": nil, "insecure": nil, "provider": nil, "ignore": nil, "serviceAccountName": nil,
	"ref":           {"digest": nil, "semver": nil, "semverFilter": nil, "tag": nil},
	"layerSelector": {"mediaType": nil, "operation": nil},
	"verify": {
		"provider": nil, "secretRef": name, "trustedRootSecretRef": name,
		"matchOIDCIdentity": {"issuer": nil, "subject": nil},
	},
	"secretRef": name, "certSecretRef": name, "proxySecretRef": name,
}}

var kustomization = kind{"kustomize.toolkit.fluxcd.io/v1", shape{
	"sourceRef": reference, "path": nil, "interval": nil, "retryInterval": nil, "timeout": nil, "suspend": nil,
	"prune": nil, "deletionPolicy": nil, "wait": nil, "force": nil, "dependsOn": depends,
	"healthChecks":       {"apiVersion": nil, "kind": nil, "name": nil, "namespace": nil},
	"healthCheckExprs":   {"apiVersion": nil, "kind": nil, "current": nil, "inProgress": nil, "failed": nil},
	"ignore":             {"paths": nil, "target": selector},
	"serviceAccountName": nil,
	"kubeConfig":         {"secretRef": {"name": nil, "key": nil}},
	"targetNamespace":    nil, "namePrefix": nil, "nameSuffix": nil,
	"commonMetadata": {"labels": nil, "annotations": nil},
	"components":     nil, "ignoreMissingComponents": nil,
	"patches":    {"patch": nil, "target": selector},
	"images":     {"name": nil, "newName": nil, "newTag": nil, "digest": nil},
	"postBuild":  {"substitute": nil, "substituteFrom": {"kind": nil, "name": nil, "optional": nil}, "substituteStrategy": nil},
	"decryption": {"provider": nil, "secretRef": name},
}}

var helmRelease = kind{"helm.toolkit.fluxcd.io/v2", shape{
	"chartRef": reference, "interval": nil, "timeout": nil, "suspend": nil, "releaseName": nil, "targetNamespace": nil, "storageNamespace": nil, "maxHistory": nil,
	"values": nil, "dependsOn": depends,
	"install":   {"timeout": nil, "createNamespace": nil, "crds": nil, "disableWait": nil, "disableWaitForJobs": nil, "disableHooks": nil},
	"upgrade":   {"timeout": nil, "crds": nil, "disableWait": nil, "disableWaitForJobs": nil, "disableHooks": nil, "cleanupOnFail": nil},
	"uninstall": {"timeout": nil, "keepHistory": nil, "disableWait": nil, "disableHooks": nil},
}}
