package status

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/towline/towline/internal/deploy"
)

// maxEvent is the longest line of a stream that is read, in bytes: a snapshot is one line.
const maxEvent = maxAnswer

// Watch calls fn with the board, and again whenever something changed, until fn returns an error, the context ends or the agent stops; it returns that error,
// never nil. Several changes at once may come as one call. fn may keep what it gets.
func (c *Client) Watch(ctx context.Context, fn func(Status) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/api/v1/events?watch", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	var (
		board   Status
		kind    string
		changed bool
	)
	for lines.Scan() {
		line := lines.Bytes()
		if name, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			kind = string(name)
		} else if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			if err := board.fold(kind, data); err != nil {
				return fmt.Errorf("read an event of %s: %w", c.where, err)
			}
			changed = true
		} else if bytes.Equal(line, []byte(endOfBatch)) && changed {
			changed = false
			if err := fn(board.clone()); err != nil {
				return err
			}
		}
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("watch %s: %w", c.where, err)
	}
	return fmt.Errorf("the agent at %s stopped: %w", c.where, io.EOF)
}

// fold applies one event. Kinds that are not known are of a newer agent and passed over.
func (s *Status) fold(kind string, data []byte) error {
	switch kind {
	case eventStatus:
		*s = Status{}
		return json.Unmarshal(data, s)
	case eventHead:
		s.Head = Head{}
		return json.Unmarshal(data, &s.Head)
	case eventSource:
		var src deploy.SourceState
		if err := json.Unmarshal(data, &src); err != nil {
			return err
		}
		s.Sources = put(s.Sources, src, func(x deploy.SourceState) deploy.Name { return x.Name })
	case eventTarget:
		var t deploy.TargetState
		if err := json.Unmarshal(data, &t); err != nil {
			return err
		}
		s.Targets = put(s.Targets, t, func(x deploy.TargetState) deploy.Name { return x.Name })
	case eventGone:
		var g goneEvent
		if err := json.Unmarshal(data, &g); err != nil {
			return err
		}
		s.Sources = slices.DeleteFunc(s.Sources, func(x deploy.SourceState) bool { return x.Name == g.Name })
		s.Targets = slices.DeleteFunc(s.Targets, func(x deploy.TargetState) bool { return x.Name == g.Name })
	}
	s.Summary = summarize(s.Sources, s.Targets)
	return nil
}

// put replaces the element of the same name in a sorted list, or inserts it.
func put[T any](list []T, v T, name func(T) deploy.Name) []T {
	i, found := slices.BinarySearchFunc(list, name(v), func(x T, n deploy.Name) int { return name(x).Compare(n) })
	if found {
		list[i] = v
		return list
	}
	return slices.Insert(list, i, v)
}

// clone is a copy that later events do not change.
func (s *Status) clone() Status {
	c := *s
	c.Sources = slices.Clone(s.Sources)
	c.Targets = slices.Clone(s.Targets)
	return c
}
