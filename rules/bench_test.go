package rules_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

// BenchmarkStep: one fix of 10,000 trackers among zones of one density, half of the fixes near the
// last one and half a kilometre away. It must not grow with the number of zones.
func BenchmarkStep(b *testing.B) {
	for _, zones := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("zones=%d", zones), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			side := 0.02 * float64(zones/100) / 10 // degrees of longitude
			at := func() geo.Position { return geo.Position{Lat: 45 + 2*r.Float64(), Lon: side * r.Float64()} }
			var features strings.Builder
			for i := range zones {
				p, d := at(), 0.005
				fmt.Fprintf(&features, `%s{"type":"Feature","properties":{"id":"z%d"},"geometry":{"type":"Polygon","coordinates":[[[%f,%f],[%f,%f],[%f,%f],[%f,%f]]]}}`,
					strings.Repeat(",", min(i, 1)), i, p.Lon-d, p.Lat-d, p.Lon+d, p.Lat-d, p.Lon+d, p.Lat+d, p.Lon-d, p.Lat+d)
			}
			fsys := fstest.MapFS{"z.json": {Data: []byte(`{"type":"FeatureCollection","features":[` + features.String() + "]}")}}
			text := "version: 1\nzones: {all: {file: z.json}}\nrules: {in: {when: {enter: all}, to: self}, out: {when: {exit: all}, to: self}}"
			benchmark(b, r, text, fsys, 10_000, at)
		})
	}
}

// BenchmarkNear: one fix among movers with about one neighbour within 500 m, and a proximity rule.
func BenchmarkNear(b *testing.B) {
	for _, movers := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("movers=%d", movers), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			side := float64(movers) / 100_000
			at := func() geo.Position { return geo.Position{Lat: 45 + 5*r.Float64(), Lon: 2 * side * r.Float64()} }
			benchmark(b, r, "version: 1\nrules: {met: {who: {role: x}, when: {near: {within: 500m, of: {role: x}}}, to: self}}", nil, movers, at)
		})
	}
}

type sameRole struct{}

func (sameRole) User(name string) (rules.Person, bool) { return rules.Person{Role: "x"}, true }
func (sameRole) Group(string) []string                 { return nil }
func (sameRole) Role(string) []string                  { return nil }
func (sameRole) Tag(string) []string                   { return nil }

func benchmark(b *testing.B, r *rand.Rand, text string, fsys fs.FS, trackers int, at func() geo.Position) {
	set, err := rules.Parse("rules.yaml", []byte(text), fsys)
	if err != nil {
		b.Fatal(err)
	}
	e := rules.New(set, sameRole{})
	fixes := make([]geo.Fix, trackers)
	for i := range fixes {
		fixes[i] = geo.Fix{Who: fmt.Sprintf("u%d", i), Tracker: "gps", Position: at(), Tst: 1}
		e.Step(fixes[i])
	}
	b.ReportAllocs()
	b.ResetTimer()
	events := 0
	for i := range b.N {
		f := &fixes[i%trackers]
		f.Tst++
		step := 0.0001
		if i%2 == 0 {
			step = 0.01
		}
		f.Lat += step * (r.Float64() - 0.5)
		raised, _ := e.Step(*f)
		events += len(raised)
	}
	b.ReportMetric(float64(events)/float64(b.N), "events/fix")
}
