package geo_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/geocast/geocast/geo"
)

// inCBOR is a payload in CBOR.
func inCBOR(t testing.TB, v any) string {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each payload of docs/wire.md, single and in arrays, and what is wrong with others.
func TestPayloads(t *testing.T) {
	type m = map[string]any
	const now = 1790000000000
	const full = "48.2 16.3 1790000060500 acc=12.5 alt=250 vel=36 cog=90 batt=80 event=enter id=0f3a"
	fields := `"lat":48.2,"lon":16.3,"tst":1790000060.5,"acc":12.5,"alt":250,"vel":36,"cog":90,"batt":80,"event":"enter","_id":"0f3a"`
	properties := strings.Replace(fields, `"lat":48.2,"lon":16.3,`, "", 1)
	feature := `{"type":"Feature","geometry":{"type":"Point","coordinates":[16.3,48.2]},"properties":{` + properties + `}}`
	asCBOR := m{"lat": 48.2, "lon": 16.3, "tst": 1790000060.5, "acc": 12.5, "alt": 250, "vel": 36, "cog": 90, "batt": 80, "event": "enter", "_id": "0f3a"}
	for _, c := range []struct{ name, payload, want string }{
		{"plain", `{` + fields + `}`, full},
		{"plain, with what we don't know", `{"lat":48.2,"lon":16.3,"tst":1790000060,"temperature":21,"x":{"y":[]}}`, "48.2 16.3 1790000060000"},
		{"plain, only a position", ` {"lat":48.2,"lon":16.3}`, "48.2 16.3 1790000000000"},
		{"plain, null is absent", `{"lat":48.2,"lon":16.3,"tst":null,"acc":null,"batt":null}`, "48.2 16.3 1790000000000"},
		{"plain, 0 is a value", `{"lat":0,"lon":0,"tst":1,"vel":0,"batt":0}`, "0 0 1000 vel=0 batt=0"},
		{"plain, at the edges", `{"lat":-90,"lon":180,"tst":1}`, "-90 180 1000"},
		{"OwnTracks location", `{"_type":"location",` + fields + `,"tid":"ph","t":"u","conn":"w","inregions":["home"],"topic":"x"}`, full},
		{"OwnTracks transition", `{"_type":"transition","event":"enter","desc":"home","t":"c","wtst":1789999999,"lat":48.2,"lon":16.3,"tst":1790000060,"acc":12}`, "48.2 16.3 1790000060000 acc=12 event=enter"},
		{"OwnTracks, another type with a position", `{"_type":"poi","lat":48.2,"lon":16.3,"tst":1790000060}`, "48.2 16.3 1790000060000"},
		{"OwnTracks waypoint", `{"_type":"waypoint","desc":"home","lat":48.2,"lon":16.3,"rad":50,"tst":1790000060}`, ""},
		{"OwnTracks lwt", `{"_type":"lwt","tst":1790000060}`, ""},
		{"OwnTracks card", `{"_type":"card","name":"Ann","tid":"an"}`, ""},
		{"OwnTracks steps", `{"_type":"steps","tst":1790000060,"steps":12}`, ""},
		{"OwnTracks encrypted", `{"_type":"encrypted","data":"AAAA"}`, "0: an encrypted payload can't be read; switch encryption off in the app, and use TLS"},
		{"OwnTracks without tst", `{"_type":"location","lat":48.2,"lon":16.3}`, "0: tst is needed, in Unix seconds"},
		{"GeoJSON", feature, full},
		{"GeoJSON, with a height", `{"type":"Feature","geometry":{"type":"Point","coordinates":[16.3,48.2,250]},"properties":null}`, "48.2 16.3 1790000000000 alt=250"},
		{"GeoJSON, a line", `{"type":"Feature","geometry":{"type":"LineString","coordinates":[[16.3,48.2],[1,2]]}}`, "0: the feature's geometry is not a Point of [lon, lat]"},
		{"GeoJSON, half a point", `{"type":"Feature","geometry":{"type":"Point","coordinates":[16.3]}}`, "0: the feature's geometry is not a Point of [lon, lat]"},
		{"GeoJSON, swapped", `{"type":"Feature","geometry":{"type":"Point","coordinates":[48.2,163]}}`, "0: lat 163, lon 48.2 is out of range (latitude is -90..90)"},
		{"CBOR", inCBOR(t, asCBOR), full},
		{"CBOR, whole numbers", inCBOR(t, m{"lat": 48, "lon": -16, "tst": 1790000060}), "48 -16 1790000060000"},
		{"CBOR, half precision", "\xa2\x63lat\xf9\x3c\x00\x63lon\xf9\x40\x00", "1 2 1790000000000"},
		{"array of plain", `[{"lat":1,"lon":2,"tst":1},{"lat":3,"lon":4,"tst":2}]`, "1 2 1000; 3 4 2000"},
		{"array of OwnTracks", `[{"_type":"location","lat":1,"lon":2,"tst":1},{"_type":"lwt","tst":1},{"_type":"location","lat":3,"lon":4,"tst":2}]`, "1 2 1000; 3 4 2000"},
		{"array of GeoJSON", `[` + feature + `,` + feature + `]`, full + "; " + full},
		{"array of several", `[{"lat":1,"lon":2,"tst":1},` + feature + `]`, "1 2 1000; " + full},
		{"array of CBOR", inCBOR(t, []m{asCBOR, {"lat": 1, "lon": 2}}), full + "; 1 2 1790000000000"},
		{"array with bad ones", `[{"lat":98,"lon":2},7,{"lat":1,"lon":2,"tst":1},{"lon":2}]`,
			"1 2 1000; 0: lat 98, lon 2 is out of range (latitude is -90..90); 1: not a report: an object is wanted, not number; 3: lat and lon are needed, in degrees"},
		{"a text for a number", `[{"lat":"1","lon":2},{"lat":1,"lon":2,"tst":"now"}]`, "0: not a report: lat: a number is wanted, not string; 1: not a report: tst: a number is wanted, not string"},
		{"a number for a text", `[{"lat":1,"lon":2,"event":5}]`, "0: not a report: event: a text is wanted, not number"},
		{"a text for a number in CBOR", inCBOR(t, []m{{"lat": "1", "lon": 2}}), "0: not a report: lat: a number is wanted, not UTF-8 text string"},
		{"empty array", `[]`, "error: geo: the payload is an empty array; it holds no fix"},
		{"empty array in CBOR", "\x80", "error: geo: the payload is an empty array; it holds no fix"},
		{"OwnTracks location without a position", `{"_type":"location","tst":1790000060}`, "0: lat and lon are needed, in degrees"},
		{"OwnTracks location with half a position", `{"_type":"location","lat":48.2,"tst":1790000060}`, "0: lat and lon are needed, in degrees"},
		{"OwnTracks transition of a beacon, without a position", `{"_type":"transition","event":"enter","tst":1790000060,"wtst":1}`, ""},
		{"OwnTracks waypoints", `{"_type":"waypoints","waypoints":[{"_type":"waypoint","lat":1,"lon":2,"rad":50,"tst":1}]}`, ""},
		{"OwnTracks status", `{"_type":"status","android":{"hib":0,"bo":1}}`, ""},
		{"OwnTracks command", `{"_type":"cmd","action":"reportLocation"}`, ""},
		{"speed and course not known", `{"lat":1,"lon":2,"tst":1,"vel":-1,"cog":-1,"batt":-100,"alt":-1}`, "1 2 1000 alt=-1"},
		{"no such height, speed, course, battery", `{"lat":1,"lon":2,"tst":1,"vel":1e300,"cog":361,"batt":101,"alt":-1e300}`, "1 2 1000"},
		{"a name twice: the last one counts", `{"lat":98,"lat":1,"lon":2,"tst":7,"tst":1}`, "1 2 1000"},
		{"GeoJSON, a collection", `{"type":"FeatureCollection","features":[` + feature + `]}`, "0: lat and lon are needed, in degrees; send the features of a FeatureCollection as an array"},
		{"GeoJSON, a bare point", `{"type":"Point","coordinates":[1,2]}`, "0: lat and lon are needed, in degrees; wrap the Point into a Feature"},
		{"GeoJSON, nothing", `{"type":"Feature"}`, "0: the feature's geometry is not a Point of [lon, lat]"},
		{"GeoJSON, an empty point", `{"type":"Feature","geometry":{"type":"Point","coordinates":[null,null]}}`, "0: the feature's geometry is not a Point of [lon, lat]"},
		{"CBOR, NaN", inCBOR(t, m{"lat": math.NaN(), "lon": 2}), "0: lat NaN, lon 2 is out of range (latitude is -90..90)"},
		{"CBOR, infinite", inCBOR(t, m{"lat": 1, "lon": math.Inf(-1)}), "0: lat 1, lon -Inf is out of range (latitude is -90..90)"},
		{"CBOR, NaN in the rest", inCBOR(t, m{"lat": 1, "lon": 2, "alt": math.NaN(), "vel": math.Inf(1)}), "1 2 1790000000000"},
		{"CBOR, acc NaN", inCBOR(t, m{"lat": 1, "lon": 2, "acc": math.NaN()}), "0: acc NaN is not in metres"},
		{"CBOR, tst NaN", inCBOR(t, m{"lat": 1, "lon": 2, "tst": math.NaN()}), "0: tst NaN is not in Unix seconds"},
		{"CBOR, an array that promises too much", "\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "error"},
		{"CBOR, nested", strings.Repeat("\x81", 100_000), "error"},
		{"nested", strings.Repeat("[", 100_000), "error"},
		{"nested in a field", `{"lat":1,"lon":2,"x":` + strings.Repeat("[", 100_000), "error"},
		{"1e400", `[{"lat":1e400,"lon":2},{"lat":1,"lon":2}]`, "1 2 1790000000000; 0: not a report: lat: a number is wanted, not number 1e400"},
		{"acc without bound", `{"lat":1,"lon":2,"acc":1e300}`, "0: acc 1e+300 is not in metres"},
		{"tst below 0", `{"lat":1,"lon":2,"tst":-5}`, "0: tst -5 is not in Unix seconds"},
		{"a long word", `{"lat":1,"lon":2,"event":"` + strings.Repeat("x", 129) + `"}`, "0: event or _id is longer than 128 bytes"},
		{"CBOR array with a bad one", inCBOR(t, []any{m{"lat": 1, "lon": 2}, m{"lat": 91, "lon": 2}}), "1 2 1790000000000; 1: lat 91, lon 2 is out of range (latitude is -90..90)"},
		{"acc below 0", `{"lat":1,"lon":2,"acc":-1}`, "0: acc -1 is not in metres"},
		{"tst in milliseconds", `{"lat":1,"lon":2,"tst":1790000060000}`, "0: tst 1790000060000 is not in Unix seconds; it looks like milliseconds"},
		{"tst 0", `{"lat":1,"lon":2,"tst":0}`, "0: tst 0 is not in Unix seconds"},
		{"CBOR, not a number", inCBOR(t, m{"lat": []byte{1}, "lon": 2}), "error"},
		{"a text for a number", `{"lat":"48.2","lon":16.3}`, "error"},
		{"cut off", `{"lat":48.2,"lon":16`, "error"},
		{"nothing", ``, "error"},
		{"space", ` `, "error"},
		{"text", `48.2,16.3`, "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fixes, rejected, err := geo.DecodeFixes([]byte(c.payload), now)
			var got []string
			for _, f := range fixes {
				got = append(got, text(&f))
			}
			for _, r := range rejected {
				got = append(got, fmt.Sprintf("%d: %s", r.Index, r.Reason))
			}
			if err != nil {
				if got = []string{"error"}; !errors.Is(err, geo.ErrPayload) {
					got = []string{"error: " + err.Error()}
				}
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

func text(f *geo.Fix) string {
	s := fmt.Sprintf("%g %g %d", f.Lat, f.Lon, f.Tst)
	if f.Acc > 0 {
		s += fmt.Sprintf(" acc=%g", f.Acc)
	}
	for _, m := range []struct {
		name string
		has  geo.Has
		v    float64
	}{{"alt", geo.HasAlt, f.Alt}, {"vel", geo.HasVel, f.Vel}, {"cog", geo.HasCog, f.Cog}, {"batt", geo.HasBatt, f.Batt}} {
		if f.Has&m.has != 0 {
			s += fmt.Sprintf(" %s=%g", m.name, m.v)
		}
	}
	for _, w := range [][2]string{{"event", f.Event}, {"id", f.ID}} {
		if w[1] != "" {
			s += " " + w[0] + "=" + w[1]
		}
	}
	return s
}

// FuzzPayloads: what is read is valid, and what is written of it is read back, in our
// own form exactly and in that of OwnTracks in whole numbers.
func FuzzPayloads(f *testing.F) {
	f.Add([]byte(`{"_type":"location","lat":48.2,"lon":16.3,"tst":1790000060,"acc":12}`))
	f.Add([]byte(`[{"lat":1,"lon":2,"batt":3},{}]`))
	f.Add([]byte(`{"type":"Feature","geometry":{"type":"Point","coordinates":[16.3,48.2]},"properties":{"tst":1}}`))
	f.Add([]byte(inCBOR(f, []map[string]any{{"lat": 48.2, "lon": 16.3, "vel": 1e300}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		fixes, _, _ := geo.DecodeFixes(b, 1790000000000)
		for _, fix := range fixes {
			again, _, err := geo.DecodeFixes(fix.AppendJSON(nil, 1, "gw"), 1)
			if err != nil || len(again) != 1 || again[0].Position != fix.Position || again[0].Tst != fix.Tst || again[0].Acc != fix.Acc || again[0].Has != fix.Has {
				t.Fatalf("%+v came back as %+v: %v", fix, again, err)
			}
			again, _, err = geo.DecodeFixes(fix.AppendOwnTracks(nil), 1)
			if whole := fix.Tst / 1000; whole > 0 && (err != nil || len(again) != 1 || again[0].Position != fix.Position || again[0].Tst != whole*1000) {
				t.Fatalf("%+v came back from OwnTracks as %+v: %v", fix, again, err)
			}
		}
	})
}

// The payloads of docs/wire.md are read, and what subscribers get is written so.
func TestWireDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	section, _, _ := strings.Cut(string(page), "## Positions, kept")
	in, out, _ := strings.Cut(section, "## Positions, out")
	read := 0
	for _, cell := range strings.Split(in, "`") {
		payload := []byte(cell)
		if bare := strings.ReplaceAll(cell, " ", ""); strings.HasPrefix(bare, "a3") {
			if payload, err = hex.DecodeString(bare); err != nil {
				t.Fatal(err)
			}
		} else if !strings.HasPrefix(cell, `{"`) && !strings.HasPrefix(cell, `[{"`) {
			continue
		}
		fixes, rejected, err := geo.DecodeFixes(payload, 1)
		if err != nil || len(rejected) > 0 || len(fixes) == 0 || fixes[0].Tst != 1790000060000 || fixes[0].Lat != 48.2 || fixes[0].Lon != 16.37 {
			t.Errorf("%s is read as %v, %v, %v", cell, fixes, rejected, err)
		}
		read++
	}
	if read < 6 {
		t.Errorf("%d payloads", read)
	}
	f := geo.Fix{Who: "tim", Tracker: "watch", Position: geo.Position{Lat: 48.2, Lon: 16.37}, Acc: 12, Tst: 1790000060000, Vel: 4.5, Batt: 80, Has: geo.HasVel | geo.HasBatt}
	for _, want := range []string{string(f.AppendJSON(nil, 1790000060400, "")), string(f.AppendOwnTracks(nil))} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("the page does not have %s", want)
		}
	}
	_, apps, _ := strings.Cut(string(page), "## OwnTracks apps")
	for payload, write := range map[string]func(*geo.Fix) []byte{
		`{"_type":"location","lat":48.2,"lon":16.37,"tst":1790000060,"acc":12,"vel":4.6,"batt":80,"tid":"TW","t":"u","conn":"m","bs":1,"vac":3,"inregions":["home"]}`: func(f *geo.Fix) []byte { return f.AppendOwnTracks(nil) },
		`{"_type":"transition","event":"enter","lat":48.2,"lon":16.37,"tst":1790000060,"acc":12,"tid":"TW","t":"c","desc":"home"}`:                                    func(f *geo.Fix) []byte { return f.AppendTransition(nil) },
	} {
		fixes, _, _ := geo.DecodeFixes([]byte(payload), 1)
		if want := string(write(&fixes[0])); !strings.Contains(apps, want+"\n") {
			t.Errorf("the page does not have %s", want)
		}
	}
	if kind, tst := geo.Untracked([]byte(`{"_type":"lwt","tst":1790000060}`)); kind != "lwt" || !strings.Contains(apps, string(geo.AppendLWT(nil, tst))+"\n") {
		t.Errorf("the page does not have the last will: %s %d", kind, tst)
	}
}
