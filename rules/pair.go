package rules

import (
	"cmp"
	"slices"

	"github.com/geocast/geocast/geo"
)

// A pair is two trackers of different users that are near in a rule. It is in the list of both.
type pair struct {
	key   uint64   // of the rule; see Rule.pairKey
	apart float64  // metres, the rule's
	a, b  *tracker // a's key is the lesser
	since int64    // event time of the fix that brought them together, ms
}

// A meeting is what a pair means to people: two users, whatever trackers they carry.
type meeting struct {
	rule uint64
	a, b string
}

// A neighbour is a tracker at a distance, in metres.
type neighbour struct {
	*tracker
	metres float64
}

func (p *pair) meeting() meeting { return meeting{p.key, p.a.key.who, p.b.key.who} }

func (p *pair) other(t *tracker) *tracker {
	if p.a == t {
		return p.b
	}
	return p.a
}

// stepPairs parts those who went apart and then joins those who came near.
func (e *Engine) stepPairs(t *tracker, me *Person) {
	for i := 0; i < len(t.pairs); {
		p := t.pairs[i]
		if geo.Distance(t.at, p.other(t).at) > p.apart {
			e.part(p)
		} else {
			i++
		}
	}
	e.rules = e.set.pairs.find(e.rules[:0], me)
	if len(e.rules) == 0 {
		return
	}
	reach := 0.0
	for _, r := range e.rules {
		reach = max(reach, r.near.within)
	}
	e.near = e.near[:0]
	e.movers.Within(t.at, reach, func(other *tracker, metres float64) bool {
		if other.key.who != t.key.who {
			e.near = append(e.near, neighbour{other, metres})
		}
		return true
	})
	slices.SortFunc(e.near, func(a, b neighbour) int { return a.key.compare(b.key) })
	for _, n := range e.near {
		e.stepNeighbour(t, me, n)
	}
}

// stepNeighbour asks the near rules of t's user about one neighbour.
func (e *Engine) stepNeighbour(t *tracker, me *Person, n neighbour) {
	them := anyone(e.people, n.key.who)
	for _, r := range e.rules {
		e.asked++
		if n.metres > r.near.within || t.tst-n.tst > r.near.maxAge || n.tst-t.tst > r.near.maxAge {
			continue
		}
		mine := r.who.matches(me) && r.near.of.matches(&them)
		theirs := r.who.matches(&them) && r.near.of.matches(me)
		if !mine && !theirs || !r.consents(me, &them) {
			continue
		}
		if _, met := t.find(r.key, n.tracker); met {
			continue
		}
		if max(len(t.pairs), len(n.pairs)) >= maxPairs {
			e.crowded++
			continue
		}
		p := newPair(r, t, n.tracker)
		e.link(p)
		e.records = append(e.records, p.record())
		if e.meetings[p.meeting()] > 1 {
			continue // another tracker of the same two has met before
		}
		e.raisePair(r, t, n.tracker, me, &them, mine, theirs)
	}
}

// raisePair raises the meeting of t, whose fix it is, and other. The subject is t if the rule's `who` matches it.
func (e *Engine) raisePair(r *Rule, t, other *tracker, me, them *Person, mine, theirs bool) {
	own := []string{me.Name, them.Name}
	switch {
	case !theirs:
		own = own[:1]
	case !mine:
		own = own[1:]
		t, other, me, them = other, t, them, me
	}
	e.setPerson(&e.fields.Who, me, t)
	e.setPerson(&e.fields.With, them, other)
	if !e.holds(r) {
		return
	}
	ev := Event{With: other.key.who, WithTracker: other.key.name}
	e.raise(r, ev, t, me, own, nil, max(t.tst, other.tst))
}

// consents reports whether a and b may learn of each other by r.
func (r *Rule) consents(a, b *Person) bool {
	return !r.contacts && acquainted(a, b) || mutual(a, b)
}

func newPair(r *Rule, t, other *tracker) *pair {
	p := &pair{key: r.key, apart: r.near.apart, a: t, b: other, since: t.tst}
	if p.b.key.compare(p.a.key) < 0 {
		p.a, p.b = p.b, p.a
	}
	return p
}

// find returns the place of the pair (t, other) of a rule in t's list. The list's order outlives the set.
func (t *tracker) find(key uint64, other *tracker) (int, bool) {
	return slices.BinarySearchFunc(t.pairs, key, func(p *pair, key uint64) int {
		return cmp.Or(cmp.Compare(p.key, key), p.other(t).key.compare(other.key))
	})
}

// link enters p in the lists of both and counts the meeting.
func (e *Engine) link(p *pair) {
	for _, t := range [...]*tracker{p.a, p.b} {
		if i, there := t.find(p.key, p.other(t)); !there {
			t.pairs = slices.Insert(t.pairs, i, p)
		}
	}
	e.meetings[p.meeting()]++
}

// part ends p and records that.
func (e *Engine) part(p *pair) {
	for _, t := range [...]*tracker{p.a, p.b} {
		if i, there := t.find(p.key, p.other(t)); there {
			t.pairs = slices.Delete(t.pairs, i, i+1)
		}
	}
	m := p.meeting()
	if e.meetings[m]--; e.meetings[m] == 0 {
		delete(e.meetings, m)
	}
	e.records = append(e.records, StateRecord{Key: p.recordKey()})
}
