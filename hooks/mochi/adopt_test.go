package mochi_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/hooks/storage/badger"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/mochi"
	"github.com/geocast/geocast/mqtt"
)

// adopt starts a geocast broker with a hook of mochi and returns its address.
func adopt(t *testing.T, h server.Hook, config any) string {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	all, err := mochi.Adopt(h, config, quiet)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Hooks: all, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return a.String()
}

// mochi's own ledger of users and their filters.
func TestMochisAuthHookInABroker(t *testing.T) {
	address := adopt(t, new(auth.Hook), &auth.Options{Ledger: &auth.Ledger{
		Users: auth.Users{"ann": {Username: "ann", Password: "secret", ACL: auth.Filters{"open/#": auth.ReadWrite, "closed": auth.Deny}}}}})
	for _, user := range []string{"ann", "eve"} {
		_, err := client.Dial(t.Context(), client.Config{Address: address, Version: mqtt.V5, User: user, Password: "wrong", Client: "c", Clean: true})
		if !errors.Is(err, client.ErrRefused) {
			t.Errorf("%s with a wrong password: %v", user, err)
		}
	}
	ann, err := client.Dial(t.Context(), client.Config{Address: address, Version: mqtt.V5, User: "ann", Password: "secret", Client: "c", Clean: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ann.Close() //nolint:errcheck // the test ends
	for topic, want := range map[string]bool{"open/x": true, "closed": false} {
		if err := ann.Publish(t.Context(), topic, nil, false); errors.Is(err, client.ErrRefused) == want {
			t.Errorf("publish to %s: %v", topic, err)
		}
		if err := ann.Subscribe(t.Context(), topic); errors.Is(err, client.ErrRefused) == want {
			t.Errorf("subscribe to %s: %v", topic, err)
		}
	}
}

// shout is a hook that changes and refuses, and tells what it hears.
type shout struct {
	server.HookBase
	heard chan string
}

func (*shout) Provides(b byte) bool {
	return bytes.Contains([]byte{server.OnPublish, server.OnPublished, server.OnSessionEstablished, server.OnDisconnect}, []byte{b})
}

func (*shout) OnPublish(_ *server.Client, pk packets.Packet) (packets.Packet, error) {
	if string(pk.Payload) == "refuse" {
		return pk, packets.ErrQuotaExceeded
	}
	pk.Payload = bytes.ToUpper(pk.Payload)
	return pk, nil
}

func (s *shout) OnSessionEstablished(c *server.Client, _ packets.Packet) { s.heard <- c.ID + " came" }
func (s *shout) OnDisconnect(c *server.Client, _ error, _ bool)          { s.heard <- c.ID + " went" }
func (s *shout) OnPublished(c *server.Client, pk packets.Packet) {
	s.heard <- c.ID + " said " + string(pk.Payload)
}

func TestAnyHookOfMochiInABroker(t *testing.T) {
	h := &shout{heard: make(chan string, 10)}
	address := adopt(t, h, nil)
	got := make(chan *mqtt.Message, 10)
	c, err := client.Dial(t.Context(), client.Config{Address: address, Version: mqtt.V5, Client: "c", Clean: true, Receive: func(m *mqtt.Message) { got <- m }})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	var no *client.RefusedError
	if err := c.Publish(t.Context(), "t", []byte("refuse"), false); !errors.As(err, &no) || no.Reason != mqtt.QuotaExceeded {
		t.Errorf("got %v, want it refused with 0x97", err)
	}
	if err := c.Publish(t.Context(), "t", []byte("hello"), false); err != nil {
		t.Fatal(err)
	}
	if m := <-got; string(m.Payload) != "HELLO" {
		t.Errorf("got %s", m.Payload)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"c came", "c said HELLO", "c went"} {
		select {
		case heard := <-h.heard:
			if heard != want {
				t.Errorf("heard %q, want %q", heard, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%q was not heard", want)
		}
	}
}

func TestStorageHooksAreNotAdopted(t *testing.T) {
	if _, err := mochi.Adopt(new(badger.Hook), nil, nil); !errors.Is(err, mochi.ErrStorage) {
		t.Errorf("got %v", err)
	}
}
