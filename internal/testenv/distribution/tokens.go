package distribution

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	tokenService = "registry"
	tokenIssuer  = "tests"
	tokenKey     = "1" // the key's id
	tokenLife    = 5 * time.Minute
)

// tokens is a token service: it signs what the credentials' owner asks for (distribution's token authentication specification; JWT with ES256, RFC 7518, 3.4).
type tokens struct {
	want Credentials
	life time.Duration
	key  *ecdsa.PrivateKey
}

func newTokens(t testing.TB, want Credentials, life time.Duration) *tokens {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if life == 0 {
		life = tokenLife
	}
	return &tokens{want: want, life: life, key: key}
}

// keySet is the public key as the registry reads it (RFC 7517).
func (s *tokens) keySet() []byte {
	point, err := s.key.PublicKey.Bytes()
	if err != nil {
		panic(err) // a P-256 key has bytes
	}
	half := (len(point) - 1) / 2 //nolint:mnd // 4, x, y (SEC 1, 2.3.3)
	return mustJSON(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "kid": tokenKey, "alg": "ES256", "use": "sig", "x": b64(point[1 : 1+half]), "y": b64(point[1+half:]),
	}}})
}

// ServeHTTP exchanges credentials for a token.
func (s *tokens) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, ok := req.BasicAuth()
	if !ok || user != s.want.User || subtle.ConstantTimeCompare([]byte(password), []byte(s.want.Password)) != 1 {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	access := []any{}
	for _, scope := range req.URL.Query()["scope"] {
		if part := strings.SplitN(scope, ":", 3); len(part) == 3 { //nolint:mnd // type:name:actions
			access = append(access, map[string]any{"type": part[0], "name": part[1], "actions": strings.Split(part[2], ",")})
		}
	}
	now := time.Now()
	token := s.sign(map[string]any{
		"iss": tokenIssuer, "sub": user, "aud": tokenService, "access": access, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(s.life).Unix(),
	})
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(mustJSON(map[string]any{"token": token, "expires_in": int(s.life.Seconds())})) // a client that left is not our concern
}

func (s *tokens) sign(claims map[string]any) string {
	text := b64(mustJSON(map[string]string{"typ": "JWT", "alg": "ES256", "kid": tokenKey})) + "." + b64(mustJSON(claims))
	sum := sha256.Sum256([]byte(text))
	x, y, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		panic(err) // signing with a good key does not fail
	}
	const half = 32 // bytes of a P-256 number
	sig := make([]byte, 2*half)
	x.FillBytes(sig[:half])
	y.FillBytes(sig[half:])
	return text + "." + b64(sig)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings are marshalable
	}
	return b
}
