package georules

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// Bounds of what is kept of a tracker.
const (
	// DefaultKeep and DefaultFixes are what a Hook's Keep and Fixes are if they
	// are 0.
	DefaultKeep  = 7 * 24 * time.Hour
	DefaultFixes = 100_000
	// maxSpans is into how many spans of arrival the kept fixes of a tracker are
	// divided; they go span by span, so that nothing must be read for it.
	maxSpans = 14
	// atOnce bounds what one Tick looks at, and what it deletes.
	atOnce = 1000
	// again is when, in ms, a Tick goes on that has more to do.
	again = 20
	// DefaultTrackers and DefaultAll are what a Hook's Trackers and All are if they
	// are 0; silentFor is how long a tracker is silent before a new one of the same
	// person may take its place.
	DefaultTrackers = 256
	DefaultAll      = 1_000_000
	silentFor       = time.Hour
	// forgetAfter is how long a silent tracker is known, as in the engine.
	forgetAfter = 30 * 24 * time.Hour
)

// A tracker is who has reported. Its fixes are numbered from first to before next,
// by arrival.
type tracker struct {
	id          uint64
	who, name   string
	at          int64 // event time of its newest fix, ms
	seen        int64 // arrival of its last one, ms
	first, next uint64
	spans       []span // of the kept fixes, rising
	retired     bool   // forgotten, but for its history
	place       int    // in the ring
}

// A span is the fixes that arrived from a time on, until the next span.
type span struct {
	first uint64
	since int64
}

// A person is a user's trackers.
type person struct {
	newest int64 // event time of the newest position of all of them, ms
	of     []*tracker
}

// trackers are those who are known. The core owns them.
type trackers struct {
	byName map[[2]string]*tracker
	person map[string]*person
	ring   []*tracker // in no order that matters; turn is who is looked at next
	turn   int
	lastID uint64
}

func newTrackers() trackers {
	return trackers{byName: make(map[[2]string]*tracker), person: make(map[string]*person)}
}

func (ts *trackers) add(t *tracker) {
	t.place, ts.ring = len(ts.ring), append(ts.ring, t)
	ts.lastID = max(ts.lastID, t.id)
	if t.retired {
		return
	}
	p := ts.person[t.who]
	if p == nil {
		p = &person{}
		ts.person[t.who] = p
	}
	p.newest, p.of = max(p.newest, t.at), append(p.of, t)
	ts.byName[[2]string{t.who, t.name}] = t
}

// retire takes t from its person. It reports whether the person's newest position
// was its.
func (ts *trackers) retire(t *tracker) (newest bool) {
	t.retired = true
	delete(ts.byName, [2]string{t.who, t.name})
	p := ts.person[t.who]
	if newest = p.newest == t.at; newest {
		p.newest = 0
	}
	if p.of = slices.DeleteFunc(p.of, func(o *tracker) bool { return o == t }); len(p.of) == 0 {
		delete(ts.person, t.who)
	}
	return newest
}

// drop takes t out of the ring.
func (ts *trackers) drop(t *tracker) {
	last := len(ts.ring) - 1
	ts.ring[t.place], ts.ring[last].place = ts.ring[last], t.place
	ts.ring[last] = nil
	ts.ring = ts.ring[:last]
}

// silentLongest is the tracker of a person that arrived before all others.
func (p *person) silentLongest() *tracker {
	return slices.MinFunc(p.of, func(a, b *tracker) int { return cmp.Or(cmp.Compare(a.seen, b.seen), cmp.Compare(a.id, b.id)) })
}

// admit makes room for the tracker of a fix if it is not known yet, and returns what
// that changed. Its error is a refusal.
func (h *Hook) admit(tx hooks.Tx, f *geo.Fix) (state []rules.StateRecord, err error) {
	ts := &h.trackers
	if ts.byName[[2]string{f.Who, f.Tracker}] != nil {
		return nil, nil
	}
	if p := ts.person[f.Who]; p != nil && len(p.of) >= cmp.Or(h.Trackers, DefaultTrackers) {
		t := p.silentLongest()
		if tx.Now()-t.seen < silentFor.Milliseconds() {
			return nil, &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: fmt.Sprintf("%s has %d trackers already, and none is silent", f.Who, len(p.of))}
		}
		state = h.forget(tx, t)
	}
	if len(ts.ring) >= cmp.Or(h.All, DefaultAll) {
		return state, &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the server has no room for another tracker"}
	}
	ts.add(&tracker{id: ts.lastID + 1, who: f.Who, name: f.Tracker})
	return state, nil
}

// keep writes a fix that has not been seen before into its tracker's history; the
// tracker's record is the caller's to write. It says whether the fix is the tracker's
// newest. One as old as the newest is a duplicate, and nothing: t is nil.
func (h *Hook) keep(tx hooks.Tx, f *geo.Fix, via string) (t *tracker, newest bool) {
	t = h.trackers.byName[[2]string{f.Who, f.Tracker}]
	at := rules.EventTime(f)
	if at == t.at {
		return nil, false
	}
	if newest = at > t.at; newest {
		t.at = at
		p := h.trackers.person[f.Who]
		p.newest = max(p.newest, at)
	}
	t.seen = tx.Now()
	if h.Keep >= 0 {
		h.store(tx, t, appendFix(nil, f, via))
	}
	return t, newest
}

// store appends a fix to the history of t, and drops the oldest beyond the bound.
func (h *Hook) store(tx hooks.Tx, t *tracker, fix []byte) {
	full := uint64(h.bound())
	if n := len(t.spans); n == 0 || tx.Now()-t.spans[n-1].since >= h.span().Milliseconds() {
		t.spans = append(t.spans, span{t.next, tx.Now()})
	}
	tx.Put(fixKey(t.id, t.next), fix)
	t.next++
	for n := 0; n < 2 && t.next-t.first > full; n++ {
		t.drop(tx)
	}
}

// drop deletes the oldest fix of t.
func (t *tracker) drop(tx hooks.Tx) {
	tx.Delete(fixKey(t.id, t.first))
	t.first++
	if len(t.spans) > 1 && t.first >= t.spans[1].first {
		t.spans = t.spans[1:]
	}
	if t.first == t.next {
		t.spans = nil
	}
}

func (h *Hook) keeps() time.Duration {
	if h.Keep == 0 {
		return DefaultKeep
	}
	return max(h.Keep, 0)
}

func (h *Hook) span() time.Duration { return h.keeps() / maxSpans }

func (h *Hook) bound() int {
	if h.Fixes <= 0 {
		return DefaultFixes
	}
	return h.Fixes
}

// overdue reports whether all fixes of the oldest span of t have been kept long
// enough.
func (h *Hook) overdue(t *tracker, now int64) bool {
	if t.first == t.next {
		return false
	}
	ended := min(t.seen, t.spans[0].since+h.span().Milliseconds())
	return now-ended > h.keeps().Milliseconds()
}

// trim deletes what has been kept long enough, of some trackers in turn. It reports
// whether there is more to do at once.
func (h *Hook) trim(tx hooks.Tx) (more bool) {
	ts := &h.trackers
	deleted := 0
	for looked := min(atOnce, len(ts.ring)); looked > 0 && len(ts.ring) > 0; looked-- {
		ts.turn %= len(ts.ring)
		t := ts.ring[ts.turn]
		before := t.first
		for ; deleted < atOnce && (h.overdue(t, tx.Now()) || t.next-t.first > uint64(h.bound())); deleted++ {
			t.drop(tx)
		}
		if t.first != before {
			tx.Put(trackerKey(t.id), t.record())
		}
		if deleted == atOnce {
			return true
		}
		switch {
		case t.first < t.next:
		case t.retired:
			ts.drop(t) // another one is in its place now
			tx.Delete(trackerKey(t.id))
			continue
		case tx.Now()-t.seen > forgetAfter.Milliseconds():
			h.put(tx, h.forget(tx, t)) // the same
			continue
		}
		ts.turn++
	}
	return false
}

// forget takes away a tracker's position and what rules know of it, and returns the
// latter. Its history stays as long as it would have.
func (h *Hook) forget(tx hooks.Tx, t *tracker) []rules.StateRecord {
	clearPosition(tx, t, h.trackers.retire(t))
	if t.first < t.next {
		tx.Put(trackerKey(t.id), t.record())
	} else {
		h.trackers.drop(t)
		tx.Delete(trackerKey(t.id))
	}
	return h.engine.Forget(t.who, t.name)
}
