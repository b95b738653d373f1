package testenv

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// FaultKind is a way in which a registry misbehaves.
type FaultKind string

// The kinds of faults.
const (
	// FaultStatus answers Fault.Status, with a Retry-After header where Fault.RetryAfter is set.
	FaultStatus FaultKind = "status"
	// FaultReset cuts the connection with a TCP reset before a byte is answered.
	FaultReset FaultKind = "reset"
	// FaultTruncate announces the whole body, sends the first half and cuts the connection.
	FaultTruncate FaultKind = "truncate"
	// FaultCorrupt sends a body of the right length with one byte changed.
	FaultCorrupt FaultKind = "corrupt"
	// FaultDigest names a wrong digest in the Docker-Content-Digest header.
	FaultDigest FaultKind = "digest"
	// FaultSlow waits for Fault.Delay, then answers rightly.
	FaultSlow FaultKind = "slow"
)

// wrongDigest is what FaultDigest says; nothing has it.
const wrongDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000bad"

// Fault is one injected fault. The first fault that matches a request decides.
type Fault struct {
	Kind FaultKind
	// Method and Path choose the requests: the exact method, and a text that the path contains (/blobs/, /manifests/). Empty: every one.
	Method, Path string
	// Times is how many requests are hit; 0 is every one until Heal.
	Times int
	// Status of a FaultStatus; default 500.
	Status int
	// RetryAfter is sent in whole seconds.
	RetryAfter time.Duration
	// Delay of a FaultSlow.
	Delay time.Duration
}

// Fail injects a fault.
func (r *Registry) Fail(f Fault) {
	if f.Times == 0 {
		f.Times = -1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal takes every fault away.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

// fault takes the fault that hits a request, if one does.
func (r *Registry) fault(req *http.Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		if f.Times == 0 || f.Method != "" && f.Method != req.Method || !strings.Contains(req.URL.Path, f.Path) {
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return f
	}
	return nil
}

// inject does what the fault says and reports whether the request is answered by that.
func (r *Registry) inject(w http.ResponseWriter, req *http.Request, f Fault) bool {
	switch f.Kind {
	case FaultStatus:
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
		}
		if f.Status == 0 {
			f.Status = http.StatusInternalServerError
		}
		http.Error(w, "injected fault", f.Status)
		return true
	case FaultReset:
		reset(w)
		return true
	case FaultSlow:
		wait := time.NewTimer(f.Delay)
		defer wait.Stop()
		select {
		case <-wait.C:
			return false
		case <-req.Context().Done():
			return true
		case <-r.served: // the context of a request whose body was not read does not end with the connection
			return true
		}
	}
	res := r.record(req)
	switch f.Kind {
	case FaultTruncate:
		res.header.Set("Content-Length", strconv.Itoa(len(res.body)))
		res.body = res.body[:len(res.body)/2]
		res.writeTo(w)
		_ = http.NewResponseController(w).Flush() // what was written must arrive
		panic(http.ErrAbortHandler)               // net/http's way to cut a connection
	case FaultCorrupt:
		if n := len(res.body); n > 0 {
			res.body[n/2] ^= 0xff
		}
	case FaultDigest:
		res.header.Set("Docker-Content-Digest", wrongDigest)
	}
	res.writeTo(w)
	return true
}

// reset closes the connection so that the peer gets RST instead of FIN.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
