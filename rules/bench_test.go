package rules_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

// densities are zones over an area that grows with them, so that a place lies in half a zone or so.
var densities = []int{1_000, 100_000}

// zonesOf writes n squares of a kilometre as GeoJSON, and returns a source of places among them.
func zonesOf(r *rand.Rand, n int) (fs.FS, func() geo.Position) {
	side := 0.02 * float64(n/100) / 10 // degrees of longitude
	at := func() geo.Position { return geo.Position{Lat: 45 + 2*r.Float64(), Lon: side * r.Float64()} }
	var features strings.Builder
	for i := range n {
		p, d := at(), 0.005
		fmt.Fprintf(&features, `%s{"type":"Feature","properties":{"id":"z%d"},"geometry":{"type":"Polygon","coordinates":[[[%f,%f],[%f,%f],[%f,%f],[%f,%f]]]}}`,
			strings.Repeat(",", min(i, 1)), i, p.Lon-d, p.Lat-d, p.Lon+d, p.Lat-d, p.Lon+d, p.Lat+d, p.Lon-d, p.Lat+d)
	}
	return fstest.MapFS{"z.json": {Data: []byte(`{"type":"FeatureCollection","features":[` + features.String() + "]}")}}, at
}

const enterAndExit = "version: 1\nzones: {all: {file: z.json}}\nrules: {in: {when: {enter: all}, to: self}, out: {when: {exit: all}, to: self}}"

// BenchmarkStep: one fix of 10,000 trackers among zones of one density, half of the fixes near the
// last one and half a kilometre away. It must not grow with the number of zones.
func BenchmarkStep(b *testing.B) {
	for _, zones := range densities {
		b.Run(fmt.Sprintf("zones=%d", zones), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			fsys, at := zonesOf(r, zones)
			benchmark(b, r, enterAndExit, fsys, 10_000, at)
		})
	}
}

// BenchmarkStepNaive: what BenchmarkStep finds by its index, by asking each zone.
func BenchmarkStepNaive(b *testing.B) {
	for _, n := range densities {
		b.Run(fmt.Sprintf("zones=%d", n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			fsys, at := zonesOf(r, n)
			set, err := rules.Parse("rules.yaml", []byte(enterAndExit), fsys)
			if err != nil {
				b.Fatal(err)
			}
			zones, found := set.Zones(), 0
			done := cpu(b)
			for range b.N {
				p := at()
				for i := range zones {
					if zones[i].Contains(p) {
						found++
					}
				}
			}
			done()
			b.ReportMetric(float64(found)/float64(b.N), "zones/fix")
		})
	}
}

// crowds are movers over an area that grows with them, about one within 500 m of a place.
var crowds = []int{10_000, 100_000}

func among(r *rand.Rand, movers int) func() geo.Position {
	side := float64(movers) / 100_000
	return func() geo.Position { return geo.Position{Lat: 45 + 5*r.Float64(), Lon: 2 * side * r.Float64()} }
}

// BenchmarkNear: one fix among movers with about one neighbour within 500 m, and a proximity rule.
func BenchmarkNear(b *testing.B) {
	for _, movers := range crowds {
		b.Run(fmt.Sprintf("movers=%d", movers), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			benchmark(b, r, "version: 1\nrules: {met: {who: {role: x}, when: {near: {within: 500m, of: {role: x}}}, to: self}}", nil, movers, among(r, movers))
		})
	}
}

// BenchmarkNearNaive: what BenchmarkNear finds by its index, by measuring the distance to each mover.
func BenchmarkNearNaive(b *testing.B) {
	for _, movers := range crowds {
		b.Run(fmt.Sprintf("movers=%d", movers), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			at := among(r, movers)
			places := make([]geo.Position, movers)
			for i := range places {
				places[i] = at()
			}
			found := 0
			done := cpu(b)
			for i := range b.N {
				p := places[i%movers]
				for _, q := range places {
					if geo.Distance(p, q) <= 500 {
						found++
					}
				}
			}
			done()
			b.ReportMetric(float64(found)/float64(b.N)-1, "near/fix")
		})
	}
}

// cpu begins to measure; the function that it returns reports the process's CPU time for each operation, the collector's included:
// on a shared machine that is the steadier figure.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	runtime.GC()
	b.ReportAllocs()
	b.ResetTimer()
	began := used()
	return func() {
		b.StopTimer()
		b.ReportMetric(float64(used()-began)/float64(b.N)/1000, "cpu-µs/fix")
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
	events := 0
	done := cpu(b)
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
	done()
	b.ReportMetric(float64(events)/float64(b.N), "events/fix")
}
