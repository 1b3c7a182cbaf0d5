package georules

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks"
)

// A Query says which kept fixes are wanted. The zero value is all.
type Query struct {
	Who, Tracker string // empty: any
	// From and To bound the time of measurement, in Unix ms, both included; a To of
	// 0 is no bound.
	From, To int64
}

// History calls fn for the kept fixes that a query asks for, until it returns false:
// person by person, tracker by tracker, each by its time of measurement and each
// time once. It reads the hook's records as they were committed, and may be used
// by any goroutine. An error is one of the store, or says that records are not readable:
// those are left out.
func History(r hooks.Reader, q Query, fn func(geo.Fix) bool) error {
	var bad hooks.Damage
	wanted, err := named(r, q, &bad)
	if err != nil {
		return err
	}
	for _, t := range wanted {
		fixes, err := t.fixes(r, q, &bad)
		if err != nil {
			return err
		}
		for _, f := range fixes {
			if !fn(f) {
				return nil
			}
		}
	}
	if bad.Err() != nil {
		return fmt.Errorf("georules: the fixes are not all: %w", &bad)
	}
	return nil
}

// named returns the trackers that a query asks for, by their names.
func named(r hooks.Reader, q Query, bad *hooks.Damage) (wanted []*tracker, err error) {
	err = r.Scan([]byte{trackerRecord}, func(key, value []byte) bool {
		t, e := readTracker(key, value)
		if e != nil {
			bad.Add(key)
			return true
		}
		if (q.Who == "" || q.Who == t.who) && (q.Tracker == "" || q.Tracker == t.name) {
			wanted = append(wanted, t)
		}
		return true
	})
	slices.SortFunc(wanted, func(a, b *tracker) int { return cmp.Or(cmp.Compare(a.who, b.who), cmp.Compare(a.name, b.name)) })
	return wanted, err
}

// fixes returns those of one tracker. Of several at the same time the first that
// arrived holds.
func (t *tracker) fixes(r hooks.Reader, q Query, bad *hooks.Damage) (fixes []geo.Fix, err error) {
	err = r.Scan(fixesKey(t.id), func(key, value []byte) bool {
		f, e := readFix(value)
		if e != nil {
			bad.Add(key)
			return true
		}
		if f.Tst >= q.From && (q.To == 0 || f.Tst <= q.To) {
			f.Who, f.Tracker = t.who, t.name
			fixes = append(fixes, f)
		}
		return true
	})
	slices.SortStableFunc(fixes, func(a, b geo.Fix) int { return cmp.Compare(a.Tst, b.Tst) })
	fixes = slices.CompactFunc(fixes, func(a, b geo.Fix) bool { return a.Tst == b.Tst })
	return fixes, err
}
