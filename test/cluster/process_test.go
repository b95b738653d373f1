package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReservePort(t *testing.T) {
	reserved, err := reservePort()
	must(t, err)
	t.Run("keeps others away", func(t *testing.T) {
		if l, err := net.Listen("tcp", reserved.host()); err == nil {
			l.Close()
			t.Errorf("somebody else could listen on %s", reserved.host())
		}
		for range 200 {
			other, err := reservePort()
			must(t, err)
			if other == reserved {
				t.Fatalf("%s was given twice", other)
			}
		}
	})
	t.Run("lets a component that shares it listen, and all connections reach that one", func(t *testing.T) {
		sharing := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			control := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
			if control != nil {
				return control
			}
			return err
		}}
		listener, err := sharing.Listen(context.Background(), "tcp", reserved.host())
		must(t, err)
		defer listener.Close()
		for range 20 {
			client, err := net.Dial("tcp", reserved.host())
			must(t, err)
			server, err := listener.Accept()
			must(t, err)
			client.Close()
			server.Close()
		}
	})
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	var content strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&content, "line %d of a log\n", i)
	}
	must(t, os.WriteFile(file, []byte(content.String()), 0o600))
	t.Run("returns the last lines only", func(t *testing.T) {
		lines := strings.Split(tail(file), "\n")
		if len(lines) != tailLines || lines[tailLines-1] != "line 4999 of a log" {
			t.Errorf("%d lines, the last one is %q", len(lines), lines[len(lines)-1])
		}
	})
	t.Run("says why there are none", func(t *testing.T) {
		if got := tail(file + ".gone"); !strings.Contains(got, "no such file") {
			t.Errorf("tail = %q", got)
		}
	})
}
