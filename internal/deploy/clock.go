package deploy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ClockError is a certificate that is valid at another time than this machine's clock says, and begins after that: most often a machine that has booted without a clock and is about to
// learn what time it is. It says nothing about what is behind the certificate; whoever meets it tries again soon.
type ClockError struct {
	// Certificate names it by its subject.
	Certificate string
	// Begins is when it becomes valid; Now is what this machine's clock said.
	Begins, Now time.Time
	// Err is what found it.
	Err error
}

func (e *ClockError) Error() string {
	return fmt.Sprintf("clock suspect: the certificate %s begins at %s, and this machine's clock says %s: is the clock right?",
		e.Certificate, e.Begins.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

func (e *ClockError) Unwrap() error { return e.Err }

// SuspectClock finds in an error that a certificate is not valid yet; nil where there is no such thing. Go says the same of certificates that have ended, so the time now decides.
func SuspectClock(err error, now time.Time) *ClockError {
	var known *ClockError
	if errors.As(err, &known) {
		return known
	}
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired || invalid.Cert == nil || now.After(invalid.Cert.NotAfter) {
		return nil
	}
	return NewClockError(invalid.Cert, now, err) // also where the clock has been set since
}

// NewClockError is for a certificate that was found to begin in the future.
func NewClockError(c *x509.Certificate, now time.Time, err error) *ClockError {
	return &ClockError{Certificate: certificateName(c), Begins: c.NotBefore, Now: now, Err: err}
}

// certificateName is a certificate's subject, or else the names that it is for, quoted and cut: a server that nobody trusts yet wrote them.
func certificateName(c *x509.Certificate) string {
	const most = 100 // bytes
	name := c.Subject.String()
	if name == "" {
		name = strings.Join(c.DNSNames, ", ")
	}
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return fmt.Sprintf("%q", name)
}
