package main

import (
	"net"
	"strings"
	"testing"
)

func TestReceiversNeedAnAddressOfTheirOwn(t *testing.T) {
	t.Run("without one they are not served", func(t *testing.T) {
		if ln, err := openReceivers(t.Context(), ""); ln != nil || err != nil {
			t.Errorf("got %v, %v", ln, err)
		}
	})
	t.Run("one that is taken is an error that names the setting", func(t *testing.T) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		_, err = openReceivers(t.Context(), taken.Addr().String())
		if err == nil || !strings.Contains(err.Error(), "listenReceivers") || !strings.Contains(err.Error(), "in use") {
			t.Errorf("got %v", err)
		}
	})
}
