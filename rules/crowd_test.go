package rules_test

import (
	"fmt"
	"testing"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

func parse(t *testing.T, text string) *rules.Set {
	t.Helper()
	set, err := rules.Parse("rules.yaml", []byte("version: 1\n"+text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// What a crowd makes the engine hold is bounded: a tracker is near so many others and no
// more, also after a restart.
func TestMeetingsAreBounded(t *testing.T) {
	set := parse(t, "rules: {met: {when: {near: {within: 1km}}, to: self}}")
	e := rules.New(set, rules.Everybody{})
	stored := map[string]rules.StateRecord{}
	events := 0
	step := func(who string, tst int64) {
		raised, records := e.Step(geo.Fix{Who: who, Tracker: "gps", Position: geo.Position{Lat: 48, Lon: 11}, Tst: tst})
		events += len(raised)
		for _, r := range records {
			stored[string(r.Key)] = r
		}
	}
	const most, more = 256, 50 // each of the first 257 meets all the others of them, and each of the rest only the rest
	for i := range most + 1 + more {
		step(fmt.Sprintf("u%04d", i), 1000+int64(i))
	}
	if want := (most+1)*most/2 + more*(more-1)/2; events != want || e.Crowded() != (most+1)*more {
		t.Errorf("%d meetings, %d left out", events, e.Crowded())
	}
	var records []rules.StateRecord
	for _, r := range stored {
		records = append(records, r)
	}
	e = rules.New(set, rules.Everybody{})
	if _, err := e.Restore(records); err != nil {
		t.Fatal(err)
	}
	events = 0
	step("u0000", 10_000)
	if events != 0 || e.Crowded() != more {
		t.Errorf("after a restart %d meetings, %d left out", events, e.Crowded())
	}
}

// In open mode everybody meets everybody; elsewhere strangers need to be contacts.
func TestOpenMode(t *testing.T) {
	set := parse(t, "rules: {met: {when: {near: {within: 1km}}, to: self, consent: contacts}}")
	for name, test := range map[string]struct {
		people rules.People
		want   int
	}{"open": {rules.Everybody{}, 1}, "strangers": {rules.NewRoster([]rules.Person{{Name: "ann"}, {Name: "bob"}}), 0},
		"one side": {rules.NewRoster([]rules.Person{{Name: "ann", Open: true}, {Name: "bob"}}), 0}} {
		t.Run(name, func(t *testing.T) {
			at := geo.Position{Lat: 48, Lon: 11}
			events := rules.Test(set, test.people, []geo.Fix{{Who: "ann", Position: at, Tst: 1000}, {Who: "bob", Position: at, Tst: 2000}})
			if len(events) != test.want || test.want > 0 && len(events[0].Recipients) != 2 {
				t.Errorf("got %v", events)
			}
		})
	}
}
