package rules_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

func TestEventJSON(t *testing.T) {
	at := geo.Position{Lat: 48.2082, Lon: 16.3738}
	for _, test := range []struct {
		name  string
		event rules.Event
		epoch string
		want  string
	}{
		{
			"zone", rules.Event{ID: "01jd", Rule: "school-out", Situation: rules.Exit, Zone: "school", Who: "tim", Tracker: "watch", Position: at, Acc: 12, Tst: 1790000060000},
			"k3x9",
			`{"v":1,"seq":4183,"epoch":"k3x9","type":"geo","rule":"school-out","event":"exit","zone":"school","who":"tim","tracker":"watch","lat":48.2082,"lon":16.3738,"acc":12,"tst":1790000060,"ts":1790000060400,"id":"01jd"}`,
		},
		{
			"pair without numbering, quoted text, milliseconds", rules.Event{ID: "x", Rule: "r", Situation: rules.Near, Who: "tim", Tracker: "watch", With: "zoë", Position: at, Tst: 1790000060050, Text: "a \"b\"\n"},
			"",
			`{"v":1,"type":"geo","rule":"r","event":"near","who":"tim","tracker":"watch","with":"zoë","lat":48.2082,"lon":16.3738,"tst":1790000060.050,"ts":1790000060400,"id":"x","text":"a \"b\"\n"}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.event.AppendJSON(nil, 4183, test.epoch, 1790000060400)
			if string(got) != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if !json.Valid(got) {
				t.Error("not JSON")
			}
		})
	}
}

// TestEventID: the same event has the same id on every engine, and another event another.
func TestEventID(t *testing.T) {
	set, err := rules.Parse("rules.yaml", []byte("version: 1\nzones: {z: {circle: {lat: 48, lon: 11, radius: 1km}}}\nrules: {in: {when: {inside: z}, to: self}}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	fix := geo.Fix{Who: "ann", Tracker: "phone", Position: geo.Position{Lat: 48, Lon: 11}, Tst: 1790000060000}
	later := fix
	later.Tst += time.Second.Milliseconds()
	first := rules.Test(set, crew{}, []geo.Fix{later, fix})
	again := rules.Test(set, crew{}, []geo.Fix{fix, later})
	if len(first) != 2 || len(again) != 2 {
		t.Fatalf("%d and %d events, want 2 each", len(first), len(again))
	}
	if first[0].ID != again[0].ID || first[1].ID != again[1].ID || first[0].ID == first[1].ID || len(first[0].ID) != 24 {
		t.Errorf("ids %q %q, again %q %q", first[0].ID, first[1].ID, again[0].ID, again[1].ID)
	}
}

// The events of docs/wire.md are written so.
func TestWireDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	vienna, munich := geo.Position{Lat: 48.2082, Lon: 16.3738}, geo.Position{Lat: 48.137, Lon: 11.575}
	for _, test := range []struct {
		event rules.Event
		seq   uint64
		ts    int64
	}{
		{rules.Event{ID: "4mt0f74bn8s7q8yh6qkzg5zc", Rule: "school-out", Situation: rules.Exit, Zone: "school", Who: "tim", Tracker: "watch", Position: vienna, Acc: 12, Tst: 1790000060000}, 3, 1790000060400},
		{rules.Event{ID: "dtmd5zpq71vj3tk4jg59y44c", Rule: "crew-meets", Situation: rules.Near, Who: "ann", Tracker: "phone", With: "bob", WithTracker: "phone", Position: vienna, Tst: 1790000060500, Text: "ann is near bob"}, 4, 1790000060900},
		{rules.Event{ID: "6r70y0kq1jngvd4n25w2twt4", Rule: "board", Situation: rules.Enter, Zone: "depot", Who: "van7", Tracker: "gps", Position: munich, Tst: 1790000060000}, 0, 1790000060400},
	} {
		epoch := "KFO4RZUJ"
		if test.seq == 0 {
			epoch = ""
		}
		if line := string(test.event.AppendJSON(nil, test.seq, epoch, test.ts)); !strings.Contains(string(page), "\n"+line+"\n") {
			t.Errorf("the page does not have %s", line)
		}
	}
}
