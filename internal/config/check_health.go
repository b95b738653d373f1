package config

import (
	"slices"
	"strings"

	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/towline/towline/internal/deploy"
	"github.com/towline/towline/internal/expr"
)

// rbacGroup is the API whose objects may have nearly any name, such as system:node.
const rbacGroup = "rbac.authorization.k8s.io"

// namespacedGroups have no kinds of the whole cluster, so an object of theirs without a namespace cannot be found.
var namespacedGroups = []string{"apps", "batch", "autoscaling"}

func (e *entry) checkHealthChecks(checks []deploy.HealthCheck) {
	seen := map[deploy.ObjectID]bool{}
	for i, c := range checks {
		path := item("healthChecks", i)
		group, ok := e.checkObjectKind(path, c.APIVersion, c.Kind)
		e.checkObjectName(path+".name", group, c.Name)
		e.checkLabel(path+".namespace", c.Namespace)
		if !ok || c.Name == "" {
			continue
		}
		if c.Namespace == "" && slices.Contains(namespacedGroups, group) && !e.brokenBelow(path+".namespace") {
			e.bad(path, "%s/%s lives in a namespace: say in which", c.Kind, c.Name)
		}
		id := deploy.ObjectID{Group: group, Kind: c.Kind, Namespace: c.Namespace, Name: c.Name}
		if seen[id] {
			e.bad(path, "%s is listed twice", id)
		}
		seen[id] = true
	}
}

func (e *entry) checkHealthCheckExprs(exprs []deploy.HealthCheckExpr) {
	first := map[apischema.GroupKind]int{}
	for i, x := range exprs {
		path := item("healthCheckExprs", i)
		if group, ok := e.checkObjectKind(path, x.APIVersion, x.Kind); ok {
			gk := apischema.GroupKind{Group: group, Kind: x.Kind}
			if n, taken := first[gk]; taken {
				e.bad(path, "%s has expressions already, in healthCheckExprs[%d]: keep one", gk, n)
			} else {
				first[gk] = i
			}
		}
		e.checkHealthExpr(path+".inProgress", x.InProgress, func(s string) (*expr.HealthRule, error) { return expr.Health(s, "", "true") })
		e.checkHealthExpr(path+".failed", x.Failed, func(s string) (*expr.HealthRule, error) { return expr.Health("", s, "true") })
		e.checkHealthExpr(path+".current", x.Current, func(s string) (*expr.HealthRule, error) { return expr.Health("", "", s) })
	}
}

// checkHealthExpr compiles one expression by itself, so that each is told at its own line.
func (e *entry) checkHealthExpr(path, text string, compile func(string) (*expr.HealthRule, error)) {
	if text == "" {
		e.emptyIfWritten(path, "want a CEL expression such as status.phase == 'Ready'")
		return
	}
	if _, err := compile(text); err != nil {
		e.badExpr(path, err)
	}
}

// checkReadyExprs compiles the expressions of dependencies.
func (e *entry) checkReadyExprs(deps []deploy.DependsOn) {
	for i, d := range deps {
		path := item("dependsOn", i) + ".readyExpr"
		if d.ReadyExpr == "" {
			e.emptyIfWritten(path, "want a CEL expression over dep and self")
			continue
		}
		if _, err := expr.Ready(d.ReadyExpr); err != nil {
			e.badExpr(path, err)
		}
	}
}

// badExpr reports what the compiler of expressions says. Its errors begin with the field's name, which the path ends with.
func (e *entry) badExpr(path string, err error) {
	text := strings.TrimPrefix(err.Error(), path[strings.LastIndexByte(path, '.')+1:])
	e.bad(path, "not a usable expression: %s", strings.TrimLeft(text, ",: "))
}

// checkObjectKind checks how an object's kind is named. ok says that the group is known and nothing is wrong.
func (e *entry) checkObjectKind(path, apiVersion, kind string) (group string, ok bool) {
	gv, err := apischema.ParseGroupVersion(apiVersion)
	const example = "want group/version such as apps/v1, or v1 for core kinds"
	switch {
	case apiVersion == "":
		e.emptyIfWritten(path+".apiVersion", example)
	case err != nil || gv.Group == "" && gv.Version != "v1", len(validation.IsDNS1035Label(gv.Version)) > 0,
		gv.Group != "" && len(validation.IsDNS1123Subdomain(gv.Group)) > 0:
		e.bad(path+".apiVersion", "%q is not an API version: %s", apiVersion, example)
	default:
		ok = true
	}
	if kind == "" {
		e.emptyIfWritten(path+".kind", "want the kind as manifests have it, such as Deployment")
		return gv.Group, false
	}
	if len(validation.IsDNS1035Label(strings.ToLower(kind))) > 0 {
		e.bad(path+".kind", "%q is not a kind: want it as manifests have it, such as Deployment", kind)
		return gv.Group, false
	}
	return gv.Group, ok
}

// checkObjectName checks the name of an object of any kind.
func (e *entry) checkObjectName(path, group, name string) {
	switch {
	case name == "":
		e.emptyIfWritten(path, "want the name of the object; there are no wildcards")
	case group == rbacGroup:
		if name == "." || name == ".." || strings.ContainsAny(name, "/%") {
			e.bad(path, "%q is not the name of an object: it has / or %%, or is . or ..", name)
		}
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		e.bad(path, "%q is not the name of an object: want lower-case letters, digits, - and .", name)
	}
}
