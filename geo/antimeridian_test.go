package geo_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/geocast/geocast/geo"
)

// Shapes over 180° hold what their cut twins hold, and a point is found through the
// index where it is in the shape. What can't be meant in one way is refused by name.
func TestShapesOverTheAntimeridian(t *testing.T) {
	refused := map[string]error{
		"extra-crossing": geo.ErrAroundPole, "north-pole": geo.ErrAroundPole, "south-pole": geo.ErrAroundPole,
		"over-180": geo.ErrPosition, "issues-187": geo.ErrPosition, "line": geo.ErrGeoJSON,
	}
	files, err := filepath.Glob("testdata/antimeridian/input/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d shapes: %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file[:len(file)-len(".json")])
		t.Run(name, func(t *testing.T) {
			if want := refused[name]; want != nil {
				if _, err := parseFile(t, file); !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				return
			}
			whole := zonesOf(t, file)
			cut := zonesOf(t, "testdata/antimeridian/flat/"+name+".json")
			// Either turn of a ring is taken, so this one means what is left of it.
			compare(t, whole, cut, name == "both-poles")
		})
	}
}

func parseFile(t *testing.T, file string) ([]geo.Zone, error) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return geo.ParseGeoJSON(text)
}

func zonesOf(t *testing.T, file string) []geo.Zone {
	t.Helper()
	zones, err := parseFile(t, file)
	if err != nil || len(zones) != 1 {
		t.Fatalf("%d zones: %v", len(zones), err)
	}
	return zones
}

func compare(t *testing.T, whole, cut []geo.Zone, inverted bool) {
	t.Helper()
	r := random(t)
	var index geo.ZoneIndex
	index.Load(whole)
	for range 20000 {
		p := geo.Position{Lat: 180*r.Float64() - 90, Lon: 360*r.Float64() - 180}
		if r.IntN(4) == 0 { // near the seam
			p.Lon = math.Copysign(180-10*r.Float64(), p.Lon)
		}
		in := whole[0].Contains(p)
		if in == (cut[0].Contains(p) == inverted) {
			t.Fatalf("%v: whole %v, cut %v", p, in, cut[0].Contains(p))
		}
		found := 0
		index.Containing(p, func(int) bool { found++; return true })
		if (found == 1) != in || found > 1 {
			t.Fatalf("%v: in the shape is %v, found %d times", p, in, found)
		}
	}
}
