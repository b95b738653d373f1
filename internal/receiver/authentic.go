package receiver

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // as an HMAC it is sound, and old senders know nothing else
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// hashes are those that X-Signature may be made with.
var hashes = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// authentic says what is wrong with the credentials of a webhook whose path is right; nil: nothing. The error holds none of them.
func authentic(receiver string, header http.Header, body []byte, token string) error {
	switch receiver {
	case deploy.ReceiverGenericHMAC:
		return signed("X-Signature", header.Get("X-Signature"), body, token)
	case deploy.ReceiverGitHub:
		signature := header.Get("X-Hub-Signature-256")
		if signature != "" && !strings.HasPrefix(signature, "sha256=") {
			return errors.New("the header X-Hub-Signature-256 is not sha256=HEX")
		}
		return signed("X-Hub-Signature-256", signature, body, token)
	case deploy.ReceiverHarbor: // which sends its field "auth header" as it is
		got := header.Get("Authorization")
		if got == "" {
			return errors.New("there is no header Authorization: put the token into the field Auth Header of Harbor's webhook")
		}
		if !hmac.Equal([]byte(got), []byte(token)) {
			return errors.New("the header Authorization is not the token")
		}
	case deploy.ReceiverDistribution: // which sends the headers that its config has, if any
		if got := header.Get("Authorization"); got != "" && !hmac.Equal([]byte(got), []byte("Bearer "+token)) {
			return errors.New("the header Authorization is not Bearer and the token")
		}
	}
	return nil // the path is all that the others have
}

// signed checks a signature HASH=HEX over the body: an HMAC with the token as key.
func signed(name, signature string, body []byte, token string) error {
	if signature == "" {
		return fmt.Errorf("there is no header %s", name)
	}
	word, digits, _ := strings.Cut(signature, "=")
	newHash := hashes[word]
	got, err := hex.DecodeString(digits)
	if newHash == nil || err != nil {
		return fmt.Errorf("the header %s is not sha256=HEX (or sha1, sha512)", name)
	}
	mac := hmac.New(newHash, []byte(token))
	_, _ = mac.Write(body) // never fails
	if !hmac.Equal(got, mac.Sum(nil)) {
		return fmt.Errorf("the signature in the header %s is not that of the body with the token as key", name)
	}
	return nil
}
