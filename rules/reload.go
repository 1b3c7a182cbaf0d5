package rules

import "slices"

// renewAtOnce bounds how many trackers one Tick takes over into a new set.
const renewAtOnce = 1000

// Replace goes on with another set. What a tracker is in is kept for zones with the same id and shape, who is near whom for rules
// with the same id, distances and people; the rest is unknown until the next fix. It raises no event.
//
// It takes no time that grows with the trackers: each is taken over at its next fix, or by one of the next Ticks, which return what
// changed. Only if the set is replaced again before that is done ([Engine.Settled]) are the others taken over here, and what
// changed is returned.
func (e *Engine) Replace(set *Set) []StateRecord {
	e.records = nil
	e.settle(len(e.trackers))
	e.set, e.stale = set, e.oldest
	e.generation++
	return e.records
}

// Settled reports whether all trackers have been taken over into the set of the last Replace.
func (e *Engine) Settled() bool { return e.stale == nil }

// settle takes over at most n trackers.
func (e *Engine) settle(n int) {
	for ; n > 0 && e.stale != nil; n-- {
		t := e.stale
		e.stale = t.newer
		e.renew(t)
	}
}

// renew takes a tracker over from the set before.
func (e *Engine) renew(t *tracker) {
	if t.generation == e.generation {
		return
	}
	t.generation = e.generation
	kept := make([]int, 0, len(t.zones))
	for _, key := range t.keys {
		if now, ok := e.set.zoneByKey[key]; ok {
			kept = append(kept, now)
		}
	}
	slices.Sort(kept)
	forgotten := len(kept) < len(t.keys)
	t.enter(e.set, kept)
	if forgotten {
		e.records = append(e.records, t.record())
	}
	for _, p := range slices.Clone(t.pairs) {
		if e.set.nearByKey[p.key] == nil {
			e.part(p)
		}
	}
}
