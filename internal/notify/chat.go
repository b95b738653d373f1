package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr"

	"github.com/towline/towline/internal/deploy"
)

// chatTimeout bounds one message to a chat or mail service. Most of the library's services give up before.
const chatTimeout = 30 * time.Second

// chat sends events as text through shoutrrr, which takes no context: a message that hangs is left alone after a while, and no other one is sent until it has come
// back, so that there is never more than one. BoundServices says when that is.
type chat struct {
	account  account
	instance string
	hanging  <-chan struct{} // closed when the message that was left alone has come back; nil: there is none
}

func (c *chat) send(ctx context.Context, e deploy.Event) error {
	err := c.post(ctx, e)
	if err != nil {
		c.account.forget()
	}
	return err
}

func (c *chat) post(ctx context.Context, e deploy.Event) error {
	if c.hanging != nil {
		select {
		case <-c.hanging:
			c.hanging = nil // how it ended is of no interest: it counts as failed
		default:
			return unreached{errors.New("an earlier message is still on its way: the service does not answer")}
		}
	}
	address, _, err := c.account.load(ctx)
	if err != nil {
		return err
	}
	service, _, ok := strings.Cut(address, ":")
	if !ok {
		return errors.New("the address of the sink is not a service URL of shoutrrr, such as slack://…")
	}
	text, back := compose(e, c.account.sink.Spec, c.instance), make(chan struct{})
	var answer error // before back is closed it is the goroutine's
	go func() {
		defer close(back)
		answer = shout(address, text)
	}()
	timer := time.NewTimer(chatTimeout)
	defer timer.Stop()
	select {
	case <-back:
	case <-timer.C:
		c.hanging = back
		return unreached{fmt.Errorf("send by %s: no answer within %s", known(service), chatTimeout)}
	case <-ctx.Done():
		c.hanging = back
		return fmt.Errorf("send by %s: %w", known(service), ctx.Err())
	}
	if answer != nil {
		return translate(known(service), answer)
	}
	return nil
}

// shout calls the library. It parses what servers answer: a mistake in that must not end the agent.
func shout(address, text string) (err error) {
	defer func() {
		if recover() != nil { // the value may hold the address
			err = errors.New("the service's code failed")
		}
	}()
	return shoutrrr.Send(address, text)
}

// BoundServices gives http.DefaultClient a timeout, since most of shoutrrr's services send with it; the other ones have timeouts of their own, but for mail servers,
// which end a hanging message by ending the connection. It changes the process, so only the agent calls it, before anything runs.
func BoundServices() {
	http.DefaultClient.Timeout = chatTimeout
}

// mailService is the one whose answers are not HTTP's: its 4xx are those that pass.
const mailService = "smtp"

// serviceName is how the names of shoutrrr's services look, with the scheme of a custom URL behind a plus.
var serviceName = regexp.MustCompile(`^[a-z]{2,20}(\+https?)?$`)

// known is the name of a service, unless it does not look like one: then it may be anything.
func known(service string) string {
	if serviceName.MatchString(service) {
		return service
	}
	return "shoutrrr"
}

// addressPattern finds the URLs in an error: their ports are no status.
var addressPattern = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"]*`)

// httpStatus finds the status that a service answered with in an error of the library, which has no type for it.
var httpStatus = regexp.MustCompile(`(?i)(?:status|HTTP)[^0-9]{0,24}([45]\d\d)\b|\b([45]\d\d) [A-Z][a-z]`)

// translate says in our own words why a message was not sent. The library's words hold addresses, tokens and answers of servers.
func translate(service string, err error) error {
	if why, ok := cause(err); ok {
		return unreached{fmt.Errorf("send by %s: %s", service, why)}
	}
	said := addressPattern.ReplaceAllString(err.Error(), "")
	if m := httpStatus.FindStringSubmatch(said); m != nil && service != mailService {
		status, _ := strconv.Atoi(m[1] + m[2]) // three digits
		failed := fmt.Errorf("send by %s: answered %d %s", service, status, http.StatusText(status))
		if refusesEvent(status) {
			return permanent{failed}
		}
		return failed
	}
	for _, phrase := range []string{"connection refused", "no such host", "connection reset", "i/o timeout", "deadline exceeded", "certificate"} {
		if strings.Contains(said, phrase) {
			return unreached{fmt.Errorf("send by %s: %s", service, phrase)}
		}
	}
	if strings.HasPrefix(said, "locating service") { // before anything was sent
		return fmt.Errorf("send by %s: the address of the sink is not a service URL of shoutrrr", service)
	}
	return fmt.Errorf("send by %s: the service did not take it", service)
}

// compose is an event as a few lines of text.
func compose(e deploy.Event, spec deploy.SinkSpec, instance string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s: %s\n%s", e.Severity, e.Object, e.Reason, e.Message)
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "\n%s: %s", key, value)
		}
	}
	line("summary", spec.Summary)
	line("revision", e.Revision)
	line("reported by", instance)
	for _, key := range slices.Sorted(maps.Keys(spec.EventMetadata)) {
		line(key, spec.EventMetadata[key])
	}
	return b.String()
}
