package config

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// size is a number of bytes, written as a Kubernetes quantity: 512Mi.
type size int64

const (
	kibi size = 1 << 10
	mebi size = 1 << 20
	gibi size = 1 << 30
)

// String is the shortest quantity that says the same.
func (s size) String() string { return resource.NewQuantity(int64(s), resource.BinarySI).String() }

func parseSize(text string) (size, error) {
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, fmt.Errorf("want a size such as 512Mi or 2Gi, got %q", text)
	}
	return size(q.Value()), nil
}

// atLeast refuses smaller sizes.
func atLeast(least size) func(any) error {
	return func(v any) error {
		if got := v.(size); got < least {
			return fmt.Errorf("%s is too small: want at least %s", got, least)
		}
		return nil
	}
}
