package main

import (
	"bytes"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestSecretsAreMaskedInEveryPlace(t *testing.T) {
	secret := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{"name": "a", "annotations": map[string]any{
			"kubectl.kubernetes.io/last-applied-configuration": `{"stringData":{"password":"canary"}}`, "team": "shop",
		}},
		"data": map[string]any{"password": "Y2FuYXJ5"}, "stringData": map[string]any{"password": "canary"},
	}}
	var out bytes.Buffer
	if err := writeObjects(&out, []*unstructured.Unstructured{secret}, false); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); strings.Contains(s, "canary") || strings.Contains(s, "Y2FuYXJ5") || !strings.Contains(s, "team: shop") {
		t.Errorf("written:\n%s", s)
	}
	out.Reset()
	if err := writeObjects(&out, []*unstructured.Unstructured{secret}, true); err != nil || !strings.Contains(out.String(), "canary") {
		t.Errorf("with leave: %v\n%s", err, out.String())
	}
}
