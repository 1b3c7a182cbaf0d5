package geo_test

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/geocast/geocast/geo"
)

var seed = flag.Uint64("seed", 0, "seed of the random tests; 0 takes a new one")

func random(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, s))
}

func TestDistanceAgreesWithGeographicLib(t *testing.T) {
	f, err := os.Open("testdata/GeodTest-100.dat")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		var lat1, lon1, azi1, lat2, lon2, azi2, want float64
		if _, err := fmt.Sscan(s.Text(), &lat1, &lon1, &azi1, &lat2, &lon2, &azi2, &want); err != nil {
			t.Fatal(err)
		}
		got := geo.Distance(geo.Position{Lat: lat1, Lon: lon1}, geo.Position{Lat: lat2, Lon: lon2})
		allowed := 0.001
		if want > 19_900_000 {
			allowed = want * 0.005 // nearly antipodal, as documented
		}
		if math.Abs(got-want) > allowed {
			t.Errorf("%g,%g to %g,%g: got %.4f m, want %.4f", lat1, lon1, lat2, lon2, got, want)
		}
	}
	if n < 100 {
		t.Fatalf("%d vectors, want 100", n)
	}
}

func TestFlatDistanceMeetsTheGeodesic(t *testing.T) {
	r := random(t)
	for range 20000 {
		a := geo.Position{Lat: -74 + 148*r.Float64(), Lon: -180 + 360*r.Float64()}
		b := geo.Position{Lat: a.Lat + 0.4*(r.Float64()-0.5), Lon: a.Lon + 0.4*(r.Float64()-0.5)}
		// Over a far point the long formula is used: |ab| must lie within the
		// triangle inequality, and halves must add up on a straight line.
		m := geo.Position{Lat: (a.Lat + b.Lat) / 2, Lon: (a.Lon + b.Lon) / 2}
		d, halves := geo.Distance(a, b), geo.Distance(a, m)+geo.Distance(m, b)
		if math.Abs(d-halves) > 0.05 {
			t.Fatalf("%v to %v: %f, by halves %f", a, b, d, halves)
		}
		if back := geo.Distance(b, a); math.Abs(back-d) > 1e-6 {
			t.Fatalf("%v to %v: %f there, %f back", a, b, d, back)
		}
	}
}

// The faults of others that facts name: each must be right here.
func TestCirclesAtTheEdgesOfTheMap(t *testing.T) {
	for _, c := range []struct {
		name   string
		circle geo.Circle
		p      geo.Position
		in     bool
	}{
		{"over 180°", geo.Circle{Center: geo.Position{Lat: 0, Lon: 179.999}, Radius: 1000}, geo.Position{Lat: 0, Lon: -179.998}, true},
		{"the corner of the square is outside", geo.Circle{Center: geo.Position{}, Radius: 1000}, geo.Position{Lat: 0.0085, Lon: 0.0085}, false},
		{"around the pole", geo.Circle{Center: geo.Position{Lat: 89.999, Lon: 0}, Radius: 1000}, geo.Position{Lat: 89.999, Lon: 180}, true},
		{"the centre", geo.Circle{Center: geo.Position{Lat: 48, Lon: 11}, Radius: 1}, geo.Position{Lat: 48, Lon: 11}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.circle.Contains(c.p); got != c.in {
				t.Errorf("Contains is %v", got)
			}
			var x geo.ZoneIndex
			x.Insert(1, geo.Zone{Shape: c.circle})
			found := false
			x.Containing(c.p, func(int) bool { found = true; return true })
			if found != c.in {
				t.Errorf("the index says %v", found)
			}
		})
	}
}

func square(west, east float64) []geo.Position {
	return []geo.Position{{Lat: -10, Lon: west}, {Lat: -10, Lon: east}, {Lat: 10, Lon: east}, {Lat: 10, Lon: west}}
}

func TestPolygonContains(t *testing.T) {
	p := func(outer []geo.Position, holes ...[]geo.Position) *geo.Polygon {
		p, err := geo.NewPolygon(outer, holes...)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	over := p(square(170, -170))
	holed := p(square(0, 10), []geo.Position{{Lat: -5, Lon: 3}, {Lat: -5, Lon: 6}, {Lat: 5, Lon: 6}, {Lat: 5, Lon: 3}})
	for _, c := range []struct {
		name string
		p    *geo.Polygon
		q    geo.Position
		in   bool
	}{
		{"uncut over 180° holds 175", over, geo.Position{Lat: 0, Lon: 175}, true},
		{"uncut over 180° holds -175", over, geo.Position{Lat: 0, Lon: -175}, true},
		{"uncut over 180° does not hold 0", over, geo.Position{}, false},
		{"at 180", over, geo.Position{Lat: 0, Lon: 180}, true},
		{"at -180", over, geo.Position{Lat: 0, Lon: -180}, true},
		{"on the edge", holed, geo.Position{Lat: 10, Lon: 5}, true},
		{"at a corner", holed, geo.Position{Lat: 10, Lon: 10}, true},
		{"in the hole", holed, geo.Position{Lat: 0, Lon: 5}, false},
		{"on the hole's edge", holed, geo.Position{Lat: 0, Lon: 3}, true},
		{"beside the hole", holed, geo.Position{Lat: 0, Lon: 2}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.p.Contains(c.q); got != c.in {
				t.Errorf("Contains is %v", got)
			}
			if d := c.p.Distance(c.q); (d == 0) != c.in {
				t.Errorf("Distance is %f", d)
			}
		})
	}
	if d := over.Distance(geo.Position{Lat: 0, Lon: -169}); math.Abs(d-111319.49) > 1 {
		t.Errorf("one degree east of it: %f m", d)
	}
}

func TestPolygonFaultsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		ring []geo.Position
		want error
	}{
		{"two points", []geo.Position{{Lat: 1, Lon: 1}, {Lat: 2, Lon: 2}}, geo.ErrFewPoints},
		{"latitude 91", []geo.Position{{Lat: 91, Lon: 1}, {Lat: 2, Lon: 2}, {Lat: 1, Lon: 3}}, geo.ErrPosition},
		{"bow tie", []geo.Position{{Lat: 0, Lon: 0}, {Lat: 10, Lon: 10}, {Lat: 10, Lon: 0}, {Lat: 0, Lon: 10}}, geo.ErrCrossing},
		{"on a line", []geo.Position{{Lat: 0, Lon: 0}, {Lat: 1, Lon: 1}, {Lat: 3, Lon: 3}}, geo.ErrNoArea},
		{"around the pole", []geo.Position{{Lat: 80, Lon: -170}, {Lat: 80, Lon: -50}, {Lat: 80, Lon: 70}, {Lat: 80, Lon: 175}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := geo.NewPolygon(c.ring)
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestHolesAreInside(t *testing.T) {
	at := func(west, east float64) (ring []geo.Position) {
		for _, p := range square(west, east) {
			ring = append(ring, geo.Position{Lat: p.Lat / 2, Lon: p.Lon})
		}
		return ring
	}
	for _, c := range []struct {
		name string
		hole []geo.Position
		want error
	}{{"inside", at(3, 6), nil}, {"at the edge", at(0, 6), nil}, {"partly outside", at(-1, 6), geo.ErrHole}, {"elsewhere", at(100, 106), geo.ErrHole}} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := geo.NewPolygon(square(0, 10), c.hole); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestIndexesAgreeWithALinearScan(t *testing.T) {
	r := random(t)
	place := func() geo.Position {
		lat := []float64{0, 48, 89.9, -89.9}[r.IntN(4)] + 0.1*(r.Float64()-0.5)
		lon := []float64{0, 179.99, -179.99, 90}[r.IntN(4)] + 0.1*(r.Float64()-0.5)
		return geo.Position{Lat: max(-90, min(90, lat)), Lon: math.Remainder(lon, 360)}
	}
	var zones geo.ZoneIndex
	circles := make([]geo.Circle, 300)
	for i := range circles {
		circles[i] = geo.Circle{Center: place(), Radius: 100 + 20000*r.Float64()}
		zones.Insert(i, geo.Zone{Shape: circles[i]})
	}
	var movers geo.MoverIndex[int]
	at := make([]geo.Position, 500)
	for i := range at {
		at[i] = place()
		movers.Insert(i, at[i])
	}
	for range 500 {
		p, radius := place(), 30000*r.Float64()
		var got, want []int
		zones.Containing(p, func(id int) bool { got = append(got, id); return true })
		for i, c := range circles {
			if c.Contains(p) {
				want = append(want, i)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("zones at %v: got %v, want %v", p, got, want)
		}
		got, want = nil, nil
		movers.Within(p, radius, func(i int, _ float64) bool { got = append(got, i); return true })
		for i, q := range at {
			if geo.Distance(p, q) <= radius {
				want = append(want, i)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("movers within %f of %v: got %v, want %v", radius, p, got, want)
		}
	}
}

func TestCountriesLoad(t *testing.T) {
	text, err := os.ReadFile("testdata/countries-110m.json")
	if err != nil {
		t.Fatal(err)
	}
	zones, err := geo.ParseGeoJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(zones) != 177 {
		t.Fatalf("%d countries, want 177", len(zones))
	}
	var x geo.ZoneIndex
	for i, z := range zones {
		x.Insert(i, z)
	}
	for _, c := range []struct {
		place string
		p     geo.Position
		n     int
	}{{"Vienna", geo.Position{Lat: 48.2, Lon: 16.37}, 1}, {"the Pacific", geo.Position{Lat: 0, Lon: -140}, 0}, {"the South Pole", geo.Position{Lat: -90, Lon: 30}, 1}, {"Chukotka, beyond 180°", geo.Position{Lat: 66.5, Lon: -175}, 1}} {
		n := 0
		x.Containing(c.p, func(int) bool { n++; return true })
		if n != c.n {
			t.Errorf("%s lies in %d countries, want %d", c.place, n, c.n)
		}
	}
}

func FuzzDecodeFixes(f *testing.F) {
	f.Add([]byte(`{"_type":"location","lat":48.2,"lon":16.3,"tst":1790000060}`))
	f.Add([]byte(`[{"lat":1,"lon":2},{}]`))
	f.Add([]byte("\xa2clat\x01clon\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fixes, _, _ := geo.DecodeFixes(b, 1790000000000)
		for _, fix := range fixes {
			if !fix.Valid() || math.IsNaN(fix.Acc) || fix.Acc < 0 || fix.Tst <= 0 {
				t.Fatalf("%+v came through", fix)
			}
		}
	})
}

func FuzzParseGeoJSON(f *testing.F) {
	f.Add([]byte(`{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		zones, _ := geo.ParseGeoJSON(b)
		for _, z := range zones {
			z.Contains(geo.Position{Lat: 1, Lon: 1})
			z.Bounds()
		}
	})
}
