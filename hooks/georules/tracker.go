package georules

import (
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks"
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
}

// A span is the fixes that arrived from a time on, until the next span.
type span struct {
	first uint64
	since int64
}

// trackers are those who are known. The core owns them.
type trackers struct {
	byName map[[2]string]*tracker
	// newest is the event time of each person's newest position.
	newest map[string]int64
	ring   []*tracker // in no order that matters; turn is who is looked at next
	turn   int
	lastID uint64
}

func newTrackers() trackers {
	return trackers{byName: make(map[[2]string]*tracker), newest: make(map[string]int64)}
}

func (ts *trackers) add(t *tracker) {
	ts.byName[[2]string{t.who, t.name}] = t
	ts.newest[t.who] = max(ts.newest[t.who], t.at)
	ts.ring = append(ts.ring, t)
	ts.lastID = max(ts.lastID, t.id)
}

// of returns the tracker of a fix.
func (ts *trackers) of(f *geo.Fix) *tracker {
	t := ts.byName[[2]string{f.Who, f.Tracker}]
	if t == nil {
		t = &tracker{id: ts.lastID + 1, who: f.Who, name: f.Tracker}
		ts.add(t)
	}
	return t
}

// keep writes a fix that has not been seen before into its tracker's history; the
// tracker's record is the caller's to write. It says whether the fix is the tracker's
// newest. One as old as the newest is a duplicate, and nothing: t is nil.
func (h *Hook) keep(tx hooks.Tx, f *geo.Fix, via string) (t *tracker, newest bool) {
	t = h.trackers.of(f)
	at := rules.EventTime(f)
	if at == t.at {
		return nil, false
	}
	if newest = at > t.at; newest {
		t.at = at
		h.trackers.newest[f.Who] = max(h.trackers.newest[f.Who], at)
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
		if t.first == t.next && tx.Now()-t.seen > forgetAfter.Milliseconds() {
			h.forget(tx, t) // another one is in its place now
			continue
		}
		ts.turn++
	}
	return false
}

// forget removes a tracker that has been silent for long, with its position.
func (h *Hook) forget(tx hooks.Tx, t *tracker) {
	ts := &h.trackers
	last := len(ts.ring) - 1
	ts.ring[ts.turn] = ts.ring[last]
	ts.ring[last] = nil
	ts.ring = ts.ring[:last]
	delete(ts.byName, [2]string{t.who, t.name})
	tx.Delete(trackerKey(t.id))
	clearPosition(tx, t, ts.newest[t.who] == t.at)
	if ts.newest[t.who] == t.at {
		delete(ts.newest, t.who)
	}
}
