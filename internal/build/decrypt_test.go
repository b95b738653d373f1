package build_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/towline/towline/internal/build"
	"github.com/towline/towline/internal/deploy"
)

// sopsFile is a fixture of package sops.
func sopsFile(t testing.TB, p string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("sops", "testdata", filepath.FromSlash(p)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// keySecrets are the Secrets that builds read, by namespace/name.
type keySecrets map[string]map[string][]byte

func (s keySecrets) read(_ context.Context, kind, namespace, name string) (map[string][]byte, error) {
	data, ok := s[namespace+"/"+name]
	if !ok || kind != "Secret" {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}
	return data, nil
}

func withKeys(t testing.TB) build.Options {
	t.Helper()
	return build.Options{Read: keySecrets{
		"ns/keys": {
			"one.agekey": []byte(sopsFile(t, "keys/one.agekey")), "two.agekey": []byte(sopsFile(t, "keys/two.agekey")),
			"one.asc": []byte(sopsFile(t, "keys/one.asc")), "README": []byte("not a key"),
		},
		"ns/other":  {"other.agekey": []byte(sopsFile(t, "keys/other.agekey"))},
		"ns/locked": {"locked.asc": []byte(sopsFile(t, "keys/locked.asc"))},
		"ns/none":   {"token": []byte("x")},
		"ns/plugin": {"x.agekey": []byte("AGE-PLUGIN-CANARY-1")},
	}.read}
}

// listOf puts objects into a list.
func listOf(objects ...string) string {
	list := "apiVersion: v1\nkind: List\nitems:\n"
	for _, o := range objects {
		list += "-\n  " + strings.ReplaceAll(strings.TrimSpace(o), "\n", "\n  ") + "\n"
	}
	return list
}

func decryptWith(secret string) *deploy.Decryption {
	return &deploy.Decryption{Provider: deploy.DecryptionSOPS, SecretRef: &deploy.LocalRef{Name: secret}}
}

// field is a value in an object, of a Secret's data as text.
func field(t *testing.T, objects []*unstructured.Unstructured, id string, path ...string) string {
	t.Helper()
	for _, o := range objects {
		if o.GetKind()+"/"+o.GetName() != id {
			continue
		}
		s, _, err := unstructured.NestedString(o.Object, path...)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := base64.StdEncoding.DecodeString(s); err == nil && o.GetKind() == "Secret" && path[0] == "data" {
			return string(raw)
		}
		return s
	}
	t.Fatalf("no %s in %v", id, ids(objects))
	return ""
}

func TestBuildDecrypts(t *testing.T) {
	generator := func(kind, entry string) string {
		return kind + ": [{name: g, " + entry + "}]\ngeneratorOptions: {disableNameSuffixHash: true}\n"
	}
	for _, tc := range []struct {
		name  string
		files files
		spec  deploy.KustomizationSpec
		id    string
		path  []string
		want  string
	}{
		{"a file that nothing lists", files{"s.yaml": sopsFile(t, "encrypted/age.yaml")}, deploy.KustomizationSpec{}, "Secret/database", []string{"stringData", "password"}, "correct-horse-battery"},
		{"a file that is listed", files{"s.yaml": sopsFile(t, "encrypted/pgp.yaml"), "kustomization.yaml": "resources: [s.yaml]"}, deploy.KustomizationSpec{}, "Secret/database", []string{"stringData", "password"}, "correct-horse-battery"},
		{"an object that kustomize changes", files{"s.yaml": sopsFile(t, "encrypted/regex.yaml")}, deploy.KustomizationSpec{NamePrefix: "my-", TargetNamespace: "other"}, "Secret/my-database", []string{"stringData", "user"}, "shop"},
		{"groups of keys", files{"s.yaml": sopsFile(t, "encrypted/groups.yaml")}, deploy.KustomizationSpec{}, "Secret/database", []string{"stringData", "user"}, "shop"},
		{"all documents of a file", files{"s.yaml": sopsFile(t, "encrypted/multi.yaml")}, deploy.KustomizationSpec{}, "Secret/third", []string{"stringData", "c"}, "three"},
		{"an object of a list", files{"s.yaml": listOf(configMap("c"), sopsFile(t, "encrypted/regex.yaml"))}, deploy.KustomizationSpec{}, "Secret/database", []string{"stringData", "user"}, "shop"},
		{"a list after other documents", files{"s.yaml": configMap("d") + "---\n" + listOf(sopsFile(t, "encrypted/age.yaml"), configMap("c")) + "---\n" + configMap("e")}, deploy.KustomizationSpec{NamePrefix: "my-"},
			"Secret/my-database", []string{"stringData", "user"}, "shop"},
		{"files of a secretGenerator", files{"n.txt": sopsFile(t, "encrypted/note.txt"), "kustomization.yaml": generator("secretGenerator", "files: [note=n.txt]")}, deploy.KustomizationSpec{}, "Secret/g", []string{"data", "note"}, sopsFile(t, "decrypted/note.txt")},
		{"bytes that are no text", files{"note": sopsFile(t, "encrypted/blob.bin"), "kustomization.yaml": generator("secretGenerator", "files: [note]")}, deploy.KustomizationSpec{}, "Secret/g", []string{"data", "note"}, sopsFile(t, "decrypted/blob.bin")},
		{"envs of a secretGenerator", files{"app.env": sopsFile(t, "encrypted/app.env"), "kustomization.yaml": generator("secretGenerator", "envs: [app.env]")}, deploy.KustomizationSpec{}, "Secret/g", []string{"data", "PASSWORD"}, "correct=horse battery # no comment"},
		{"envs with another name", files{"variables": sopsFile(t, "encrypted/app.env"), "kustomization.yaml": generator("secretGenerator", "envs: [variables]")}, deploy.KustomizationSpec{}, "Secret/g", []string{"data", "USER"}, "shop"},
		{"an ini file of a configMapGenerator", files{"app.ini": sopsFile(t, "encrypted/app.ini"), "kustomization.yaml": generator("configMapGenerator", "files: [app.ini]")}, deploy.KustomizationSpec{}, "ConfigMap/g", []string{"data", "app.ini"}, sopsFile(t, "decrypted/app.ini")},
		{"a JSON file", files{"a.json": sopsFile(t, "encrypted/secret.json"), "kustomization.yaml": generator("configMapGenerator", "files: [a.json]")}, deploy.KustomizationSpec{}, "ConfigMap/g", []string{"data", "a.json"}, sopsFile(t, "decrypted/secret.json")},
		{"a patch", files{"s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: database, namespace: shop}\n", "p.yaml": sopsFile(t, "encrypted/age.yaml"),
			"kustomization.yaml": "resources: [s.yaml]\npatches: [{path: p.yaml}]"}, deploy.KustomizationSpec{}, "Secret/database", []string{"stringData", "user"}, "shop"},
		{"a file inside of a plain Secret", files{"s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {app.env: " + base64.StdEncoding.EncodeToString([]byte(sopsFile(t, "encrypted/app.env"))) + "}"}, deploy.KustomizationSpec{},
			"Secret/s", []string{"data", "app.env"}, sopsFile(t, "decrypted/app.env")},
		{"nothing where nothing is encrypted", files{"c.yaml": configMap("plain") + "data: {sops: is a word}\n"}, deploy.KustomizationSpec{}, "ConfigMap/plain", []string{"data", "sops"}, "is a word"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spec.Decryption = decryptWith("keys")
			objects, err := build.New(withKeys(t)).Build(t.Context(), target(tc.spec), write(t, tc.files))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, field(t, objects, tc.id, tc.path...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, o := range objects {
				if _, ok := o.Object["sops"]; ok {
					t.Errorf("%s still has its sops metadata", o.GetName())
				}
			}
		})
	}
}

func TestBuildDecryptsWithKeysOfFiles(t *testing.T) {
	keys := write(t, files{"a.agekey": sopsFile(t, "keys/one.agekey"), "b.txt": "x"})
	artifact := write(t, files{"s.yaml": sopsFile(t, "encrypted/age.yaml")})
	spec := deploy.KustomizationSpec{Decryption: &deploy.Decryption{Provider: deploy.DecryptionSOPS, Keys: []string{filepath.Join(keys, "a.agekey")}}}
	objects, err := build.Builder{}.Build(t.Context(), target(spec), artifact)
	if err != nil {
		t.Fatal(err)
	}
	if got := field(t, objects, "Secret/database", "stringData", "user"); got != "shop" {
		t.Errorf("got %q", got)
	}
	for file, want := range map[string]string{"b.txt": "has to end in .agekey or .asc", "c.agekey": "no such file"} {
		spec.Decryption.Keys = []string{filepath.Join(keys, file)}
		_, err := build.Builder{}.Build(t.Context(), target(spec), artifact)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestBuildDoesNotAskForKeysInVain(t *testing.T) {
	read := func(context.Context, string, string, string) (map[string][]byte, error) {
		return nil, errors.New("it was asked")
	}
	dir := write(t, files{"c.yaml": configMap("plain")})
	if _, err := build.New(build.Options{Read: read}).Build(t.Context(), target(deploy.KustomizationSpec{Decryption: decryptWith("keys")}), dir); err != nil {
		t.Error(err)
	}
}

func TestBuildRefusesToDecrypt(t *testing.T) {
	encrypted := sopsFile(t, "encrypted/age.yaml")
	plainSecret := func(s string) string { return "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n" + s }
	changed := regexp.MustCompile(`name: database`).ReplaceAllString(sopsFile(t, "encrypted/regex.yaml"), "name: changed")
	for _, tc := range []struct {
		name  string
		files files
		with  *deploy.Decryption
		want  string
	}{
		{"an encrypted file without spec.decryption", files{"s.yaml": encrypted}, nil, "s.yaml is encrypted with sops: set spec.decryption"},
		{"one that is listed", files{"s.yaml": encrypted, "kustomization.yaml": "resources: [s.yaml]"}, nil, "s.yaml is encrypted with sops: set spec.decryption"},
		{"an encrypted patch without it", files{"s.yaml": plainSecret(""), "p.yaml": sopsFile(t, "encrypted/regex.yaml"), "kustomization.yaml": "resources: [s.yaml]\npatches: [{path: p.yaml, target: {kind: Secret}, options: {allowNameChange: true}}]"}, nil, "is encrypted with sops: set spec.decryption"},
		{"a generator's file without it", files{"note": sopsFile(t, "encrypted/note.txt"), "kustomization.yaml": "secretGenerator: [{name: g, files: [note]}]"}, nil, "data.note is encrypted with sops: set spec.decryption"},
		{"a value in stringData", files{"s.yaml": plainSecret("stringData: {a: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]'}")}, nil, "stringData.a is encrypted with sops: set spec.decryption"},
		{"a value in data", files{"s.yaml": plainSecret("data: {a: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]'}")}, decryptWith("keys"), "data.a holds a value that sops encrypted, without what is needed"},
		{"a Secret that is not there", files{"s.yaml": encrypted}, decryptWith("no"), "decryption: the Secret ns/no: it is not there"},
		{"a Secret without keys", files{"s.yaml": encrypted}, decryptWith("none"), "decryption: the Secret ns/none: it has no key that ends in .agekey or .asc"},
		{"a key with a passphrase", files{"s.yaml": encrypted}, decryptWith("locked"), "locked.asc: key "},
		{"an age plugin", files{"s.yaml": encrypted}, decryptWith("plugin"), "x.agekey: line 1 is the identity of an age plugin"},
		{"a key that does not fit", files{"a/s.yaml": encrypted}, decryptWith("other"), "decrypt a/s.yaml: none of the keys that were tried (1 age, 0 OpenPGP) opens it: it is for age1"},
		{"a file that was changed", files{"s.yaml": changed}, decryptWith("keys"), "decrypt s.yaml: the file was changed after it was encrypted"},
		{"an object of a list that was changed", files{"s.yaml": listOf(changed)}, decryptWith("keys"), "decrypt s.yaml: the file was changed after it was encrypted"},
		{"an object of a list without it", files{"s.yaml": listOf(encrypted)}, nil, "s.yaml is encrypted with sops: set spec.decryption"},
		{"a generator's file that was changed", files{"a.env": strings.Replace(sopsFile(t, "encrypted/app.env"), "=seen", "=other", 1), "kustomization.yaml": "secretGenerator: [{name: g, envs: [a.env]}]"}, decryptWith("keys"), "decrypt a.env: the file was changed"},
		{"another provider", files{"s.yaml": encrypted}, &deploy.Decryption{Provider: "vault"}, `decryption.provider "vault" is not known: sops is`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			objects, err := build.New(withKeys(t)).Build(t.Context(), target(deploy.KustomizationSpec{Decryption: tc.with}), write(t, tc.files))
			if err == nil {
				t.Fatalf("it builds %v", ids(objects))
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q has no %q", err, tc.want)
			}
			for _, secret := range []string{"correct", "CANARY", "AGE-SECRET", "PRIVATE KEY"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error shows %q: %v", secret, err)
				}
			}
		})
	}
	t.Run("a Secret where there is no cluster", func(t *testing.T) {
		_, err := build.Builder{}.Build(t.Context(), target(deploy.KustomizationSpec{Decryption: decryptWith("keys")}), write(t, files{"s.yaml": encrypted}))
		if err == nil || !strings.Contains(err.Error(), "there is no cluster to read it from") {
			t.Error(err)
		}
	})
}

func TestBuildLeavesEncryptedWhatIsMarked(t *testing.T) {
	marked := "apiVersion: v1\nkind: Secret\nmetadata: {name: s, annotations: {kustomize.toolkit.fluxcd.io/decrypt: disabled}}\nstringData: {a: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]'}\n" +
		"sops: {mac: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]', version: 3.9.0, lastmodified: '2025-01-01T00:00:00Z'}\n"
	for name, with := range map[string]*deploy.Decryption{"with decryption": decryptWith("keys"), "without": nil} {
		t.Run(name, func(t *testing.T) {
			objects, err := build.New(withKeys(t)).Build(t.Context(), target(deploy.KustomizationSpec{Decryption: with}), write(t, files{"s.yaml": marked}))
			if err != nil {
				t.Fatal(err)
			}
			if got := field(t, objects, "Secret/s", "stringData", "a"); !strings.HasPrefix(got, "ENC[") {
				t.Errorf("got %q", got)
			}
		})
	}
}
