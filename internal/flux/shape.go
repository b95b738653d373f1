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
	patches   = shape{"patch": nil, "target": selector}
	images    = shape{"name": nil, "newName": nil, "newTag": nil, "digest": nil}
	strategy  = shape{"name": nil, "retryInterval": nil}
	metadata  = shape{"labels": nil, "annotations": nil}
	health    = shape{"apiVersion": nil, "kind": nil, "current": nil, "inProgress": nil, "failed": nil}
	ignored   = shape{"paths": nil, "target": selector}
	cluster   = shape{"secretRef": {"name": nil, "key": nil}}
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
	"healthCheckExprs":   health,
	"ignore":             ignored,
	"serviceAccountName": nil,
	"kubeConfig":         cluster,
	"targetNamespace":    nil, "namePrefix": nil, "nameSuffix": nil,
	"commonMetadata": metadata,
	"components":     nil, "ignoreMissingComponents": nil,
	"patches":    patches,
	"images":     images,
	"postBuild":  {"substitute": nil, "substituteFrom": {"kind": nil, "name": nil, "optional": nil}, "substituteStrategy": nil},
	"decryption": {"provider": nil, "secretRef": name},
}}

var helmRelease = kind{"helm.toolkit.fluxcd.io/v2", shape{
	"chartRef": reference, "interval": nil, "timeout": nil, "suspend": nil, "releaseName": nil, "targetNamespace": nil, "storageNamespace": nil, "maxHistory": nil,
	"values": nil, "dependsOn": depends,
	"valuesFrom": {"kind": nil, "name": nil, "valuesKey": nil, "targetPath": nil, "literal": nil, "optional": nil},
	"install": {
		"timeout": nil, "createNamespace": nil, "crds": nil, "replace": nil, "disableWait": nil, "disableWaitForJobs": nil, "disableHooks": nil,
		"disableOpenAPIValidation": nil, "disableSchemaValidation": nil, "disableTakeOwnership": nil, "strategy": strategy,
		"remediation": {"retries": nil, "ignoreTestFailures": nil, "remediateLastFailure": nil},
	},
	"upgrade": {
		"timeout": nil, "crds": nil, "preserveValues": nil, "force": nil, "cleanupOnFail": nil, "disableWait": nil, "disableWaitForJobs": nil, "disableHooks": nil,
		"disableOpenAPIValidation": nil, "disableSchemaValidation": nil, "disableTakeOwnership": nil, "strategy": strategy,
		"remediation": {"retries": nil, "strategy": nil, "ignoreTestFailures": nil, "remediateLastFailure": nil},
	},
	"rollback":           {"timeout": nil, "disableWait": nil, "disableWaitForJobs": nil, "disableHooks": nil, "recreate": nil, "force": nil, "cleanupOnFail": nil},
	"uninstall":          {"timeout": nil, "keepHistory": nil, "disableWait": nil, "disableHooks": nil, "deletionPropagation": nil},
	"test":               {"enable": nil, "timeout": nil, "ignoreFailures": nil, "filters": {"name": nil, "exclude": nil}},
	"driftDetection":     {"mode": nil, "ignore": ignored},
	"postRenderers":      {"kustomize": {"patches": patches, "images": images}},
	"commonMetadata":     metadata,
	"healthCheckExprs":   health,
	"serviceAccountName": nil, "kubeConfig": cluster,
}}
