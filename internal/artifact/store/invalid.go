package store

import "errors"

// ErrInvalid is a layer whose content is no good: no archive, a broken or a hostile one.
var ErrInvalid = errors.New("invalid artifact")
