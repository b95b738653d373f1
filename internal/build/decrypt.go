package build

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/towline/towline/internal/build/sops"
	"github.com/towline/towline/internal/deploy"
)

// decrypter opens what sops encrypted in an artifact. Files are opened where they are read, before kustomize changes anything: a changed object no longer matches
// its MAC.
type decrypter struct {
	// keys are read when the first encrypted file is; nil where spec.decryption is not set.
	keys func() (*sops.Keys, error)
	// opened files by their path: the check and kustomize both read them.
	opened map[string][]byte
	// failed is the first file that did not open: kustomize tells of it in its own words, or goes on.
	failed error
	// disguise: what was encrypted is replaced by random letters.
	disguise bool
}

// disguised is a decrypter with the same keys that replaces what was encrypted.
func (d *decrypter) disguised() *decrypter {
	return &decrypter{keys: d.keys, opened: make(map[string][]byte), disguise: true}
}

// decryption is the decrypter of a build.
func (r Builder) decryption(ctx context.Context, t deploy.Target) (*decrypter, error) {
	spec := t.Kustomization.Decryption
	if spec == nil {
		return &decrypter{}, nil
	}
	if spec.Provider != deploy.DecryptionSOPS {
		return nil, fmt.Errorf("decryption.provider %q is not known: %s is", spec.Provider, deploy.DecryptionSOPS)
	}
	keys := sync.OnceValues(func() (*sops.Keys, error) { return r.decryptionKeys(ctx, spec, t.Name.Namespace) })
	return &decrypter{keys: keys, opened: make(map[string][]byte)}, nil
}

// decryptionKeys reads the keys of the Secret and of the files.
func (r Builder) decryptionKeys(ctx context.Context, spec *deploy.Decryption, namespace string) (*sops.Keys, error) {
	keys := &sops.Keys{}
	if spec.SecretRef != nil {
		if err := r.secretKeys(ctx, keys, namespace, spec.SecretRef.Name); err != nil {
			return nil, fmt.Errorf("decryption: the Secret %s/%s: %w", namespace, spec.SecretRef.Name, err)
		}
	}
	for _, file := range spec.Keys {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("decryption: %w", err)
		}
		before := keys.Len()
		if err := keys.Add(file, content); err != nil {
			return nil, fmt.Errorf("decryption: %w", err)
		}
		if keys.Len() == before {
			return nil, fmt.Errorf("decryption: %s: its name has to end in .agekey or .asc, to tell which keys it holds", file)
		}
	}
	return keys, nil
}

func (r Builder) secretKeys(ctx context.Context, keys *sops.Keys, namespace, name string) error {
	if r.read == nil {
		return errors.New("there is no cluster to read it from")
	}
	data, err := r.read(ctx, "Secret", namespace, name)
	if apierrors.IsNotFound(err) {
		return errors.New("it is not there: create it")
	}
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if err := keys.Add(key, data[key]); err != nil {
			return err
		}
	}
	if keys.Len() == 0 {
		return errors.New("it has no key that ends in .agekey or .asc")
	}
	return nil
}

// file opens a file of the artifact. One that is not encrypted comes back as it is.
func (d *decrypter) file(name string, content []byte) ([]byte, error) {
	if d == nil || d.keys == nil {
		return content, nil
	}
	if opened, ok := d.opened[name]; ok {
		return opened, nil
	}
	if !sops.Encrypted(name, content) || leftEncrypted(content) {
		return content, nil
	}
	opened, err := d.open(name, content)
	if err != nil {
		err = fmt.Errorf("decrypt %s: %w", name, err)
		if d.failed == nil {
			d.failed = err
		}
		return nil, err
	}
	d.opened[name] = opened
	return opened, nil
}

func (d *decrypter) open(name string, content []byte) ([]byte, error) {
	keys, err := d.keys()
	if err != nil {
		return nil, err
	}
	if d.disguise {
		return sops.Disguise(name, content, keys)
	}
	return sops.Decrypt(name, content, keys)
}

// decryptMarks keep an object as it is where they are disabled, as annotation: something in the cluster opens it.
var decryptMarks = []string{"towline.dev/decrypt", "kustomize.toolkit.fluxcd.io/decrypt"}

func staysEncrypted(o *unstructured.Unstructured) bool {
	annotations := o.GetAnnotations()
	return slices.ContainsFunc(decryptMarks, func(m string) bool { return strings.EqualFold(annotations[m], "disabled") })
}

// leftEncrypted reports whether all objects of a file are marked to stay as they are.
func leftEncrypted(content []byte) bool {
	if !bytes.Contains(content, []byte("/decrypt")) {
		return false
	}
	objects, err := decode("", content)
	return err == nil && len(objects) > 0 && !slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return !staysEncrypted(o) })
}

// setDecryption is what to do about something encrypted where nothing decrypts.
const setDecryption = "set spec.decryption, or annotate it with towline.dev/decrypt: disabled if it is to stay so"

// unopened refuses a file of objects that is encrypted where nothing decrypts.
func (d *decrypter) unopened(name string, content []byte) error {
	if d != nil && d.keys != nil || !sops.Encrypted(name, content) || leftEncrypted(content) {
		return nil
	}
	return fmt.Errorf("%s is encrypted with sops: %s", name, setDecryption)
}

// secrets opens encrypted files that Secrets hold as values, and refuses objects that still are encrypted: they would reach the cluster as they are.
func (d *decrypter) secrets(objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		if staysEncrypted(o) {
			continue
		}
		if sops.IsMetadata(o.Object["sops"]) {
			if d.keys == nil {
				return fmt.Errorf("%s is encrypted with sops: %s", deploy.IDOf(o), setDecryption)
			}
			return fmt.Errorf("%s is encrypted inside of something else, a list or a patch of the spec: encrypt a file as a whole", deploy.IDOf(o))
		}
		if o.GetKind() != "Secret" || o.GetAPIVersion() != "v1" {
			continue
		}
		for _, field := range []string{"data", "stringData"} {
			values, _ := o.Object[field].(map[string]any)
			if err := d.values(values, field == "data"); err != nil {
				return fmt.Errorf("%s: %s.%w", deploy.IDOf(o), field, err)
			}
		}
	}
	return nil
}

// values opens what a Secret holds in a field, in place.
func (d *decrypter) values(values map[string]any, encoded bool) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		s, _ := values[key].(string)
		content := []byte(s)
		if encoded {
			if raw, err := base64.StdEncoding.DecodeString(s); err == nil {
				content = raw
			}
		}
		if !bytes.Contains(content, []byte(sops.ValueMark)) {
			continue
		}
		if d.keys == nil {
			return fmt.Errorf("%s is encrypted with sops: %s", key, setDecryption)
		}
		if !sops.Encrypted(key, content) {
			return fmt.Errorf("%s holds a value that sops encrypted, without what is needed to decrypt it", key)
		}
		opened, err := d.open(key, content)
		if err != nil {
			return fmt.Errorf("%s: decrypt: %w", key, err)
		}
		values[key] = string(opened)
		if encoded {
			values[key] = base64.StdEncoding.EncodeToString(opened)
		}
	}
	return nil
}
