package rules_test

import (
	"encoding/json"
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
