package broker_test

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
)

// A WebSocket port is not held by who is slow to ask, or asks at length.
func TestWebSocketPortIsNotHeld(t *testing.T) {
	b, err := broker.New(broker.Config{Log: slog.New(slog.DiscardHandler), Limits: broker.Limits{Connect: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := b.Listen("ws://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, text string }{
		{"nothing", ""},
		{"half a request", "GET /mqtt HTTP/1.1\r\nHost: x\r\n"},
		{"a flood of headers", "GET /mqtt HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 50) + "\r\n"},
		{"a request, then nothing", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := net.Dial("tcp", addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, row.text); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(c)
			if no, ok := err.(net.Error); ok && no.Timeout() { //nolint:errorlint // as it is returned
				t.Error("the connection stays open")
			}
			if strings.Contains(string(answer), " 101 ") || strings.Contains(string(answer), " 200 ") {
				t.Errorf("it is answered by %s", answer)
			}
		})
	}
	idle, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
