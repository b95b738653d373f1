package main

import (
	"errors"
	"io/fs"
	"net/http"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestWhatIsNotInTheCluster(t *testing.T) {
	resource := schema.GroupResource{Resource: "secrets"}
	for name, c := range map[string]struct {
		err    error
		absent bool
	}{
		"the API server says so":              {apierrors.NewNotFound(resource, "keys"), true},
		"a proxy has no such page":            {apierrors.NewGenericServerResponse(http.StatusNotFound, "get", resource, "keys", "<html>", 0, true), false},
		"the agent may not look":              {apierrors.NewForbidden(resource, "keys", errors.New("no role")), false},
		"the API server is not there":         {errors.New("connection refused"), false},
		"the API server is about to be there": {apierrors.NewServiceUnavailable("etcd"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := named("secret", "apps", "keys", c.err); errors.Is(err, fs.ErrNotExist) != c.absent {
				t.Errorf("error %v: counts as absent: %t", err, !c.absent)
			}
		})
	}
}
