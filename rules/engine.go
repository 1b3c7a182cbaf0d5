package rules

import (
	"cmp"
	"slices"
	"time"

	"github.com/expr-lang/expr/vm"

	"github.com/geocast/geocast/geo"
)

const (
	// maxAhead is how far a fix's tst may be ahead of its arrival before the arrival counts instead.
	maxAhead = 2 * time.Minute
	// forgetAfter is how long a silent tracker's state is kept.
	forgetAfter = 30 * 24 * time.Hour
	// forgetAtOnce bounds what one Tick forgets.
	forgetAtOnce = 1000
	// maxPairs is how many others a tracker can be near at a time, over all rules; what is beyond is counted.
	maxPairs = 256
)

// An Engine holds the live state of all trackers and steps it, fix by fix. See the package doc for what the situations mean.
// One goroutine owns it.
type Engine struct {
	set      *Set
	people   People
	lastID   uint64
	trackers map[trackerKey]*tracker
	movers   geo.MoverIndex[*tracker]
	meetings map[meeting]int // how many pairs of trackers are near, per rule and users
	oldest   *tracker        // the list of trackers by seen
	newest   *tracker
	asked    uint64
	unasked  uint64
	crowded  uint64

	// A Replace makes the state of all trackers one of the set before; see reload.go.
	generation uint32
	stale      *tracker // the oldest one of it, nil if there is none

	// of one Step
	events  []Event
	records []StateRecord
	fix     *geo.Fix
	fields  conditionFields
	machine vm.VM
	found   []int
	near    []neighbour
	rules   []*Rule
}

type trackerKey struct{ who, name string }

func (k trackerKey) compare(o trackerKey) int {
	return cmp.Or(cmp.Compare(k.who, o.who), cmp.Compare(k.name, o.name))
}

// A tracker is the last word of one device.
type tracker struct {
	id    uint64 // in records
	key   trackerKey
	at    geo.Position
	acc   float64
	tst   int64    // event time, ms
	seen  int64    // arrival, ms
	zones []int    // that it is in, rising
	keys  []uint64 // of these; looked up in the set, they cost a miss of the cache each
	pairs []*pair  // that it is near in, by rule and partner

	generation uint32 // of the set that zones are numbered in

	older, newer *tracker
}

// New returns an engine without any tracker. Both arguments stay in use.
func New(set *Set, people People) *Engine {
	return &Engine{set: set, people: people, trackers: map[trackerKey]*tracker{}, meetings: map[meeting]int{}}
}

// Step applies one fix and returns what it raised and which state changed, both in an order that depends on the fixes only:
// exits, enters, insides, meetings; within these by zone or user, then by rule. A fix that is late, a duplicate or without a valid
// position changes nothing and returns nothing.
func (e *Engine) Step(fix geo.Fix) ([]Event, []StateRecord) {
	if !fix.Valid() {
		return nil, nil
	}
	at, seen := EventTime(&fix), fix.Recv
	if seen <= 0 {
		seen = at
	}
	key := trackerKey{fix.Who, fix.Tracker}
	t := e.trackers[key]
	switch {
	case t == nil:
		t = &tracker{id: e.lastID + 1, key: key, at: fix.Position}
		e.add(t)
	case at <= t.tst:
		return nil, nil
	default:
		e.movers.Move(t, t.at, fix.Position)
	}
	e.events, e.records, e.fix = nil, nil, &fix
	e.renew(t)
	t.at, t.acc, t.tst, t.seen = fix.Position, fix.Acc, at, max(seen, t.seen)
	e.touch(t)

	who := anyone(e.people, fix.Who)
	e.setFix()
	e.stepZones(t, &who)
	e.stepPairs(t, &who)
	e.records = append(e.records, t.record())
	return e.events, e.records
}

// EventTime is when a fix counts as measured, in ms: its Tst, or its arrival where Tst is more than two minutes ahead of that.
func EventTime(fix *geo.Fix) int64 {
	if fix.Recv > 0 && fix.Tst > fix.Recv+maxAhead.Milliseconds() {
		return fix.Recv
	}
	return fix.Tst
}

// stepZones compares the zones that t is in now with those it was in.
func (e *Engine) stepZones(t *tracker, who *Person) {
	e.found = e.set.containing(e.found[:0], t.at)
	was, is := t.zones, e.found
	for _, z := range was {
		if _, in := slices.BinarySearch(is, z); !in {
			e.raiseZone(Exit, z, t, who)
		}
	}
	for _, z := range is {
		if _, in := slices.BinarySearch(was, z); !in {
			e.raiseZone(Enter, z, t, who)
		}
	}
	if e.set.anyInside {
		for _, z := range is {
			e.raiseZone(Inside, z, t, who)
		}
	}
	if !slices.Equal(was, is) {
		t.enter(e.set, is)
	}
}

// enter notes the zones that t is in.
func (t *tracker) enter(set *Set, zones []int) {
	t.zones, t.keys = slices.Clone(zones), make([]uint64, len(zones))
	for i, z := range zones {
		t.keys[i] = set.zoneKeys[z]
	}
}

// raiseZone asks the rules of zone z for situation s.
func (e *Engine) raiseZone(s Situation, z int, t *tracker, who *Person) {
	for _, r := range e.set.rulesAt(e.rules, z, s, who) {
		e.asked++
		if !r.who.matches(who) {
			continue
		}
		zone := &e.set.zones[z]
		e.fields.Zone = zoneFields{ID: zone.ID, Tags: zone.Tags}
		e.setPerson(&e.fields.Who, who, t)
		if !e.holds(r) {
			continue
		}
		ev := Event{Zone: zone.ID}
		e.raise(r, ev, t, who, []string{who.Name}, zone, t.tst)
	}
}

// raise completes ev: the subject t is who, and own are the users that `self` means.
func (e *Engine) raise(r *Rule, ev Event, t *tracker, who *Person, own []string, zone *geo.Zone, at int64) {
	ev.Rule, ev.Situation = r.ID, r.Situation
	ev.Who, ev.Tracker = t.key.who, t.key.name
	ev.Position, ev.Acc, ev.Tst = t.at, t.acc, t.tst
	ev.stamp(at)
	ev.Recipients = e.recipients(r, t, who, own, zone)
	ev.Topic = r.send.topic.expandTopic(&ev)
	ev.QoS, ev.Expiry = r.send.qos, r.send.expiry
	ev.Text = r.send.text.expand(&ev)
	e.events = append(e.events, ev)
}

// recipients resolves `to`, sorted and each user once.
func (e *Engine) recipients(r *Rule, t *tracker, who *Person, own []string, zone *geo.Zone) []string {
	var names []string
	for i := range r.to {
		names = e.reach(names, &r.to[i], t, own, zone)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if !r.contacts {
		return names
	}
	return slices.DeleteFunc(names, func(name string) bool {
		other := anyone(e.people, name)
		return !slices.Contains(own, name) && name != who.Name && !mutual(who, &other)
	})
}

// reach appends the users of one target.
func (e *Engine) reach(names []string, to *target, t *tracker, own []string, zone *geo.Zone) []string {
	switch {
	case to.self:
		return append(names, own...)
	case to.within == 0:
		return append(names, to.who.members(e.people)...)
	}
	add := func(other *tracker) {
		if to.maxAge > 0 && t.tst-other.tst > to.maxAge.Milliseconds() {
			return
		}
		if p := anyone(e.people, other.key.who); to.who.matches(&p) {
			names = append(names, p.Name)
		}
	}
	if to.zone {
		e.movers.Around(zone.Shape, to.within, func(other *tracker, _ float64) bool { add(other); return true })
		return names
	}
	e.movers.Within(t.at, to.within, func(other *tracker, _ float64) bool {
		if other.key.who != t.key.who {
			add(other)
		}
		return true
	})
	return names
}

// holds asks the rule's `if`; the fields are set.
func (e *Engine) holds(r *Rule) bool {
	if r.condition == nil {
		return true
	}
	yes, failed := holds(&e.machine, r.condition, &e.fields)
	if failed {
		e.unasked++
	}
	return yes
}

// Unasked returns how often an `if` had no answer, for example because an attribute has another type than the rule expects.
// That counts as no.
func (e *Engine) Unasked() uint64 { return e.unasked }

// Asked returns how often a rule was looked at: at a zone's edge those of the zone, and between neighbours those of the user who moved.
// It does not grow with the rules that can't match.
func (e *Engine) Asked() uint64 { return e.asked }

// Crowded returns how many meetings were not raised because one of the two was near 256 others already.
func (e *Engine) Crowded() uint64 { return e.crowded }

func (e *Engine) setPerson(f *personFields, p *Person, t *tracker) {
	*f = personFields{Name: p.Name, Role: p.Role, Groups: p.Groups, Tags: p.Tags, Attr: p.Attrs, Tracker: t.key.name}
}

// add puts a new tracker into the indexes.
func (e *Engine) add(t *tracker) {
	t.generation = e.generation
	e.lastID = max(e.lastID, t.id)
	e.trackers[t.key] = t
	e.movers.Insert(t, t.at)
}

// touch makes t the newest of the list. Trackers that were seen later than t stay newer, so that the list is ordered.
func (e *Engine) touch(t *tracker) {
	e.unlink(t)
	after := e.newest
	for after != nil && after.seen > t.seen {
		after = after.older
	}
	t.older = after
	if after == nil {
		t.newer, e.oldest = e.oldest, t
	} else {
		t.newer, after.newer = after.newer, t
	}
	if t.newer == nil {
		e.newest = t
	} else {
		t.newer.older = t
	}
}

func (e *Engine) unlink(t *tracker) {
	if t.older == nil && t.newer == nil && e.oldest != t {
		return
	}
	if e.stale == t {
		e.stale = t.newer
	}
	if t.older == nil {
		e.oldest = t.newer
	} else {
		t.older.newer = t.newer
	}
	if t.newer == nil {
		e.newest = t.older
	} else {
		t.newer.older = t.older
	}
	t.older, t.newer = nil, nil
}

// Tick tells the engine the time, in ms. It forgets trackers that have been silent for 30 days, at most 1,000 in one call, the
// longest silent first, and returns the deletions. None of today's situations waits for a time, so it raises no event yet.
func (e *Engine) Tick(now int64) ([]Event, []StateRecord) {
	e.records = nil
	e.settle(renewAtOnce)
	for n := 0; n < forgetAtOnce && e.oldest != nil && now-e.oldest.seen > forgetAfter.Milliseconds(); n++ {
		e.forget(e.oldest)
	}
	return nil, e.records
}

// Forget takes a tracker out as if it had never been, and returns what changed; nothing if it is not known. It raises no event.
func (e *Engine) Forget(who, name string) []StateRecord {
	e.records = nil
	if t := e.trackers[trackerKey{who, name}]; t != nil {
		e.forget(t)
	}
	return e.records
}

func (e *Engine) forget(t *tracker) {
	e.renew(t)
	for len(t.pairs) > 0 {
		e.part(t.pairs[0])
	}
	e.unlink(t)
	e.movers.Delete(t, t.at)
	delete(e.trackers, t.key)
	e.records = append(e.records, StateRecord{Key: t.recordKey()})
}
