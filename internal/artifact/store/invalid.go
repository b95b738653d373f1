package store

import "errors"

// ErrInvalid is an artifact whose content is no good: no archive, a broken or a hostile one, or not what its digest says.
var ErrInvalid = errors.New("invalid artifact")

// invalidError is an error that is ErrInvalid too, without saying so in its text.
type invalidError struct{ error }

func (e invalidError) Unwrap() error        { return e.error }
func (e invalidError) Is(target error) bool { return target == ErrInvalid }

// invalid blames the artifact for an error, unless it is the disk's or the system's, or that of a limit.
func invalid(err error) error {
	var limit *LimitError
	if err == nil || ofSystem(err) || errors.As(err, &limit) {
		return err
	}
	return invalidError{err}
}
