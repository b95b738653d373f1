package main_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// versions FILE writes the resourceVersions of what the script's namespace holds: equal files are a cluster that nobody wrote to.
func cmdVersions(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	var lines []string
	for _, r := range []schema.GroupVersionResource{
		{Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "secrets"}, {Version: "v1", Resource: "services"},
		{Group: "apps", Version: "v1", Resource: "deployments"},
	} {
		list, err := w.client.Resource(r).Namespace(w.namespace).List(ctx, metav1.ListOptions{})
		ts.Check(err)
		for _, u := range list.Items {
			lines = append(lines, fmt.Sprintf("%s/%s %s\n", r.Resource, u.GetName(), u.GetResourceVersion()))
		}
	}
	slices.Sort(lines)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(lines, "")), 0o600))
}

// kdump prints every ConfigMap and Event of the script's namespace as JSON: the agent's records and inventories are among them.
func cmdDump(ts *testscript.TestScript, _ bool, _ []string) {
	w := of(ts)
	for _, r := range []string{"configmaps", "events"} {
		list, err := w.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: r}).Namespace(w.namespace).List(ctx, metav1.ListOptions{})
		ts.Check(err)
		b, err := list.MarshalJSON()
		ts.Check(err)
		_, err = ts.Stdout().Write(b)
		ts.Check(err)
	}
}

// served finds the address of the status page in the agent's log.
var served = regexp.MustCompile(`"address": "(127\.0\.0\.1:\d+)"`)

// page PATH prints what the agent serves there.
func cmdPage(ts *testscript.TestScript, _ bool, args []string) {
	w := of(ts)
	all := served.FindAllStringSubmatch(ts.ReadFile(w.log), -1)
	if len(all) == 0 {
		w.fail(ts, "the log names no address")
	}
	m := all[len(all)-1] // of the agent that was started last
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m[1]+args[0], http.NoBody)
	ts.Check(err)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s: %s", args[0], resp.Status)
	}
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
}

// snapshot says of every file and folder of the agent's data when it was written last. A file that was made and removed again changes its folder.
func snapshot(ts *testscript.TestScript) map[string]string {
	found := map[string]string{}
	dir := ts.Getenv("TOWLINE_CACHE_DIR")
	ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile, which the folder shows
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		changed := info.Sys().(*syscall.Stat_t).Ctim
		found[strings.TrimPrefix(path, dir)] = fmt.Sprintf("%d bytes, written %s, changed %d.%09d", info.Size(), info.ModTime().Format(time.RFC3339Nano), changed.Sec, changed.Nsec)
		return nil
	}))
	if len(found) == 0 {
		ts.Fatalf("there is nothing in %s", dir)
	}
	return found
}
