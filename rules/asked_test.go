package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

// A fix asks no rule that can't match: not those of other zones, of other situations or
// of other people, however many there are.
func TestNoRuleIsAskedThatCannotMatch(t *testing.T) {
	here, there := geo.Position{Lat: 48, Lon: 11}, geo.Position{Lat: 48, Lon: 12.05}
	for _, test := range []struct {
		name  string
		rule  string // @ is the number of the rule
		fixes []geo.Position
		want  uint64
	}{
		{"of other zones", "{when: {enter: z@}, to: self}", []geo.Position{here, there, here}, 2},
		{"of another situation", "{when: {exit: here}, to: self}", []geo.Position{there, here}, 0},
		{"inside, elsewhere", "{when: {inside: z@}, to: self}", []geo.Position{there, there, there}, 0},
		{"of other people in a zone", "{who: {user: u@}, when: {inside: here}, to: self}", []geo.Position{here, here, here}, 3},
		{"of other roles in a zone", "{who: {role: r@}, when: {enter: here}, to: self}", []geo.Position{here}, 1},
		{"near rules of other people", "{who: {group: g@}, when: {near: {within: 1km, of: {tag: t@}}}, to: self}", []geo.Position{here, here}, 2},
		{"near rules of all, with nobody near", "{when: {near: {within: 1km}}, to: self}", []geo.Position{there, there}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := func(many int) uint64 {
				var b strings.Builder
				b.WriteString("version: 1\nzones:\n  here: {circle: {lat: 48, lon: 11, radius: 1km}}\n")
				for i := range many {
					fmt.Fprintf(&b, "  z%d: {circle: {lat: %g, lon: %g, radius: 1km}}\n", i, 48+0.1*float64(i%100), 11+0.1*float64(i/100))
				}
				b.WriteString("rules:\n")
				for i := range many {
					fmt.Fprintf(&b, "  r%d: %s\n", i, strings.ReplaceAll(test.rule, "@", fmt.Sprint(i)))
				}
				set, err := rules.Parse("rules.yaml", []byte(b.String()), nil)
				if err != nil {
					t.Fatal(err)
				}
				people := crew{
					"u5": {Name: "u5", Role: "r5", Groups: []string{"g5", "all"}, Tags: []string{"t5"}},
					"v":  {Name: "v", Groups: []string{"all"}, Tags: []string{"t5"}},
				}
				e := rules.New(set, people)
				e.Step(geo.Fix{Who: "v", Tracker: "gps", Position: here, Tst: 1000})
				before := e.Asked()
				for i, p := range test.fixes {
					e.Step(geo.Fix{Who: "u5", Tracker: "gps", Position: p, Tst: int64(i+2) * 1000})
				}
				return e.Asked() - before
			}
			if few, many := asked(10), asked(500); few != test.want || many != test.want {
				t.Errorf("asked %d of 10 rules and %d of 500, want %d", few, many, test.want)
			}
		})
	}
}
