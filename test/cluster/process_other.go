//go:build !linux

package main

import (
	"os"
	"syscall"
	"time"
)

// parentCheck is how often a process looks whether its parent is still there, where the kernel can't be asked to tell.
const parentCheck = 500 * time.Millisecond

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// watchParent ends this process soon after its parent has ended.
func watchParent() {
	parent := os.Getppid()
	go func() {
		for range time.Tick(parentCheck) {
			if os.Getppid() != parent {
				os.Exit(1)
			}
		}
	}()
}

func dieWithParent() error {
	watchParent()
	return nil
}
