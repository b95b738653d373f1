package artifact

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/internal/deploy"
)

// defaultTag is polled where a source has no ref.
const defaultTag = "latest"

// sharedFor is the part of its interval that a source takes another one's answer for its own: sources with the same url, reference and credentials cost one look-up
// in an interval between them.
const sharedFor = 2

// tagPattern is what the distribution spec allows.
var tagPattern = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// Resolve says which digest a source's reference means now, and by which policy its signatures are to be checked. In the steady state a digest costs no request, a
// tag one HEAD, and a semver range one list of tags (more than one page where there are more than 1000) and one HEAD of the winner. An answer of the last half
// interval is shared by sources that ask the same; an interval of 0 always asks. The error is a *deploy.Failure; the pin then holds the policy, if that could be read.
func (s *Store) Resolve(ctx context.Context, src deploy.Source) (deploy.Pin, error) {
	policy, err := s.policy(ctx, src)
	if err != nil {
		return deploy.Pin{}, failure("resolve "+src.Name.String(), err)
	}
	var unknown deploy.Pin // all that is known where no answer comes
	if policy != nil {
		unknown.Policy = policy.Hash()
	}
	o, err := s.origin(src)
	if err != nil {
		return unknown, failure("resolve "+src.Name.String(), err)
	}
	pin, err := s.pin(ctx, src, o)
	if err != nil {
		return unknown, failure("resolve "+o.name, err)
	}
	pin.Policy = unknown.Policy
	return pin, nil
}

// pin is what the reference means.
func (s *Store) pin(ctx context.Context, src deploy.Source, o *origin) (deploy.Pin, error) {
	var ref deploy.Ref
	if src.Spec.Ref != nil {
		ref = *src.Spec.Ref
	}
	if ref.Digest != "" {
		if _, err := v1.NewHash(ref.Digest); err != nil {
			return deploy.Pin{}, fmt.Errorf("ref.digest: %w", err)
		}
		return deploy.Pin{Digest: ref.Digest}, nil
	}
	if o.host == "" {
		pin, err := look(ctx, o.place, ref)
		if err != nil {
			return deploy.Pin{}, hint(err, o.place)
		}
		return pin, s.mayFollow(src, ref, pin)
	}
	key := o.key + "|" + deploy.HashOf(ref)
	if pin, ok := s.answers.young(key, src.Interval/sharedFor); ok {
		return pin, s.mayFollow(src, ref, pin)
	}
	var pin deploy.Pin
	var err error
	if len(o.mirrors) > 0 && !s.known(src) {
		pin, err = s.askAll(ctx, src, o, ref, key)
	} else {
		pin, err = s.askURL(ctx, src, o, ref, key)
	}
	if err != nil {
		return deploy.Pin{}, err
	}
	return pin, s.mayFollow(src, ref, pin)
}

// askURL asks the url, together with those who ask the same at the same time, and remembers what it says.
func (s *Store) askURL(ctx context.Context, src deploy.Source, o *origin, ref deploy.Ref, key string) (pin deploy.Pin, err error) {
	ask := func(ctx context.Context) (deploy.Pin, error) {
		asked := time.Now()
		pin, err := s.ask(ctx, o.place, ref)
		if err == nil {
			s.answers.keep(key, pin, asked)
		}
		return pin, err
	}
	if src.Interval > 0 {
		pin, err = s.lookups.do(ctx, key, ask)
	} else { // not even with one that is on its way: it may have left before that happened which the asker wants to see
		pin, err = ask(ctx)
	}
	if err != nil {
		return deploy.Pin{}, hint(err, o.place)
	}
	return pin, nil
}

// askAll asks the mirrors where the url says nothing. What they say is neither remembered nor shared: the url is to be asked again the next time, and for a source that
// knows a revision they have no say.
func (s *Store) askAll(ctx context.Context, src deploy.Source, o *origin, ref deploy.Ref, key string) (deploy.Pin, error) {
	first, cancel := share(ctx, 1+len(o.mirrors))
	pin, err := s.askURL(first, src, o, ref, key)
	cancel()
	if err == nil || !passing(err) {
		return pin, err
	}
	merr := inTurn(ctx, o.mirrors, func(ctx context.Context, p place) (err error) {
		pin, err = s.ask(ctx, p, ref)
		return err
	})
	if merr != nil {
		return deploy.Pin{}, fmt.Errorf("%w; the mirrors: %s", err, merr.Error()) // the reason is why the url says nothing
	}
	return pin, nil
}

// ask asks one registry, when it is this caller's turn there.
func (s *Store) ask(ctx context.Context, p place, ref deploy.Ref) (deploy.Pin, error) {
	release, err := s.wait(ctx, s.looks, p.host, looksPerHost, "look-ups at")
	if err != nil {
		return deploy.Pin{}, err
	}
	defer release()
	return look(ctx, p, ref)
}

// look finds the tag and its digest.
func look(ctx context.Context, p place, ref deploy.Ref) (deploy.Pin, error) {
	tag := strings.ReplaceAll(ref.Tag, "+", "_") // a chart's version as it is written in a tag
	switch {
	case ref.Semver != "":
		choose, err := newChoice(ref.Semver, ref.SemverFilter)
		if err != nil {
			return deploy.Pin{}, err
		}
		tags, err := p.Tags(ctx)
		if err != nil {
			return deploy.Pin{}, fmt.Errorf("list tags: %w", err)
		}
		if tag, err = choose.from(tags); err != nil {
			return deploy.Pin{}, err
		}
	case tag == "":
		tag = defaultTag
	}
	if !tagPattern.MatchString(tag) {
		return deploy.Pin{}, fmt.Errorf("ref.tag %q is not a tag: want letters, digits and _.-, at most 128", tag)
	}
	digest, err := p.Digest(ctx, tag)
	if err != nil {
		return deploy.Pin{}, fmt.Errorf("tag %s: %w", tag, err)
	}
	return deploy.Pin{Ref: tag, Digest: digest}, nil
}

// mayFollow refuses a version that is lower than the one before, unless the source allows it.
func (s *Store) mayFollow(src deploy.Source, ref deploy.Ref, pin deploy.Pin) error {
	if ref.Semver == "" || src.Spec.AllowDowngrade {
		return nil
	}
	last, ok := s.recall(src)
	if !ok || last.Ref == "" {
		return nil
	}
	was, now := version(last.Ref), version(pin.Ref)
	if was == nil || now == nil || !now.LessThan(was) {
		return nil
	}
	return &deploy.Failure{Reason: deploy.SourceDowngrade, Err: fmt.Errorf("the highest version within semver %q is now %s, before it was %s: "+
		"set allowDowngrade: true to follow it down", ref.Semver, pin.Ref, last.Ref)}
}
