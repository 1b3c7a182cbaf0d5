package rules_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

// However the trackers are taken over into another set - at their next fix, tick by
// tick, at once, or by a restart - the same events follow.
func TestReplaceInAnyWay(t *testing.T) {
	r := random(t)
	for range 20 {
		one := newWorld(r)
		other := *one
		other.circles = slices.Clone(one.circles)
		other.circles[0] = "{lat: 48.02, lon: 179.99, radius: 900m}"
		other.rules = one.rules[r.IntN(4):]
		parse := func(w *world) *rules.Set {
			set, err := rules.Parse("rules.yaml", []byte(w.yaml()), nil)
			if err != nil {
				t.Fatal(err)
			}
			return set
		}
		a, b := parse(one), parse(&other)
		fixes := one.walk(r, 600)
		var want string
		for _, way := range []string{"at the next fix", "ticks", "twice", "restart"} {
			s := &script{t: t, people: one.people, set: a, engine: rules.New(a, one.people), stored: map[string][]byte{}}
			var got strings.Builder
			for i, fix := range fixes {
				if i%150 == 149 {
					s.set = []*rules.Set{a, b}[(i/150+1)%2]
					s.store(s.engine.Replace(s.set))
					switch way {
					case "ticks", "restart":
						for !s.engine.Settled() {
							_, records := s.engine.Tick(0)
							s.store(records)
						}
					case "twice":
						s.store(s.engine.Replace(s.set))
					}
					if way == "restart" {
						s.run("restart")
					}
				}
				events, records := s.engine.Step(fix)
				s.store(records)
				for i := range events {
					fmt.Fprintln(&got, line(&events[i]))
				}
			}
			if want == "" {
				want = got.String()
			}
			if got.String() != want {
				t.Fatalf("%s: other events\n%s\n%s", way, one.yaml(), other.yaml())
			}
		}
	}
}

// A reload is cut: neither Replace nor one Tick goes over all trackers.
func TestReplaceInSteps(t *testing.T) {
	parse := func(radius int) *rules.Set {
		text := fmt.Sprintf("version: 1\nzones: {z: {circle: {lat: 48, lon: 11, radius: %dm}}}\nrules: {in: {when: {enter: z}, to: self}}", radius)
		set, err := rules.Parse("rules.yaml", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	e := rules.New(parse(100), crew{})
	const trackers = 5000
	for i := range trackers {
		e.Step(geo.Fix{Who: fmt.Sprint("u", i), Position: geo.Position{Lat: 48, Lon: 11}, Tst: 1000})
	}
	if records := e.Replace(parse(200)); len(records) != 0 || e.Settled() {
		t.Errorf("%d records, settled %v", len(records), e.Settled())
	}
	ticks, renewed := 0, 0
	for !e.Settled() {
		_, records := e.Tick(2000)
		ticks, renewed = ticks+1, renewed+len(records)
		if len(records) > 1000 {
			t.Fatalf("one tick changed %d records", len(records))
		}
	}
	if ticks < 5 || renewed != trackers {
		t.Errorf("%d ticks renewed %d trackers", ticks, renewed)
	}
}
