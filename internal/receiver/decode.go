package receiver

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/towline/towline/internal/deploy"
)

// notice is one thing that a webhook says has happened.
type notice struct {
	// other is what happened where it was no push, or anything else that may change what a reference means; empty: it may.
	other string
	// repositories that it may be about, without a host, as the sender has more than one word for it; none: unknown.
	repositories []string
	// tags that were pushed, all of them; none: unknown.
	tags []string
}

// decode reads what a webhook says. An error means that it is not one of this type.
func decode(receiver string, header http.Header, body []byte) ([]notice, error) {
	var read func([]byte) ([]notice, error)
	switch receiver {
	case deploy.ReceiverGeneric, deploy.ReceiverGenericHMAC:
		return []notice{{}}, nil
	case deploy.ReceiverGitHub:
		return github(header, body)
	case deploy.ReceiverDistribution:
		read = distribution
	case deploy.ReceiverHarbor:
		read = harbor
	case deploy.ReceiverDockerHub:
		read = dockerHub
	case deploy.ReceiverQuay:
		read = quay
	case deploy.ReceiverACR:
		read = acr
	default:
		return nil, fmt.Errorf("%q is no type of a receiver", receiver)
	}
	return read(body)
}

// into decodes JSON. The error does not repeat any of it.
func into(v any, body []byte) error {
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("the body is not what this type of receiver takes: %w", plain(err))
	}
	return nil
}

// plain is an error of decoding without what was decoded.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		kind, _, _ := strings.Cut(wrong.Value, " ") // behind it may stand the value
		return fmt.Errorf("%s is a JSON %s", cmp.Or(wrong.Field, "all of it"), kind)
	}
	return errors.New("it is not JSON")
}

// some are those texts that are not empty.
func some(texts ...string) []string {
	var out []string
	for _, t := range texts {
		if t != "" {
			out = append(out, t)
		}
	}
	return out
}

// target is what an event of the Distribution registry is about (its documentation, "Work with notifications").
type target struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	URL        string `json:"url"`
}

// distribution reads an envelope of events. Each layer is an event of its own, which means nothing before the manifest is there.
func distribution(body []byte) ([]notice, error) {
	var envelope struct {
		Events []struct {
			Action string `json:"action"`
			Target target `json:"target"`
		} `json:"events"`
	}
	if err := into(&envelope, body); err != nil {
		return nil, err
	}
	if len(envelope.Events) == 0 {
		return nil, errors.New("the body has no events: it is no notification of a Distribution registry")
	}
	var out []notice
	for _, e := range envelope.Events {
		n := notice{repositories: some(e.Target.Repository), tags: some(e.Target.Tag)}
		switch {
		case e.Action == "pull" || e.Action == "mount":
			n.other = e.Action
		case strings.Contains(e.Target.URL, "/v2/"+e.Target.Repository+"/blobs/"):
			n.other = e.Action + " of a blob"
		}
		out = append(out, n)
	}
	return out, nil
}

// acr reads an event of Azure Container Registry (its "webhook reference"), which is one of Distribution's without the envelope.
func acr(body []byte) ([]notice, error) {
	var e struct {
		Action string `json:"action"`
		Target target `json:"target"`
	}
	if err := into(&e, body); err != nil {
		return nil, err
	}
	n := notice{repositories: some(e.Target.Repository), tags: some(e.Target.Tag)}
	if e.Action == "ping" {
		n.other = e.Action
	}
	return []notice{n}, nil
}

// harbor reads an event of Harbor ("Configure Webhook Notifications"), in its own format or as CloudEvents. Where several tags are set at once it names only one of them, so
// tags say nothing.
func harbor(body []byte) ([]notice, error) {
	type data struct {
		Repository struct {
			FullName string `json:"repo_full_name"`
		} `json:"repository"`
	}
	var e struct {
		Type      string `json:"type"`
		EventData data   `json:"event_data"`
		Data      data   `json:"data"`
	}
	if err := into(&e, body); err != nil {
		return nil, err
	}
	n := notice{repositories: some(e.EventData.Repository.FullName, e.Data.Repository.FullName)}
	for _, harmless := range []string{"PULL_", "SCANNING_", "QUOTA_", "harbor.artifact.pulled", "harbor.scan.", "harbor.quota."} {
		if strings.HasPrefix(e.Type, harmless) {
			n.other = e.Type
		}
	}
	return []notice{n}, nil
}

// dockerHub reads a push of Docker Hub ("Webhooks"); there are no other events.
func dockerHub(body []byte) ([]notice, error) {
	var e struct {
		PushData struct {
			Tag string `json:"tag"`
		} `json:"push_data"`
		Repository struct {
			Name string `json:"repo_name"`
		} `json:"repository"`
	}
	if err := into(&e, body); err != nil {
		return nil, err
	}
	return []notice{{repositories: some(e.Repository.Name), tags: some(e.PushData.Tag)}}, nil
}

// quay reads a notification of Quay ("Repository Notifications"). Old versions have a map of tags in place of the list.
func quay(body []byte) ([]notice, error) {
	var e struct {
		Repository  string          `json:"repository"`
		UpdatedTags json.RawMessage `json:"updated_tags"`
	}
	if err := into(&e, body); err != nil {
		return nil, err
	}
	n := notice{repositories: some(e.Repository)}
	var tags []string
	if json.Unmarshal(e.UpdatedTags, &tags) == nil {
		n.tags = some(tags...)
	}
	return []notice{n}, nil
}

// github reads a delivery of GitHub, as JSON or as a form. One event may stand for several tags, so tags say nothing.
func github(header http.Header, body []byte) ([]notice, error) {
	switch event := header.Get("X-GitHub-Event"); event {
	case "package", "registry_package":
	case "":
		return nil, errors.New("there is no header X-GitHub-Event")
	default:
		return []notice{{other: "event " + event}}, nil
	}
	if kind, _, err := mime.ParseMediaType(header.Get("Content-Type")); err == nil && kind == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, errors.New("the body is no form")
		}
		body = []byte(form.Get("payload"))
	}
	type pkg struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		Owner     struct {
			Login string `json:"login"`
		} `json:"owner"`
		Version struct {
			URL string `json:"package_url"`
		} `json:"package_version"`
	}
	var e struct {
		Package  *pkg `json:"package"`
		Registry *pkg `json:"registry_package"`
	}
	if err := into(&e, body); err != nil {
		return nil, err
	}
	var n notice
	for _, p := range []*pkg{e.Package, e.Registry} {
		if p == nil {
			continue
		}
		if p.Name != "" && p.Owner.Login != "" {
			n.repositories = append(n.repositories, p.Owner.Login+"/"+p.Name)
		}
		if p.Name != "" && p.Namespace != "" {
			n.repositories = append(n.repositories, p.Namespace+"/"+p.Name)
		}
		if image, ok := strings.CutPrefix(p.Version.URL, "ghcr.io/"); ok {
			image, _, _ = strings.Cut(image, "@")
			image, _, _ = strings.Cut(image, ":")
			n.repositories = append(n.repositories, some(image)...)
		}
	}
	return []notice{n}, nil
}
