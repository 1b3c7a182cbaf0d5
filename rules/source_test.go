package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/geocast/geocast/rules"
)

const sourceRules = `
version: 1
sources:
  - topic: trackers/{who}/pos
    map: {lat: latitude, lon: longitude, tst: "timestamp / 1000", vel: "speed * 1.852", batt: "int(power.level)"}
  - topic: fleet/+/{tracker}/up
    map: {who: device.id, lat: "pos[0]", lon: "pos[1]", tst: at, event: "alarm ? 'sos' : ''"}
  - topic: plain/{who}
`

func TestSource(t *testing.T) {
	set, err := rules.Parse("rules.yaml", []byte(sourceRules), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		source  int
		topic   string
		payload string
		want    string
	}{
		{"one", 0, "trackers/ann/pos", `{"latitude":48.1,"longitude":11.5,"timestamp":1790000060123,"speed":10,"power":{"level":"77"}}`, "ann/ 48.1 11.5 1790000060123 vel=18.52 batt=77"},
		{"no time is the arrival", 0, "trackers/ann/pos", `{"latitude":48.1,"longitude":11.5}`, "ann/ 48.1 11.5 1000"},
		{"one of two", 0, "trackers/ann/pos", `[{"latitude":48.1},{"latitude":48.1,"longitude":11.5}]`, "ann/ 48.1 11.5 1000; 0: no lon: longitude has no value"},
		{"out of range", 0, "trackers/ann/pos", `{"latitude":98.1,"longitude":11.5}`, "0: lat 98.1, lon 11.5 is out of range (latitude is -90..90)"},
		{"not a number", 0, "trackers/ann/pos", `{"latitude":"x","longitude":11.5}`, "0: lat x is not a number"},
		{"no JSON", 0, "trackers/ann/pos", `latitude`, "the payload is neither a JSON object nor an array of them"},
		{"another topic", 0, "trackers/ann/pos/x", `{}`, `topic "trackers/ann/pos/x" does not fit the source "trackers/{who}/pos"`},
		{"another level", 0, "tracker/ann/pos", `{}`, `topic "tracker/ann/pos" does not fit the source "trackers/{who}/pos"`},
		{"numeric id and text time", 1, "fleet/x/gps/up", `{"device":{"id":86612300401},"pos":[48.1,11.5],"at":"2026-09-21T14:14:20Z","alarm":true}`, "86612300401/gps 48.1 11.5 1790000060000 sos"},
		{"bad time", 1, "fleet/x/gps/up", `{"device":{"id":"a"},"pos":[48.1,11.5],"at":"noon"}`, `0: tst "noon" is neither seconds nor an RFC 3339 time`},
		{"bad name", 1, "fleet/x/gps/up", `{"device":{"id":"a/b"},"pos":[48.1,11.5]}`, `0: "a/b" can't be a user`},
		{"a known format needs no map", 2, "plain/ann", `[{"lat":48.1,"lon":11.5,"tst":1790000060},{"lat":98}]`, "ann/ 48.1 11.5 1790000060000; 1: lat and lon are needed, in degrees"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := decode(set.Sources()[test.source], test.topic, test.payload); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	if got, want := set.Sources()[1].Filter, "fleet/+/+/up"; got != want {
		t.Errorf("filter %q, want %q", got, want)
	}
}

func decode(s *rules.Source, topic, payload string) string {
	fixes, rejected, err := s.Decode(topic, []byte(payload), 1000)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, f := range fixes {
		l := fmt.Sprintf("%s/%s %g %g %d", f.Who, f.Tracker, f.Lat, f.Lon, f.Tst)
		if f.Vel != 0 {
			l += fmt.Sprintf(" vel=%g", f.Vel)
		}
		if f.Batt != 0 {
			l += fmt.Sprintf(" batt=%g", f.Batt)
		}
		if f.Event != "" {
			l += " " + f.Event
		}
		out = append(out, l)
	}
	for _, r := range rejected {
		out = append(out, fmt.Sprintf("%d: %s", r.Index, r.Reason))
	}
	return strings.Join(out, "; ")
}
