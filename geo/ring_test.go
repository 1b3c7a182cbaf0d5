package geo_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/geocast/geocast/geo"
)

// rings of n corners that cross nowhere, each hard for another way of looking.
var rings = map[string]func(n int) []geo.Position{
	"round": func(n int) (r []geo.Position) {
		for i := range n {
			a := 2 * math.Pi * float64(i) / float64(n)
			r = append(r, geo.Position{Lat: 40 * math.Sin(a), Lon: 80 * math.Cos(a)})
		}
		return r
	},
	"teeth from north to south": func(n int) (r []geo.Position) {
		for i := range n - 2 {
			r = append(r, geo.Position{Lat: float64(i%2) * 40, Lon: 100 * float64(i) / float64(n)})
		}
		return append(r, geo.Position{Lat: -1, Lon: 101}, geo.Position{Lat: -1, Lon: -1})
	},
	"teeth from west to east": func(n int) (r []geo.Position) {
		for i := range n - 2 {
			r = append(r, geo.Position{Lon: float64(i%2) * 40, Lat: 80 * float64(i) / float64(n)})
		}
		return append(r, geo.Position{Lat: 81, Lon: -1}, geo.Position{Lat: -1, Lon: -1})
	},
	"slanting teeth": func(n int) (r []geo.Position) {
		for i := range n - 2 {
			d, at := float64(i%2)*30, 50*float64(i)/float64(n)
			r = append(r, geo.Position{Lat: d - at/2, Lon: d + at})
		}
		return append(r, geo.Position{Lat: -60, Lon: 50}, geo.Position{Lat: -60, Lon: -10})
	},
	"a coast": func(n int) (r []geo.Position) {
		for i := range n {
			a := 2 * math.Pi * float64(i) / float64(n)
			d := 1 + 0.2*math.Sin(a*13) + 0.05*math.Sin(a*177) + 0.0001*float64(i%7)
			r = append(r, geo.Position{Lat: 30 * d * math.Sin(a), Lon: 30 * d * math.Cos(a)})
		}
		return r
	},
}

// A ring that crosses itself is found, whatever its form, and one that does not is taken.
func TestCrossingsOfRings(t *testing.T) {
	for name, ring := range rings {
		t.Run(name, func(t *testing.T) {
			r := ring(1000)
			if _, err := geo.NewPolygon(r); err != nil {
				t.Errorf("whole: %v", err)
			}
			for _, i := range []int{10, 499, 800} {
				bad := append(append([]geo.Position{}, r[:i]...), r[i:]...)
				bad[i], bad[i+120] = bad[i+120], bad[i]
				if _, err := geo.NewPolygon(bad); !errors.Is(err, geo.ErrCrossing) {
					t.Errorf("turned at %d: %v", i, err)
				}
			}
		})
	}
}

// A ring of a country's coast is read, by NewPolygon and as GeoJSON; one that can't be
// checked in a bounded time is refused by the former.
func TestLargeRings(t *testing.T) {
	for name, ring := range rings {
		t.Run(name, func(t *testing.T) {
			r := ring(200_000)
			_, err := geo.NewPolygon(r)
			if wanted := name == "slanting teeth"; errors.Is(err, geo.ErrIntricate) != wanted || err != nil && !wanted {
				t.Errorf("NewPolygon: %v", err)
			}
			var c [][2]float64
			for _, p := range append(r, r[0]) {
				c = append(c, [2]float64{p.Lon, p.Lat})
			}
			text, err := json.Marshal(map[string]any{"type": "Polygon", "coordinates": [][][2]float64{c}})
			if err != nil {
				t.Fatal(err)
			}
			if zones, err := geo.ParseGeoJSON(text); err != nil || len(zones) != 1 {
				t.Errorf("GeoJSON: %d zones, %v", len(zones), err)
			}
		})
	}
	r := rings["round"](200_000)
	small := make([]geo.Position, len(r))
	for i, p := range r {
		small[i] = geo.Position{Lat: p.Lat / 2, Lon: p.Lon / 2}
	}
	if _, err := geo.NewPolygon(r, small); !errors.Is(err, geo.ErrIntricate) {
		t.Errorf("a hole: %v", err)
	}
}
