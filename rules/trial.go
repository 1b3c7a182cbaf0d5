package rules

import (
	"cmp"
	"slices"

	"github.com/geocast/geocast/geo"
)

// Test runs fixes through a fresh engine, in the order of their arrival (Recv, or Tst where it is 0), those of one arrival in that
// of their measurement, and returns what it raised. It is what the live engine would have done, because it is the same.
func Test(set *Set, people People, fixes []geo.Fix) []Event {
	arrival := func(f *geo.Fix) int64 {
		if f.Recv > 0 {
			return f.Recv
		}
		return f.Tst
	}
	ordered := slices.Clone(fixes)
	slices.SortStableFunc(ordered, func(a, b geo.Fix) int {
		return cmp.Or(cmp.Compare(arrival(&a), arrival(&b)), cmp.Compare(EventTime(&a), EventTime(&b)))
	})
	e := New(set, people)
	var events []Event
	for _, f := range ordered {
		raised, _ := e.Step(f)
		events = append(events, raised...)
	}
	return events
}
