package rules_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

// TestRealTracks compares the events of real tracks, with zones strewn over them, with a
// computation that shares nothing with the engine: distances through the earth in
// three dimensions, polygons by the angle that they go around a point, and each
// fix against each zone and each other tracker.
func TestRealTracks(t *testing.T) {
	for _, test := range []struct {
		name, file     string
		least, most    int     // radius of circles, metres
		size           float64 // of polygons, degrees
		within, events int
	}{
		{"buses", "../examples/rules/bus-route14/track.csv", 50, 300, 0.004, 150, 200},
		{"ships", "testdata/tracks/boats.csv", 500, 10_000, 0.3, 5_000, 50},
		{"storms", "testdata/tracks/storms.csv", 10_000, 20_000, 8, 20_000, 50},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := random(t)
			fixes := trackOf(t, test.file)
			o := &oracle{within: float64(test.within), last: map[string]geo.Fix{}, inside: map[string]bool{}, met: map[string]bool{}}
			for range 25 {
				o.circle(fixes, fixes[r.IntN(len(fixes))].Position, test.least+r.IntN(test.most-test.least))
				o.triangle(r, fixes[r.IntN(len(fixes))].Position, test.size)
			}
			set, err := rules.Parse("rules.yaml", []byte(o.yaml(test.within)), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			people := crew{}
			for _, f := range fixes {
				people[f.Who] = rules.Person{Name: f.Who, Groups: []string{"all"}}
			}
			e := rules.New(set, people)
			for _, f := range fixes {
				events, _ := e.Step(f)
				for i := range events {
					ev := &events[i]
					got = append(got, strings.TrimSpace(fmt.Sprintln(ev.Tst, ev.Situation, ev.Zone, ev.Who, ev.With)))
				}
				want = append(want, o.step(f)...)
			}
			slices.Sort(got)
			slices.Sort(want)
			if len(want) < test.events || !slices.Equal(got, want) {
				t.Errorf("%d events, want %d; the first that differ: %v", len(got), len(want), firstDifference(got, want))
			}
		})
	}
}

func trackOf(t *testing.T, name string) []geo.Fix {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fixes, err := rules.ReadTrack(file)
	if err != nil {
		t.Fatal(err)
	}
	return fixes
}

func firstDifference(a, b []string) [2]string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return [2]string{a[i], b[i]}
		}
	}
	return [2]string{}
}

// An oracle knows zones as numbers: a circle has one corner and a radius.
type oracle struct {
	zones  []place3
	within float64
	last   map[string]geo.Fix
	inside map[string]bool
	met    map[string]bool
}

type place3 struct {
	corners []geo.Position
	radius  float64
}

// circle adds a circle, unless a fix is so near its edge that centimetres decide.
func (o *oracle) circle(fixes []geo.Fix, at geo.Position, radius int) {
	for _, f := range fixes {
		if math.Abs(chord(at, f.Position)-float64(radius)) < 0.05 {
			return
		}
	}
	o.zones = append(o.zones, place3{[]geo.Position{at}, float64(radius)})
}

func (o *oracle) triangle(r *rand.Rand, at geo.Position, size float64) {
	corner := func(turn float64) geo.Position {
		s, c := math.Sincos(2 * math.Pi * (turn + 0.3*r.Float64()) / 3)
		return geo.Position{Lat: at.Lat + size*s + 1e-7*r.Float64(), Lon: at.Lon + size*c + 1e-7*r.Float64()}
	}
	o.zones = append(o.zones, place3{corners: []geo.Position{corner(0), corner(1), corner(2)}})
}

func (o *oracle) yaml(within int) string {
	var b strings.Builder
	b.WriteString("version: 1\nzones:\n")
	for i, z := range o.zones {
		if z.radius > 0 {
			fmt.Fprintf(&b, "  z%d: {circle: {lat: %v, lon: %v, radius: %vm}, tags: [all]}\n", i, z.corners[0].Lat, z.corners[0].Lon, z.radius)
			continue
		}
		fmt.Fprintf(&b, "  z%d: {polygon: [", i)
		for _, c := range z.corners {
			fmt.Fprintf(&b, "[%.12f, %.12f], ", c.Lat, c.Lon)
		}
		b.WriteString("], tags: [all]}\n")
	}
	fmt.Fprintf(&b, `rules:
  in:   {when: {enter: {tag: all}}, to: self}
  out:  {when: {exit: {tag: all}}, to: self}
  met:  {who: {group: all}, when: {near: {within: %dm, apart: %dm, max_age: 2h, of: {group: all}}}, to: self}
`, within, 2*within)
	return b.String()
}

// step returns the events of a fix: tst situation zone who with.
func (o *oracle) step(f geo.Fix) (events []string) {
	last, known := o.last[f.Who]
	if known && f.Tst <= last.Tst {
		return nil
	}
	o.last[f.Who] = f
	for i, z := range o.zones {
		key := fmt.Sprint(f.Who, " ", i)
		was, is := o.inside[key], z.contains(f.Position)
		o.inside[key] = is
		if was != is {
			events = append(events, strings.TrimSpace(fmt.Sprintln(f.Tst, map[bool]string{true: "enter", false: "exit"}[is], fmt.Sprintf("z%d", i), f.Who)))
		}
	}
	for who, other := range o.last {
		if who != f.Who {
			events = append(events, o.meet(&f, &other)...)
		}
	}
	return events
}

// meet returns the meeting of a fix with the last of another, if it is one.
func (o *oracle) meet(f, other *geo.Fix) []string {
	pair := min(f.Who, other.Who) + " " + max(f.Who, other.Who)
	d := chord(f.Position, other.Position)
	switch {
	case d > 2*o.within:
		delete(o.met, pair)
	case d <= o.within && f.Tst-other.Tst <= 2*3600*1000 && other.Tst-f.Tst <= 2*3600*1000 && !o.met[pair]:
		o.met[pair] = true
		return []string{strings.TrimSpace(fmt.Sprintln(f.Tst, "near", "", f.Who, other.Who))}
	}
	return nil
}

func (z place3) contains(p geo.Position) bool {
	if z.radius > 0 {
		return chord(z.corners[0], p) <= z.radius
	}
	turned := 0.0
	for i, a := range z.corners {
		b := z.corners[(i+1)%len(z.corners)]
		turned += math.Remainder(math.Atan2(b.Lat-p.Lat, b.Lon-p.Lon)-math.Atan2(a.Lat-p.Lat, a.Lon-p.Lon), 2*math.Pi)
	}
	return math.Abs(turned) > math.Pi
}

// chord is the way through the earth (WGS84), lengthened to the arc of a circle as
// large as the earth; below 20 km that is the geodesic to less than a millimetre.
func chord(a, b geo.Position) float64 {
	p, q := inSpace(a), inSpace(b)
	d := math.Sqrt((p[0]-q[0])*(p[0]-q[0]) + (p[1]-q[1])*(p[1]-q[1]) + (p[2]-q[2])*(p[2]-q[2]))
	return d + d*d*d/24/6371000/6371000
}

func inSpace(p geo.Position) [3]float64 {
	const a, f = 6378137, 1 / 298.257223563
	const e2 = f * (2 - f)
	sLat, cLat := math.Sincos(p.Lat * math.Pi / 180)
	sLon, cLon := math.Sincos(p.Lon * math.Pi / 180)
	n := a / math.Sqrt(1-e2*sLat*sLat)
	return [3]float64{n * cLat * cLon, n * cLat * sLon, n * (1 - e2) * sLat}
}
