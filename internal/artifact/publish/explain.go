package publish

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/towline/towline/internal/artifact/oci"
	"github.com/towline/towline/internal/artifact/store"
)

// Explain says what failed, what the registry answered and what can be done about it. Doing is a verb and what it is done to: "push oci://…".
func Explain(doing string, ref Ref, push bool, err error) error {
	if err == nil {
		return nil
	}
	if hint := hint(ref, push, err); hint != "" {
		return fmt.Errorf("%s: %w\n  %s", doing, brief(err), hint)
	}
	return fmt.Errorf("%s: %w", doing, brief(err))
}

func hint(ref Ref, push bool, err error) string {
	host := ref.Repo.RegistryStr()
	var e *oci.Error
	var over *store.LimitError
	has := errors.As(err, &e)
	switch {
	case errors.As(err, &over):
		return "the agent has the same limit by default"
	case errors.Is(err, context.DeadlineExceeded):
		return "it took longer than --timeout allows"
	case errors.Is(err, oci.ErrUnauthorized) && has && e.Anonymous:
		return fmt.Sprintf("no credentials for %s were found: docker login %s stores them, or set TOWLINE_REGISTRY_CREDS=user:password", host, host)
	case errors.Is(err, oci.ErrUnauthorized) && push:
		return fmt.Sprintf("the credentials for %s are wrong, or may not write to %s", host, ref.Repo.RepositoryStr())
	case errors.Is(err, oci.ErrUnauthorized):
		return fmt.Sprintf("the credentials for %s are wrong, or may not read %s", host, ref.Repo.RepositoryStr())
	case errors.Is(err, oci.ErrRateLimited):
		if after, ok := wait(err); ok {
			return fmt.Sprintf("%s wants to be left alone for %s", host, after.Round(time.Second))
		}
		return host + " had too many requests: try again later, or log in, which often raises the limit"
	case errors.Is(err, oci.ErrNotFound) && push:
		return fmt.Sprintf("%s is no registry, or wants the repository %s to be made first", host, ref.Repo.RepositoryStr())
	case errors.Is(err, oci.ErrNotFound) && strings.Contains(err.Error(), "/tags/list"):
		return fmt.Sprintf("check the host and the repository: nothing was ever pushed to %s, or the registry hides it from who may not read it", ref.Repo.RepositoryStr())
	case errors.Is(err, oci.ErrNotFound):
		return "check host, repository and tag: towline list artifacts " + (Ref{Repo: ref.Repo}).String() + " shows the tags"
	case tooLarge(err):
		return fmt.Sprintf("%s, or a proxy before it, takes no upload of this size: see its limits (client_max_body_size in nginx), or ignore what no cluster needs", host)
	case noHost(err):
		return fmt.Sprintf("is %s written right? No name server knows it", host)
	case errors.Is(err, oci.ErrUnavailable), errors.Is(err, oci.ErrNetwork):
		if push {
			return "nothing was tagged: try again, what has arrived is not sent twice"
		}
		return "try again; nothing was changed"
	}
	return ""
}

func wait(err error) (time.Duration, bool) {
	var e interface{ RetryAfter() (time.Duration, bool) }
	if errors.As(err, &e) {
		return e.RetryAfter()
	}
	return 0, false
}

// noHost reports whether a name server answered that there is no such host; that it did not answer is something else.
func noHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

func tooLarge(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusRequestEntityTooLarge || strings.Contains(err.Error(), "413 ")
}

// maxBody is how much of an error is shown, in bytes: some answers are whole pages of HTML.
const maxBody = 600

// brief keeps an error to one line of bearable length; what it wraps stays.
func brief(err error) error {
	s := strings.TrimSpace(err.Error())
	if len(s) <= maxBody && !strings.Contains(s, "<html") && !strings.Contains(s, "<HTML") {
		return err
	}
	if i := strings.Index(strings.ToLower(s), "<html"); i > 0 {
		s = strings.TrimRight(s[:i], " :\n") + " (the answer is a page of HTML)"
	}
	return shortened{strings.ToValidUTF8(s[:min(len(s), maxBody)], ""), err}
}

type shortened struct {
	text string
	err  error
}

func (s shortened) Error() string { return s.text }
func (s shortened) Unwrap() error { return s.err }
