package main_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// hookAddress finds where the agent serves receivers.
var hookAddress = regexp.MustCompile(`serving receivers\s+\{"address": "([^"]+)"`)

// hook STATUS SOURCE [FILE [KEY]] posts a file, or nothing, to the receiver of a source until the answer has that status: a token that was replaced counts a moment later.
// With KEY it is signed in X-Signature. In place of SOURCE, a file *.path holds the path.
func cmdHook(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	deadline := time.Now().Add(awaitLimit)
	for {
		got, err := w.hook(ts, args[1:])
		ts.Check(err)
		if fmt.Sprint(got) == args[0] {
			return
		}
		if time.Now().After(deadline) {
			w.fail(ts, "hook %s: answered %d", strings.Join(args, " "), got)
		}
		time.Sleep(25 * time.Millisecond)
	}
}

func (w *world) hook(ts *testscript.TestScript, args []string) (int, error) {
	all := hookAddress.FindAllStringSubmatch(ts.ReadFile(w.log), -1)
	if len(all) == 0 {
		return 0, fmt.Errorf("the agent serves no receivers")
	}
	var path string
	if strings.HasSuffix(args[0], ".path") {
		path = ts.ReadFile(args[0])
	} else {
		cmd := exec.Command(w.agentBinary, "receiver", args[0])
		cmd.Env = append(cmd.Environ(), "TOWLINE_CONFIG="+ts.Getenv("TOWLINE_CONFIG"), "TOWLINE_KUBECONFIG="+ts.Getenv("TOWLINE_KUBECONFIG"))
		out, err := cmd.Output()
		if err != nil {
			return 0, fmt.Errorf("towline receiver %s: %w", args[0], err)
		}
		path = string(out)
	}
	var body []byte
	if len(args) > 1 {
		body = []byte(ts.ReadFile(args[1]))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+all[len(all)-1][1]+strings.TrimSpace(path), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if len(args) > 2 {
		mac := hmac.New(sha256.New, []byte(args[2]))
		_, _ = mac.Write(body)
		req.Header.Set("X-Signature", fmt.Sprintf("sha256=%x", mac.Sum(nil)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
