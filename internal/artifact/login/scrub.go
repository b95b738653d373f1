package login

import (
	"net/url"
	"os"
	"regexp"
	"strings"
)

// maxMessage of a library's error, in bytes: some hold whole pages.
const maxMessage = 400

// secretish looks like a token: a JWT, one of Google's, or anything so long and dense that it is no word.
var secretish = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+|ya29\.[A-Za-z0-9_.-]+|[A-Za-z0-9+/_=%-]{48,}`)

// secretVariables of the environment that the clouds' libraries read.
var secretVariables = []string{
	"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
	"AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN", "AZURE_PASSWORD", "AZURE_CERTIFICATE_PASSWORD", "MSI_SECRET",
}

// scrub makes one short line of a library's error and takes out what may be a secret.
func scrub(s string) string {
	for _, v := range secretVariables {
		if secret := os.Getenv(v); secret != "" {
			s = strings.NewReplacer(secret, "[redacted]", url.QueryEscape(secret), "[redacted]").Replace(s)
		}
	}
	s = secretish.ReplaceAllString(s, "[redacted]")
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}
