package broker

import (
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/geocast/geocast/mqtt"
)

// Nothing goes on to refer to a connection that has ended: what it held is free.
func TestAConnectionThatHasEndedIsForgotten(t *testing.T) {
	b, err := New(Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	at, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	enter := func() net.Conn {
		nc, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, ClientID: "c", CleanStart: true})); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Read(make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		return nc
	}
	nc := enter()
	ended := weak.Make(b.connections()[0])
	nc.Close()
	for end := time.Now().Add(10 * time.Second); ended.Value() != nil; runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("it is still referred to")
		}
		time.Sleep(time.Millisecond)
	}
}
