package geo_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/geocast/geocast/geo"
)

// An index that was loaded, with its grid, finds what a linear scan finds: for small
// and large zones, over 180°, at the poles, on edges, and after a change.
func TestLoadedIndexAgreesWithALinearScan(t *testing.T) {
	r := random(t)
	for range 30 {
		zones := make([]geo.Zone, r.IntN(200))
		for i := range zones {
			zones[i] = geo.Zone{ID: fmt.Sprint(i), Shape: randomShape(t, r)}
		}
		var x geo.ZoneIndex
		x.Load(zones)
		agree(t, r, &x, zones)
		if len(zones) == 0 {
			continue
		}
		x.Delete(0)
		zones[0].Shape = geo.MultiPolygon{}
		agree(t, r, &x, zones)
		zones = append(zones, geo.Zone{Shape: randomShape(t, r)})
		x.Insert(len(zones)-1, zones[len(zones)-1])
		agree(t, r, &x, zones)
	}
}

// somewhere is often at the seam, at a pole, or in one small region.
func somewhere(r *rand.Rand) geo.Position {
	p := geo.Position{Lat: 180*r.Float64() - 90, Lon: 360*r.Float64() - 180}
	switch r.IntN(5) {
	case 0:
		p.Lon = math.Copysign(180-r.Float64(), p.Lon)
	case 1:
		p.Lat = math.Copysign(90-r.Float64(), p.Lat)
	case 2, 3:
		p = geo.Position{Lat: 48 + r.Float64(), Lon: 11 + r.Float64()}
	}
	return p
}

func randomShape(t *testing.T, r *rand.Rand) geo.Shape {
	t.Helper()
	at := somewhere(r)
	size := []float64{0.01, 0.05, 0.5, 20}[r.IntN(4)]
	if r.IntN(2) == 0 {
		return geo.Circle{Center: at, Radius: size * 100_000}
	}
	at.Lat = min(max(at.Lat, size-90), 90-size)
	turn := func(lon float64) float64 { return math.Remainder(lon, 360) }
	p, err := geo.NewPolygon([]geo.Position{{Lat: at.Lat - size, Lon: at.Lon}, {Lat: at.Lat, Lon: turn(at.Lon + size)}, {Lat: at.Lat + size, Lon: at.Lon}, {Lat: at.Lat, Lon: turn(at.Lon - size)}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func agree(t *testing.T, r *rand.Rand, x *geo.ZoneIndex, zones []geo.Zone) {
	t.Helper()
	for range 300 {
		p := somewhere(r)
		if len(zones) > 0 && r.IntN(3) == 0 { // a corner, or the outermost point of a circle
			if b := zones[r.IntN(len(zones))].Bounds(); len(b) > 0 {
				p = b[r.IntN(len(b))].Max
			}
		}
		if r.IntN(10) == 0 {
			p.Lon = 180
		}
		var got, want []int
		x.Containing(p, func(id int) bool { got = append(got, id); return true })
		for i, z := range zones {
			if z.Contains(p) {
				want = append(want, i)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%v: got %v, want %v", p, got, want)
		}
		calls := 0
		x.Containing(p, func(int) bool { calls++; return false })
		if calls != min(1, len(want)) {
			t.Fatalf("%v: %d calls after the end", p, calls)
		}
	}
}
