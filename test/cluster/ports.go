package main

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// port is a TCP port of 127.0.0.1 that stays reserved while this process lives: the socket is bound but never listens, so it receives nothing, and
// nobody else is given the port between the choice and the moment when the component listens on it. The components share it with SO_REUSEPORT.
type port int

// reservePort lets the kernel choose a free port. Ports chosen by the kernel are exclusive even among sockets that would share.
func reservePort() (port, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, fmt.Errorf("reserve a port: %w", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, fmt.Errorf("reserve a port: share it: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, fmt.Errorf("reserve a port: bind: %w", err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("reserve a port: %w", err)
	}
	inet, ok := address.(*unix.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("reserve a port: unexpected address %T", address)
	}
	return port(inet.Port), nil
}

func (p port) String() string { return strconv.Itoa(int(p)) }

// host is the address as host:port.
func (p port) host() string { return "127.0.0.1:" + p.String() }

// ports are the reserved ports of one cluster.
type ports struct{ etcdClient, etcdPeer, apiServer, controllers, scheduler port }

func reservePorts() (ports, error) {
	var all ports
	for _, p := range []*port{&all.etcdClient, &all.etcdPeer, &all.apiServer, &all.controllers, &all.scheduler} {
		var err error
		if *p, err = reservePort(); err != nil {
			return ports{}, err
		}
	}
	return all, nil
}
