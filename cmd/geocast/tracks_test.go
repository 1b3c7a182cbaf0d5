package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// What a broker has kept over a restart raises the same events in rules test as it
// did live; the store is only read of a broker that has stopped.
func TestExportRaisesTheSameEvents(t *testing.T) {
	dir := t.TempDir()
	addr, stop := serve(t, dir)
	mum := dialPhone(t, addr, "mum", "phone")
	watch := dialPhone(t, addr, "tim", "watch")
	at := time.Now().Unix() - 1000
	var live []string
	report := func(lat float64, offset int64) {
		watch.say(t, "users/tim/location", fmt.Sprintf(`{"lat":%g,"lon":16.37,"tst":%d,"batt":50}`, lat, at+offset))
	}
	report(48.2, 0)
	report(48.3, 10)
	live = append(live, mum.want(t).ID)
	report(48.2, 5) // late
	report(48.2, 20)
	if code := run([]string{"tracks", "export", "--data", dir}); code != 1 {
		t.Errorf("exit code %d while the broker runs", code)
	}
	stop()
	addr, stop = serve(t, dir)
	watch, mum = dialPhone(t, addr, "tim", "watch"), dialPhone(t, addr, "mum", "phone")
	report(48.3, 30)
	for len(live) < 2 {
		if id := mum.want(t).ID; !slices.Contains(live, id) {
			live = append(live, id)
		}
	}
	stop()

	s, err := openStopped(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	set, _ := rules.Parse("rules.yaml", []byte(school), nil)
	people, _ := users.Parse("users.yaml", []byte(house))
	for _, format := range []rules.TrackFormat{rules.GPX, rules.CSV, rules.JSONL} {
		var text bytes.Buffer
		if err := export(&text, broker.HookRecords(s, georules.RecordsName), georules.Query{}, format); err != nil {
			t.Fatal(err)
		}
		fixes, err := rules.ReadTrack(&text)
		if err != nil || len(fixes) != 5 {
			t.Fatalf("%d fixes: %v", len(fixes), err)
		}
		var replayed []string
		for _, e := range rules.Test(set, people.People(), fixes) {
			if slices.Contains(e.Recipients, "mum") {
				replayed = append(replayed, e.ID)
			}
		}
		if !slices.Equal(replayed, live) {
			t.Errorf("%s: replayed %v, live %v", format, replayed, live)
		}
	}
	if err := export(new(bytes.Buffer), broker.HookRecords(s, georules.RecordsName), georules.Query{Who: "eve"}, rules.CSV); err == nil {
		t.Error("nothing was exported without an error")
	}
}

func TestParseTime(t *testing.T) {
	for _, test := range []struct {
		text        string
		first, last int64
		bad         bool
	}{
		{"", 0, 0, false},
		{"2026-09-21", 1789948800000, 1790035199999, false},
		{"2026-09-21T14:15:00Z", 1790000100000, 1790000100000, false},
		{"1790000100.5", 1790000100500, 1790000100500, false},
		{"noon", 0, 0, true},
	} {
		first, last, err := parseTime("--from", test.text)
		if first != test.first || last != test.last || (err != nil) != test.bad {
			t.Errorf("%q: %d, %d, %v", test.text, first, last, err)
		}
	}
}

// A payload that can't be taken is refused with 0x99 and a reason; of a batch the
// rest is kept, and the device is told on its reply topic.
func TestBadFixesByMQTT(t *testing.T) {
	addr, stop := serve(t, t.TempDir())
	defer stop()
	replies := make(chan string, 10)
	c, err := client.Dial(t.Context(), client.Config{Address: addr, User: "tim", Client: "watch", Version: mqtt.V5, Receive: func(m *mqtt.Message) {
		replies <- m.Topic + " " + string(m.Payload)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Subscribe(t.Context(), "users/tim/reply"); err != nil {
		t.Fatal(err)
	}
	var no *client.RefusedError
	err = c.Publish(t.Context(), "users/tim/location", []byte(`[{"lat":98,"lon":16}]`), false)
	if !errors.As(err, &no) || no.Reason != mqtt.PayloadFormatInvalid || !strings.Contains(no.Text, "out of range") {
		t.Errorf("got %v", err)
	}
	if err := c.Publish(t.Context(), "users/tim/location", []byte(`[{"lat":98,"lon":16},{"lat":48,"lon":16}]`), false); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-replies:
		topic, body, _ := strings.Cut(got, " ")
		var e struct {
			Type, Text, Topic string
			Reason            int
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil || topic != "users/tim/reply" || e.Type != "err" || e.Reason != 0x99 || !strings.HasPrefix(e.Text, "report 1: lat 98") {
			t.Errorf("got %s: %v", got, err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nothing was told")
	}
}
