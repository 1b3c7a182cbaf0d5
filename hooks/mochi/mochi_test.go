package mochi_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"testing"
	"time"

	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/mochi"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

const yaml = `
version: 1
sources:
  - topic: trackers/{who}/pos
    map: {lat: latitude, lon: longitude, tst: at}
zones:
  school: {circle: {lat: 48.2, lon: 16.37, radius: 200m}}
rules:
  school-out:
    who:  {tag: child}
    when: {exit: school}
    to:   [{group: parents}]
`

// serve starts a mochi server with the rules, and returns its address.
func serve(t *testing.T) (string, *mochi.Hook) {
	t.Helper()
	set, err := rules.Parse("rules.yaml", []byte(yaml), nil)
	if err != nil {
		t.Fatal(err)
	}
	people := rules.NewRoster([]rules.Person{{Name: "tim", Tags: []string{"child"}}, {Name: "mum", Groups: []string{"parents"}}})
	s := server.New(&server.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	h := mochi.New(s, set, people)
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	for _, err := range []error{s.AddHook(new(auth.AllowHook), nil), s.AddHook(h, nil), s.AddListener(l), s.Serve()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		// mochi's Close reads the list of clients while it reads it: for ever, if one that
		// goes comes between. Its own inline client stays.
		for s.Clients.Len() > 1 {
			time.Sleep(time.Millisecond)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return l.Address(), h
}

func dial(t *testing.T, address, user string, receive func(*mqtt.Message)) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Config{Address: address, User: user, Client: user + "-phone", Clean: true, Receive: receive})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestRulesRunInAMochiServer(t *testing.T) {
	for name, row := range map[string]struct{ topic, in, out string }{
		"plain JSON":        {"users/tim/location", `{"lat":48.2,"lon":16.37,"tst":1000}`, `{"lat":48.25,"lon":16.37,"tst":1060}`},
		"a batch":           {"users/tim/location/watch", `[]`, `[{"lat":48.2,"lon":16.37,"tst":1000},{"lat":48.25,"lon":16.37,"tst":1060}]`},
		"OwnTracks":         {"owntracks/tim/watch", `{"_type":"location","lat":48.2,"lon":16.37,"tst":1000}`, `{"_type":"location","lat":48.25,"lon":16.37,"tst":1060}`},
		"a source of rules": {"trackers/tim/pos", `{"latitude":48.2,"longitude":16.37,"at":1000}`, `{"latitude":48.25,"longitude":16.37,"at":1060}`},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := serve(t)
			inbox := make(chan *mqtt.Message, 10)
			mum := dial(t, address, "mum", func(m *mqtt.Message) { inbox <- m })
			if err := mum.Subscribe(t.Context(), "users/mum/inbox"); err != nil {
				t.Fatal(err)
			}
			tim := dial(t, address, "tim", nil)
			for _, fix := range []string{row.in, row.out} {
				if err := tim.Publish(t.Context(), row.topic, []byte(fix), false); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case m := <-inbox:
				var e struct {
					Rule, Event, Zone, Who string
					Lat                    float64
				}
				if err := json.Unmarshal(m.Payload, &e); err != nil {
					t.Fatal(err)
				}
				if e.Rule != "school-out" || e.Event != "exit" || e.Zone != "school" || e.Who != "tim" || e.Lat != 48.25 {
					t.Errorf("got %s", m.Payload)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("no event")
			}
		})
	}
}

func TestAnotherPersonsFixesAreRejected(t *testing.T) {
	address, h := serve(t)
	eve := dial(t, address, "eve", nil)
	for _, fix := range []string{`{"lat":48.2,"lon":16.37}`, `nonsense`} {
		if err := eve.Publish(t.Context(), "users/tim/location", []byte(fix), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := eve.Publish(t.Context(), "users/eve/location", []byte("nonsense"), false); err != nil {
		t.Fatal(err)
	}
	if err := eve.Publish(t.Context(), "elsewhere", []byte("nonsense"), false); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); h.Rejected.Load() != 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d rejected, want 3", h.Rejected.Load())
		}
	}
}
