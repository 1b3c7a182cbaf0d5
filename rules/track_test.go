package rules_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

func TestReadTrack(t *testing.T) {
	const gpx10 = "<?xml version=\"1.0\"?>\n<gpx version=\"1.0\" xmlns=\"http://www.topografix.com/GPX/1/0\">\n<trk><trkseg>\n"
	for _, test := range []struct{ name, text, want string }{
		{"csv", "who,tracker,lat,lon,tst,acc,recv\nann,phone,48.1,11.5,1790000060.5,12,2026-09-21T14:15:00Z\n",
			"ann/phone 48.1 11.5 tst=1790000060500 recv=1790000100000 acc=12"},
		{"csv with a byte-order mark", "\ufefflat,lon,tst\n48.1,11.5,1\n", "/ 48.1 11.5 tst=1000 recv=0 acc=0"},
		{"csv: a name of digits stays a name", "who,tracker,lat,lon,tst\n007,1e3,48.1,11.5,1790000060.123\n", "007/1e3 48.1 11.5 tst=1790000060123 recv=0 acc=0"},
		{"empty", "", "track: it is empty"},
		{"csv: unknown column", "who,lat,lon,tts\n", `track: line 1: unknown column "tts"; did you mean "tst"?`},
		{"csv: a column that is like none", "who,lat,lon,tst,vehicle_id\n", `track: line 1: unknown column "vehicle_id"; known are who, tracker, lat, lon, tst, recv, acc, alt, vel, cog, batt, event or id`},
		{"csv: missing column", "who,lat,lon\n", `track: line 1: no column "tst"`},
		{"csv: column twice", "lat,lon,tst,lat\n", `track: line 1: column "lat" stands there twice`},
		{"csv: bad number", "who,lat,lon,tst\nann,x,11.5,1\n", "track: line 2: lat x is not a number"},
		{"csv: empty number", "who,lat,lon,tst\nann,48,,1\n", "track: line 2: lon  is not a number"},
		{"csv: not a number", "who,lat,lon,tst,acc\nann,48,11,1,NaN\n", "track: line 2: acc NaN is not a number"},
		{"csv: out of range", "who,lat,lon,tst\nann,98,11.5,1\n", "track: line 2: no valid lat and lon"},
		{"csv: bad time", "who,lat,lon,tst\nann,48,11.5,noon\n", `track: line 2: tst "noon" is neither seconds nor an RFC 3339 time`},
		{"csv: a line without an end", "lat,lon,tst\n48,11,1\n" + strings.Repeat("4", 3<<20), "track: a line is longer than 1 MB"},
		{"csv: many lines", "lat,lon,tst\n" + strings.Repeat("#", 1<<19) + "\n" + strings.Repeat("#", 1<<20) + "\n", "track: record on line 2: wrong number of fields"},
		{"json lines", "{\"who\":\"ann\",\"tracker\":\"phone\",\"lat\":48.1,\"lon\":11.5,\"tst\":1790000060.5,\"acc\":12}\n\n",
			"ann/phone 48.1 11.5 tst=1790000060500 recv=0 acc=12"},
		{"json lines as subscribers get them", `{"v":1,"who":"ann","tracker":"phone","lat":48.1,"lon":11.5,"tst":1,"ts":2500}`, "ann/phone 48.1 11.5 tst=1000 recv=2500 acc=0"},
		{"json lines: no tst", `{"lat":48.1,"lon":11.5}`, "track: line 1: no tst"},
		{"json lines: broken", "{\"lat\":48.1,\"lon\":11.5,\"tst\":1}\n{\"lat\"", "track: line 2: not a JSON object: unexpected end of JSON input"},
		{"gpx 1.0", gpx10 + `<trkpt lat="48.1" lon="11.5"><ele>500</ele><time>2026-09-21T14:15:00Z</time><course>90</course><speed>10</speed></trkpt></trkseg></trk></gpx>`,
			"/ 48.1 11.5 tst=1790000100000 recv=0 acc=0 alt=500 vel=36 cog=90"},
		{"gpx: waypoints are no fixes", `<gpx><wpt lat="1" lon="1"/></gpx>`, ""},
		{"gpx: no time", gpx10 + `<trkpt lat="48.1" lon="11.5"></trkpt></trkseg></trk></gpx>`, `track: line 4: trkpt has no time that can be read (""): a fix needs one`},
		{"gpx: no position", gpx10 + `<trkpt lat="98.1" lon="11.5"></trkpt></trkseg></trk></gpx>`, `track: line 4: trkpt has no valid lat and lon`},
		{"gpx: cut off", gpx10, "track: line 4: XML syntax error on line 4: unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fixes, err := rules.ReadTrack(strings.NewReader(test.text))
			var got []string
			for _, f := range fixes {
				got = append(got, describe(&f))
			}
			if err != nil {
				got = []string{err.Error()}
			}
			if strings.Join(got, "\n") != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func describe(f *geo.Fix) string {
	s := fmt.Sprintf("%s/%s %g %g tst=%d recv=%d acc=%g", f.Who, f.Tracker, f.Lat, f.Lon, f.Tst, f.Recv, f.Acc)
	for _, m := range []struct {
		name string
		has  geo.Has
		v    float64
	}{{"alt", geo.HasAlt, f.Alt}, {"vel", geo.HasVel, f.Vel}, {"cog", geo.HasCog, f.Cog}, {"batt", geo.HasBatt, f.Batt}} {
		if f.Has&m.has != 0 {
			s += fmt.Sprintf(" %s=%g", m.name, m.v)
		}
	}
	return s
}

// A real file of another program is read whole.
func TestReadTrackOfACar(t *testing.T) {
	file, err := os.Open("testdata/tracks/visnjan-car.gpx")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fixes, err := rules.ReadTrack(file)
	if err != nil {
		t.Fatal(err)
	}
	first, last := fixes[0], fixes[len(fixes)-1]
	if len(fixes) != 104 || first.Tst >= last.Tst || !first.Valid() {
		t.Errorf("%d fixes from %s to %s", len(fixes), describe(&first), describe(&last))
	}
}

var formats = []rules.TrackFormat{rules.GPX, rules.CSV, rules.JSONL}

// What was written in any format is read back the same.
func TestTracksRoundTrip(t *testing.T) {
	r := random(t)
	var fixes []geo.Fix
	for _, tracker := range []string{"watch", "phone <&> \"x\"", "007", "ключ,1"} {
		for range 50 {
			fixes = append(fixes, randomFix(r, tracker))
		}
	}
	for _, format := range formats {
		t.Run(string(format), func(t *testing.T) {
			var text bytes.Buffer
			if err := rules.WriteTrack(&text, format, slices.Values(fixes)); err != nil {
				t.Fatal(err)
			}
			got, err := rules.ReadTrack(bytes.NewReader(text.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(fixes) {
				t.Fatalf("%d of %d fixes", len(got), len(fixes))
			}
			for i := range got {
				if !reflect.DeepEqual(got[i], fixes[i]) {
					t.Fatalf("fix %d: got %+v, want %+v", i, got[i], fixes[i])
				}
			}
		})
	}
}

func randomFix(r *rand.Rand, tracker string) geo.Fix {
	at := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC).UnixMilli() + r.Int64N(1e9)
	f := geo.Fix{Who: "ann", Tracker: tracker, Position: geo.Position{Lat: 180*r.Float64() - 90, Lon: 360*r.Float64() - 180}, Tst: at, Recv: at + r.Int64N(1e6)}
	f.Has = geo.Has(r.IntN(16))
	for _, m := range []struct {
		has geo.Has
		to  *float64
	}{{geo.HasAlt, &f.Alt}, {geo.HasVel, &f.Vel}, {geo.HasCog, &f.Cog}, {geo.HasBatt, &f.Batt}} {
		if f.Has&m.has != 0 {
			*m.to = 100 * r.Float64()
		}
	}
	if r.IntN(2) == 0 {
		f.Acc = 100 * r.Float64()
	}
	if r.IntN(3) == 0 {
		f.Event, f.ID = "enter", "0x1f, \"q\" <b>"
	}
	return f
}

// FuzzReadTrack: no text makes it panic, and what it reads it writes and reads back.
func FuzzReadTrack(f *testing.F) {
	f.Add([]byte("who,lat,lon,tst\nann,48,11,1\n"))
	f.Add([]byte(`{"who":"ann","lat":1,"lon":2,"tst":3,"batt":5}`))
	f.Add([]byte(`<gpx><trk><trkseg><trkpt lat="48.1" lon="11.5"><time>2026-09-21T14:15:00Z</time></trkpt></trkseg></trk></gpx>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		fixes, err := rules.ReadTrack(bytes.NewReader(text))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := rules.WriteTrack(&out, rules.JSONL, slices.Values(fixes)); err != nil {
			t.Fatal(err)
		}
		if len(fixes) == 0 {
			return
		}
		again, err := rules.ReadTrack(&out)
		if err != nil || len(again) != len(fixes) {
			t.Fatalf("%d of %d fixes: %v", len(again), len(fixes), err)
		}
	})
}
