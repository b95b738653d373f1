package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestEndOfProcesses(t *testing.T) {
	t.Run("a component that fails is named, and the others are stopped", func(t *testing.T) {
		t.Parallel()
		cluster := launch(t, "--only-apiserver", "--quiet")
		components := childrenOf(t, cluster.command.Process.Pid)
		must(t, syscall.Kill(components[etcdName], syscall.SIGKILL))

		var exit *exec.ExitError
		if err := cluster.wait(t); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("ended with %v, want exit code 1", err)
		}
		if !strings.Contains(cluster.stderr.String(), "etcd ended by itself (signal: killed)") {
			t.Errorf("output %s", cluster.stderr)
		}
		for name, pid := range components {
			if alive(pid) {
				t.Errorf("%s is still there", name)
			}
		}
	})
	t.Run("nothing is left when the parent is killed", func(t *testing.T) {
		t.Parallel()
		executable, err := os.Executable()
		must(t, err)
		dir := filepath.Join(t.TempDir(), "cluster")
		parent := exec.Command("sh", "-c", `"$0" --dir "$1" --die-with-parent --only-apiserver & wait`, executable, dir)
		parent.Env = append(os.Environ(), asCluster+"=1")
		must(t, parent.Start())
		t.Cleanup(func() {
			_ = parent.Process.Kill()
			_ = parent.Wait()
		})
		await(t, "the kubeconfig is written", func(context.Context) (bool, error) {
			_, err := os.Stat(filepath.Join(dir, "kubeconfig"))
			return err == nil, nil
		})
		var all []int
		for _, supervisor := range childrenOf(t, parent.Process.Pid) {
			all = append(all, supervisor)
			for _, component := range childrenOf(t, supervisor) {
				all = append(all, component)
			}
		}
		if len(all) != 3 {
			t.Fatalf("processes %v, want the supervisor, etcd and kube-apiserver", all)
		}
		must(t, parent.Process.Kill())
		await(t, "all processes are gone", func(context.Context) (bool, error) {
			for _, pid := range all {
				if alive(pid) {
					return false, nil
				}
			}
			return true, nil
		})
	})
}

// childrenOf returns the process ids of the children of a process, by their first argument.
func childrenOf(t *testing.T, parent int) map[string]int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	children := map[string]int{}
	for _, stat := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		must(t, err)
		if _, ppid := processState(pid); ppid != parent {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		must(t, err)
		children[strings.Split(string(line), "\x00")[1]] = pid
	}
	return children
}

// alive says whether the process runs. One that waits to be collected by init does not.
func alive(pid int) bool {
	state, _ := processState(pid)
	return state != "" && state != "Z"
}

// processState returns the state and the parent's id from /proc (proc(5): after the name, which is in parentheses); "" when the process is gone.
func processState(pid int) (state string, parent int) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
		return "", 0
	}
	return state, parent
}
