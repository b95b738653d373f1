package testenv

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// login is who may use the registry.
type login struct {
	user, pass string
	// bearer makes clients exchange the credentials for a token first.
	bearer bool
	issued int // tokens so far
	oldest int // tokens before this one are refused
}

// RequireAuth makes clients send these credentials as HTTP basic authentication.
func (r *Registry) RequireAuth(user, pass string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth = &login{user: user, pass: pass}
}

// RequireToken makes clients exchange these credentials for a bearer token at /token first, as the big public registries do.
func (r *Registry) RequireToken(user, pass string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth = &login{user: user, pass: pass, bearer: true}
}

// ExpireTokens makes every token that was issued so far useless.
func (r *Registry) ExpireTokens() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.auth != nil {
		r.auth.oldest = r.auth.issued + 1
	}
}

// admit answers requests that lack credentials, and those to the token service; the others go on.
func (r *Registry) admit(w http.ResponseWriter, req *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.auth
	if l == nil {
		return true
	}
	if l.bearer && req.URL.Path == "/token" {
		l.token(w, req)
		return false
	}
	challenge := `Basic realm="registry"`
	ok := l.basic(req)
	if l.bearer {
		challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="registry"`, r.host)
		n, err := strconv.Atoi(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer token-"))
		ok = err == nil && n >= l.oldest && n <= l.issued
	}
	if ok {
		return true
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
	return false
}

func (l *login) basic(req *http.Request) bool {
	user, pass, ok := req.BasicAuth()
	return ok && user == l.user && subtle.ConstantTimeCompare([]byte(pass), []byte(l.pass)) == 1
}

// token is the token service: GET with basic authentication.
func (l *login) token(w http.ResponseWriter, req *http.Request) {
	if !l.basic(req) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	l.issued++
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": "token-" + strconv.Itoa(l.issued), "expires_in": 300})
}
