package sops

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func fixture(t testing.TB, elements ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, elements...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keysOf(t testing.TB, files ...string) *Keys {
	t.Helper()
	k := &Keys{}
	for _, f := range files {
		if err := k.Add(f, fixture(t, "keys", f)); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// enough opens every fixture.
func enough(t testing.TB) *Keys {
	return keysOf(t, "one.agekey", "two.agekey", "quantum.agekey", "one.asc", "two.asc")
}

func encryptedFiles(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", "encrypted"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestDecryptGivesWhatSopsGives(t *testing.T) {
	keys := enough(t)
	for _, name := range encryptedFiles(t) {
		t.Run(name, func(t *testing.T) {
			content := fixture(t, "encrypted", name)
			if !Encrypted(name, content) {
				t.Error("it is not seen to be encrypted")
			}
			got, err := Decrypt(name, content, keys)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(fixture(t, "decrypted", name)), string(got)); diff != "" {
				t.Errorf("(-sops +got):\n%s", diff)
			}
			if Encrypted(name, got) {
				t.Error("what came out is seen to be encrypted")
			}
		})
	}
}

func TestDecryptFindsTheFormat(t *testing.T) {
	keys := enough(t)
	for _, name := range []string{"age.yaml", "secret.json", "app.env", "app.ini", "note.txt", "blob.bin"} {
		t.Run("of "+name+" without its name", func(t *testing.T) {
			got, err := Decrypt("file", fixture(t, "encrypted", name), keys)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(fixture(t, "decrypted", name)), string(got)); diff != "" {
				t.Errorf("(-sops +got):\n%s", diff)
			}
		})
	}
}

func TestDecryptWith(t *testing.T) {
	tests := []struct {
		name, file string
		keys       []string
		want       string // in the error
	}{
		{name: "the first of two age recipients", file: "regex.yaml", keys: []string{"one.agekey"}},
		{name: "the second of two age recipients", file: "regex.yaml", keys: []string{"other.agekey", "two.agekey"}},
		{name: "the age key of a file for both", file: "both.yaml", keys: []string{"two.agekey"}},
		{name: "the OpenPGP key of a file for both", file: "both.yaml", keys: []string{"other.agekey", "two.asc", "one.asc"}},
		{name: "an RSA key", file: "pgp.yaml", keys: []string{"one.asc"}},
		{name: "an elliptic curve key", file: "pgp-ecc.yaml", keys: []string{"two.asc"}},
		{name: "a key against quantum computers", file: "quantum.yaml", keys: []string{"quantum.agekey"}},
		{name: "groups one and two", file: "groups.yaml", keys: []string{"one.agekey", "two.agekey"}},
		{name: "groups one and three", file: "groups.yaml", keys: []string{"one.agekey", "one.asc"}},
		{name: "groups two and three", file: "groups.ini", keys: []string{"one.asc", "two.agekey"}},
		{name: "all groups", file: "groups.env", keys: []string{"one.agekey", "two.agekey", "one.asc"}},
		{name: "one group of two", file: "groups.yaml", keys: []string{"two.agekey"}, want: "2 of its 3 key groups are needed and 1 could be opened"},
		{name: "no key", file: "age.yaml", want: "none of the keys that were tried (0 age, 0 OpenPGP) opens it: it is for age1"},
		{name: "the wrong keys", file: "both.yaml", keys: []string{"one.agekey", "two.asc"}, want: "(1 age, 1 OpenPGP) opens it: it is for age1"},
		{name: "a wrong OpenPGP key", file: "pgp.yaml", keys: []string{"two.asc"}, want: "it is for OpenPGP "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decrypt(tt.file, fixture(t, "encrypted", tt.file), keysOf(t, tt.keys...))
			refused(t, got, err, tt.want)
			if tt.want == "" && !bytes.Equal(got, fixture(t, "decrypted", tt.file)) {
				t.Error("it opens to something else")
			}
		})
	}
}

// refused checks an error: empty want means none.
func refused(t *testing.T, got []byte, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Fatal(err)
	case want != "" && err == nil:
		t.Fatalf("no error, but %q is wanted", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Fatalf("error %q has no %q", err, want)
	case want != "" && got != nil:
		t.Fatal("something comes with the error")
	}
}

// replace gives a fixture with one change; it fails if there is nothing to change.
func replace(t *testing.T, file, pattern, by string) []byte {
	t.Helper()
	content := fixture(t, "encrypted", file)
	out := regexp.MustCompile(pattern).ReplaceAll(content, []byte(by))
	if bytes.Equal(content, out) {
		t.Fatalf("%s has nothing like %s", file, pattern)
	}
	return out
}

func TestDecryptRefusesWhatWasChanged(t *testing.T) {
	const mark = "changed after it was encrypted"
	macOf := func(file string) string {
		return string(regexp.MustCompile(`mac: (.*)`).FindSubmatch(fixture(t, "encrypted", file))[1])
	}
	tests := []struct {
		name, file, pattern, by, want string
	}{
		{"a value moved to another key", "age.yaml", `(?m)^( *)user: (.*)\n *password: (.*)$`, "${1}user: ${3}\n${1}password: ${2}", "does not open with the key of the file, at this place of it"},
		{"a key renamed", "age.yaml", `password: `, "passwort: ", `"stringData.passwort"`},
		{"a value removed", "age.yaml", `\n *password: .*`, "", "its values do not match its mac"},
		{"an encrypted value made plain", "age.yaml", `password: .*`, "password: canary-plain", "is not encrypted though it should be"},
		{"an encrypted value made a number", "age.yaml", `password: .*`, "password: 31337", "is not encrypted though it should be"},
		{"an encrypted value emptied", "age.yaml", `password: .*`, `password: ""`, "its values do not match its mac"},
		{"a plain value changed", "regex.yaml", `name: database`, "name: other", "its values do not match its mac"},
		{"a plain value added", "regex.yaml", `name: database`, "added: canary\n    name: database", "its values do not match its mac"},
		{"a value added beside encrypted ones", "maconly.yaml", `stringData:`, "stringData:\n    added: canary", "is not encrypted"},
		{"elements of a list in another order", "values.yaml", `(?m)^( +- ENC.*type:int\].*)\n( +- ENC.*type:bool\].*)$`, "$2\n$1", "its values do not match its mac"},
		{"the mac removed", "age.yaml", `\n *mac: .*`, "", "has no mac"},
		{"the mac emptied", "age.yaml", `mac: .*`, `mac: ""`, "has no mac"},
		{"the mac of another file", "age.yaml", `mac: .*`, "mac: " + macOf("values.yaml"), "its mac does not open"},
		{"the time changed", "age.yaml", `lastmodified: "2`, `lastmodified: "3`, "its mac does not open"},
		{"its sum said to be of encrypted values only", "regex.yaml", `(?m)^( +)mac: `, "${1}mac_only_encrypted: true\n${1}mac: ", "its values do not match its mac"},
		{"its sum said to be of all values", "maconly.yaml", `\n *mac_only_encrypted: true`, "", "its values do not match its mac"},
		{"its rule removed", "regex.yaml", `\n *encrypted_regex: .*`, "", "is not encrypted though it should be"},
		{"a type changed", "values.yaml", `type:int\]`, "type:str]", ""},
		{"a document removed", "multi.yaml", `(?s)\n---\n#ENC.*?\n---\n`, "\n---\n", "its values do not match its mac"},
		{"a document made plain", "multi.yaml", `(?s)\n---\n#ENC.*?\n---\n`, "\n---\napiVersion: v1\nkind: ConfigMap\n---\n", "its values do not match its mac"},
		{"a line of a dotenv file changed", "app.env", `TOKEN_unencrypted=seen`, "TOKEN_unencrypted=other", "its values do not match its mac"},
		{"a line of an ini file changed", "app.ini", `= plain`, "= other", "its values do not match its mac"},
		{"a value of JSON changed", "secret.json", `"seen"`, `"other"`, "its values do not match its mac"},
		{"a text of another form", "note.txt", `,tag:[^,]*`, ``, "is not as sops writes encrypted values"},
	}
	keys := enough(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			content := replace(t, tt.file, tt.pattern, tt.by)
			got, err := Decrypt(tt.file, content, keys)
			if tt.name == "a type changed" { // a type is not part of the sum, which is of texts: sops takes it too
				refused(t, got, err, "")
				return
			}
			want := tt.want
			if want == "" {
				want = mark
			}
			refused(t, got, err, want)
			refused(t, got, err, mark)
			if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "31337") {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

func TestDecryptRefusesMetadata(t *testing.T) {
	tests := []struct {
		name, file, pattern, by, want string
	}{
		{"for a service only", "age.yaml", `(?s)    age:.*?    lastmodified`, "    kms:\n        - arn: arn:aws:kms:x\n          enc: AAAA\n    hc_vault:\n        - enc: BBBB\n    lastmodified",
			"it is encrypted for AWS KMS and Vault only, and age and OpenPGP keys are all that is used here"},
		{"without recipients", "age.yaml", `(?s)    age:.*?    lastmodified`, "    lastmodified", "names no keys"},
		{"with two rules", "regex.yaml", `encrypted_regex: .*`, "encrypted_regex: a\n    encrypted_suffix: b", "more than one rule"},
		{"with a broken rule", "regex.yaml", `encrypted_regex: .*`, "encrypted_regex: '('", "encrypted_regex of its sops metadata is no regular expression"},
		{"without a time", "age.yaml", `lastmodified: .*`, "lastmodified: yesterday", "lastmodified of its sops metadata is no time"},
		{"that needs more groups than there are", "groups.yaml", `shamir_threshold: 2`, "shamir_threshold: 4", "4 of its 3 key groups are needed and 3 could be opened"},
		{"with a broken data key", "age.yaml", `BEGIN AGE`, "BEGIN AGED", "none of the keys that were tried"},
		{"with keys in lists that do not fit", "app.env", `sops_mac=`, "sops_age__list_0=x\nsops_mac=", "is there twice"},
	}
	keys := enough(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decrypt(tt.file, replace(t, tt.file, tt.pattern, tt.by), keys)
			refused(t, got, err, tt.want)
		})
	}
}

func TestDecryptLeavesOthersAlone(t *testing.T) {
	for name, content := range map[string]string{
		"empty.yaml":  "",
		"plain.yaml":  "a: b\n",
		"text.yaml":   "sops: is a tool, lastmodified is a word\n",
		"map.yaml":    "sops: {image: x, lastmodified: 2020}\n",
		"other.json":  `{"sops": {"enabled": true, "mac": "00:11"}, "lastmodified": 1}`,
		"broken.json": `{"sops": {"lastmodified": `,
		"broken.yaml": "sops:\n lastmodified\n\t- x",
		"list.yaml":   "- sops\n- lastmodified\n",
		"a.env":       "sops_home=/x\nlastmodified=1\n",
		"a.ini":       "[sops]\nlastmodified = 1\n",
		"a.bin":       "sops\x00lastmodified\xff",
	} {
		t.Run(name, func(t *testing.T) {
			if Encrypted(name, []byte(content)) {
				t.Error("it is seen to be encrypted")
			}
			got, err := Decrypt(name, []byte(content), &Keys{})
			if err != nil || string(got) != content {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestDecryptTakesJoinedFiles(t *testing.T) {
	joined := bytes.Join([][]byte{fixture(t, "encrypted", "age.yaml"), []byte("kept: as it is # really\n"), fixture(t, "encrypted", "pgp.yaml")}, []byte("---\n"))
	want := bytes.Join([][]byte{fixture(t, "decrypted", "age.yaml"), []byte("kept: as it is # really\n"), fixture(t, "decrypted", "pgp.yaml")}, []byte("---\n"))
	got, err := Decrypt("joined.yaml", joined, enough(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecryptBoundsAliases(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 9; i++ {
		from := string(rune('0' + i - 1))
		b.WriteString("a" + string(rune('0'+i)) + ": &a" + string(rune('0'+i)) + " [" + strings.Repeat("*a"+from+", ", 8) + "*a" + from + "]\n")
	}
	b.WriteString("sops: {mac: x, version: '3', lastmodified: '2020-01-01T00:00:00Z'}\n")
	got, err := Decrypt("bomb.yaml", []byte(b.String()), &Keys{})
	refused(t, got, err, "its aliases make it too large")

	got, err = Decrypt("loop.yaml", []byte("a: &a {b: *a}\nsops: {mac: x, version: '3', lastmodified: '2020-01-01T00:00:00Z'}\n"), &Keys{})
	if err == nil {
		t.Errorf("an alias of itself gives %q", got)
	}
}

// TestErrorsKeepSecrets changes each file at many places and looks at what the errors say.
func TestErrorsKeepSecrets(t *testing.T) {
	secrets := []string{"correct-horse", "correct=horse", "AGE-SECRET", "BEGIN PGP PRIVATE", "just some text", "plain words"}
	for _, f := range []string{"one.agekey", "two.agekey", "quantum.agekey"} {
		for line := range strings.Lines(string(fixture(t, "keys", f))) {
			if strings.HasPrefix(line, "AGE-SECRET") {
				secrets = append(secrets, strings.TrimSpace(line)[len(line)/2:])
			}
		}
	}
	keys := enough(t)
	for _, name := range []string{"age.yaml", "groups.env", "app.ini", "secret.json", "note.txt"} {
		content := fixture(t, "encrypted", name)
		for at := 0; at < len(content); at += 23 {
			wrong := bytes.Clone(content)
			wrong[at] ^= 0x15
			_, err := Decrypt(name, wrong, keys)
			for _, s := range secrets {
				if err != nil && strings.Contains(err.Error(), s) {
					t.Fatalf("byte %d of %s: the error shows %q", at, name, s)
				}
			}
		}
	}
}

func TestKeysAdd(t *testing.T) {
	identity := strings.TrimSpace(string(fixture(t, "keys", "one.agekey")))
	two := string(fixture(t, "keys", "one.agekey")) + "\r\n\n# another\n  " + string(fixture(t, "keys", "quantum.agekey"))
	tests := []struct {
		name, file, content string
		count               int
		want                string
	}{
		{"several identities and comments", "a.agekey", two, 2, ""},
		{"another name", "README.md", "anything", 0, ""},
		{"several OpenPGP keys", "a.asc", "some text\n" + string(fixture(t, "keys", "one.asc")) + string(fixture(t, "keys", "two.asc")), 2, ""},
		{"no identity", "a.agekey", "# nothing\n", 0, "a.agekey: it has no age identity"},
		{"a broken identity", "a.agekey", "# x\n" + identity[:len(identity)-1], 0, "a.agekey: line 4 is no age identity"},
		{"a plugin", "a.agekey", "AGE-PLUGIN-YUBIKEY-1CANARY", 0, "line 1 is the identity of an age plugin"},
		{"an identity with a passphrase", "a.agekey", "-----BEGIN AGE ENCRYPTED FILE-----\ncanary", 0, "nobody is here to give a passphrase"},
		{"an OpenPGP key with a passphrase", "a.asc", string(fixture(t, "keys", "locked.asc")), 0, "is protected by a passphrase"},
		{"a public OpenPGP key", "a.asc", string(fixture(t, "keys", "public.asc")), 0, "a.asc: it is no private key"},
		{"no OpenPGP key", "a.asc", "canary", 0, "it has no armored OpenPGP key"},
		{"a broken OpenPGP key", "a.asc", string(fixture(t, "keys", "one.asc"))[:400], 0, "it is no "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := &Keys{}
			err := k.Add(tt.file, []byte(tt.content))
			refused(t, nil, err, tt.want)
			if k.Len() != tt.count {
				t.Errorf("there are %d keys, not %d", k.Len(), tt.count)
			}
			if err != nil && (strings.Contains(err.Error(), "CANARY") || strings.Contains(err.Error(), "AGE-SECRET-KEY-1") || strings.Contains(err.Error(), "canary")) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func TestRecipientsAreShownOnlyInTheirForm(t *testing.T) {
	for name, want := range map[string]string{
		"AGE-SECRET-KEY-1CANARY":         "an age key",
		"age1 canary":                    "an age key",
		"age1" + strings.Repeat("q", 99): "age1" + strings.Repeat("q", 58) + "…",
	} {
		if got := (recipient{name: name}).String(); got != want {
			t.Errorf("%q is shown as %q", name, got)
		}
	}
	if got := (recipient{pgp: true, name: "canary"}).String(); got != "an OpenPGP key" {
		t.Errorf("it is shown as %q", got)
	}
}

func TestCombine(t *testing.T) {
	// Two shares of the line y = secret + slope·x.
	secret, slope := make([]byte, 32), make([]byte, 32)
	_, _ = rand.Read(secret)
	_, _ = rand.Read(slope)
	share := func(x byte) []byte {
		s := make([]byte, 33)
		for i := range secret {
			s[i] = secret[i] ^ multiply(slope[i], x)
		}
		s[32] = x
		return s
	}
	t.Run("recovers the secret from any two shares, and from more", func(t *testing.T) {
		for _, xs := range [][]byte{{1, 2}, {2, 1}, {7, 255}, {1, 2, 3}} {
			var shares [][]byte
			for _, x := range xs {
				shares = append(shares, share(x))
			}
			got, err := combine(shares)
			if err != nil || !bytes.Equal(got, secret) {
				t.Errorf("from %v: %v", xs, err)
			}
		}
	})
	t.Run("refuses shares that are no two", func(t *testing.T) {
		for _, shares := range [][][]byte{{share(1), share(1)}, {share(1), share(0)}, {share(1), share(2)[1:]}, {{1}, {2}}} {
			if _, err := combine(shares); err == nil {
				t.Error("no error")
			}
		}
	})
	t.Run("inverts all numbers", func(t *testing.T) {
		for a := 1; a < 256; a++ {
			if multiply(byte(a), inverse(byte(a))) != 1 {
				t.Errorf("the inverse of %d is wrong", a)
			}
		}
	})
}

// stillEncrypted finds values; comments stay as they are.
var stillEncrypted = regexp.MustCompile(`ENC\[[^\]]*type:(str|int|float|bool|bytes)\]`)

// What is encrypted comes out otherwise each time, and nothing else does.
func TestDisguise(t *testing.T) {
	keys := enough(t)
	for _, name := range []string{"age.yaml", "regex.yaml", "multi.yaml", "app.env", "app.ini", "secret.json", "note.txt", "noted.yaml"} {
		t.Run(name, func(t *testing.T) {
			content := fixture(t, "encrypted", name)
			a, err := Disguise(name, content, keys)
			if err != nil {
				t.Fatal(err)
			}
			b, err := Disguise(name, content, keys)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(a, b) || bytes.Equal(a, content) || bytes.Contains(a, []byte("horse")) || stillEncrypted.Match(a) {
				t.Errorf("it became\n%s", a)
			}
		})
	}
	t.Run("names stay", func(t *testing.T) {
		got, err := Disguise("age.yaml", fixture(t, "encrypted", "age.yaml"), keys)
		for _, want := range []string{"apiVersion: v1\n", "kind: Secret\n", "    name: database", "    namespace: shop\n"} {
			if err != nil || !bytes.Contains(got, []byte(want)) {
				t.Errorf("%v: no %q in\n%s", err, want, got)
			}
		}
	})
	t.Run("a changed file is refused as ever", func(t *testing.T) {
		changed := bytes.Replace(fixture(t, "encrypted", "regex.yaml"), []byte("namespace: shop"), []byte("namespace: else"), 1)
		if _, err := Disguise("regex.yaml", changed, keys); err == nil {
			t.Error("it was opened")
		}
	})
}

func FuzzDecrypt(f *testing.F) {
	for _, name := range encryptedFiles(f) {
		f.Add(name, fixture(f, "encrypted", name))
	}
	f.Add("a.yaml", []byte("a: &a {b: *a}\nsops: {mac: x, version: '3', lastmodified: '2020-01-01T00:00:00Z'}\n"))
	keys := keysOf(f, "one.agekey", "two.asc")
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		got, err := decrypt(name, content, keys, len(content)%2 == 0) // without the net that Decrypt has below it
		if err != nil && got != nil {
			t.Error("something comes with the error")
		}
	})
}

// A long value over lines took a copy of all before for each line.
func TestLongValuesTakeNoHours(t *testing.T) {
	const lines = 1_000_000
	for name, content := range map[string]string{
		"continued": "[sops]\nlastmodified=x\n[a]\nb = x\\\n" + strings.Repeat("x\\\n", lines),
		"quoted":    "[sops]\nlastmodified=x\n[a]\nb = \"\"\"x\n" + strings.Repeat("x\n", lines) + "\"\"\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			Encrypted("a.ini", []byte(content))
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}
