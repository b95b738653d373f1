// Command progress runs a go build and shows how far it is: the first build compiles some thousand packages and says nothing for minutes.
//
//	go run ./test/progress WHAT go build …
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"time"
)

// packageLine is what go build -v prints: an import path.
var packageLine = regexp.MustCompile(`^[\w.~-]+(/[\w.~-]+)*$`)

// interval between two signs of life.
const interval = 5 * time.Second

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: progress WHAT go build ARGUMENTS")
		os.Exit(2)
	}
	os.Exit(run(os.Args[1], os.Args[2:]))
}

func run(what string, args []string) int {
	args = append([]string{args[0], args[1], "-v"}, args[2:]...) // go build -v …
	cmd := exec.Command(args[0], args[1:]...)                    //nolint:gosec,noctx // the Makefile says what is run; an interrupt reaches the group
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = os.Stdout, in
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		_ = in.Close() // ends the scanner
	}()
	show(what, lines)
	if err := <-ended; err != nil {
		fmt.Fprintf(os.Stderr, "building %s: %v\n", what, err)
		return 1
	}
	return 0
}

// show prints everything that is no package, and every now and then how many packages were compiled.
func show(what string, lines <-chan string) {
	started, compiled, last := time.Now(), 0, ""
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case line, open := <-lines:
			if !open {
				if compiled > 0 {
					fmt.Fprintf(os.Stderr, "    %s: %d packages compiled in %s\n", what, compiled, time.Since(started).Round(time.Second))
				}
				return
			}
			if packageLine.MatchString(line) {
				compiled, last = compiled+1, line
			} else {
				fmt.Fprintln(os.Stderr, line)
			}
		case <-tick.C:
			now := "linking"
			if compiled > 0 {
				now = fmt.Sprintf("%d packages compiled, the last %s", compiled, last)
			}
			fmt.Fprintf(os.Stderr, "    %s: %s, %s\n", what, time.Since(started).Round(time.Second), now)
		}
	}
}
