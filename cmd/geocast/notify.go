package main

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// notify tells the service manager a state, as sd_notify(3) does: READY=1,
// STOPPING=1. Without one that listens (NOTIFY_SOCKET) it does nothing.
func notify(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}
