// Package georules lets a rules engine join a broker: it reads fixes from the
// location topics and from the rules' sources, keeps the last position of each
// tracker as a retained message, and sends the events to inboxes and topics, all
// of it in the publish's own batch.
package georules

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// Hook is the rules engine as a Gate (which decodes and authorises, on a worker)
// and an Applier (which steps the engine, in the core). Make one with New.
type Hook struct {
	people  *roll // owned by the core
	sources atomic.Pointer[[]*rules.Source]
	engine  *rules.Engine // owned by the core
	// next is a set that takes over at the next command.
	next atomic.Pointer[rules.Set]
	// known are people that take over at the next command.
	known atomic.Pointer[roll]
	// trackers are owned by the core.
	trackers trackers
	// gone are records of the engine that Restore found to be of no use; a Tick
	// deletes them.
	gone []rules.StateRecord
	// Keep is how long fixes are kept after their arrival; 0 is 7 days, below 0
	// none are. They go in steps of a fourteenth of it. It is set before the broker
	// starts.
	Keep time.Duration
	// Fixes bounds how many are kept of one tracker, the newest by arrival; 0 is
	// 100,000. It is set before the broker starts.
	Fixes int
	// Trackers bounds how many trackers one person has; 0 is 256. A new one beyond it
	// takes the place of the one that has been silent longest, if that is for an hour
	// at least, and is refused otherwise. All bounds those of all persons, and is
	// 1,000,000 if 0: a new one beyond it is refused. They are set before the broker
	// starts.
	Trackers, All int
	// Gateway reports whether a client may report the position of another user;
	// nil is never. It is set before the broker starts, and must be safe for
	// concurrent use. What a user reports of another, as a gateway or by a source,
	// carries the user's name as via.
	Gateway func(from *hooks.Identity, who string) bool
	// Source is Gateway for what comes by a source's topic; nil is that each client
	// may report for everybody there. It is set before the broker starts, and must be
	// safe for concurrent use.
	Source func(from *hooks.Identity, who string) bool
	// Log is told, once a minute, of what Rejected and Undelivered count beside publishes
	// that were refused whole, of which the broker tells; nil for none. It is set before
	// the broker starts.
	Log *slog.Logger
	// Rejected counts fixes that were refused, and Undelivered publishes and ticks
	// of which an event could not be given to all its recipients; for any goroutine.
	Rejected, Undelivered atomic.Uint64

	untold untold
}

var (
	_ hooks.Gate    = (*Hook)(nil)
	_ hooks.Applier = (*Hook)(nil)
)

// New returns a hook that runs set over people.
func New(set *rules.Set, people rules.People) *Hook {
	r := &roll{people}
	h := &Hook{people: r, engine: rules.New(set, r), trackers: newTrackers()}
	h.source(set)
	return h
}

func (h *Hook) source(set *rules.Set) {
	s := set.Sources()
	h.sources.Store(&s)
}

// Replace lets the engine go on with another set from the next command on; what
// did not change keeps its state. After it, the broker must read Filters anew
// (broker.Refilter). It is safe for concurrent use.
func (h *Hook) Replace(set *rules.Set) {
	h.source(set)
	h.next.Store(set)
}

// roll is the people as the engine asks them: others can take their place between
// two steps.
type roll struct{ rules.People }

// ReplacePeople lets the rules go on with other people from the next command on. It
// is safe for concurrent use.
func (h *Hook) ReplacePeople(people rules.People) { h.known.Store(&roll{people}) }

// takeOver begins to use people and a set that wait.
func (h *Hook) takeOver(tx hooks.Tx) {
	if r := h.known.Swap(nil); r != nil {
		*h.people = *r
	}
	if h.next.Load() == nil || !h.engine.Settled() {
		return // the set before is still being taken over, some trackers at each tick
	}
	h.gone = nil // a rule may be back
	h.put(tx, h.engine.Replace(h.next.Swap(nil)))
}

// RecordsName keys the hook's records in the store.
const RecordsName = "georules"

// Name keys the hook's records in the store.
func (h *Hook) Name() string { return RecordsName }

// Filters are the location topics, OwnTracks' and the sources'.
func (h *Hook) Filters() []string {
	f := []string{"users/+/location", "users/+/location/+", "owntracks/+/+", "owntracks/+/+/event"}
	for _, s := range *h.sources.Load() {
		f = append(f, s.Filter)
	}
	return f
}

// Gate decodes the fixes of a publish and checks that they are the sender's own. It
// refuses a publish of which nothing can be taken.
func (h *Hook) Gate(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
	d, err := h.decode(p)
	if err != nil {
		h.Rejected.Add(1)
		return err
	}
	h.Rejected.Add(uint64(len(d.bad)))
	if len(d.fixes) == 0 && len(d.bad) > 0 {
		return &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid, Text: d.why()}
	}
	p.Prepare(h, d)
	return nil
}

// prepared is what Gate found out.
type prepared struct {
	fixes []geo.Fix
	bad   []geo.Rejection
	from  string // the user who reported them, empty for none
	lwt   int64  // the tst of an OwnTracks last will, 0 if it is none
}

// via is who reported f, empty for the user's own devices.
func (d *prepared) via(f *geo.Fix) string {
	if d.from == f.Who {
		return ""
	}
	return d.from
}

func (h *Hook) decode(p *hooks.Publish) (d prepared, err error) {
	d.from = p.From.User
	for _, s := range *h.sources.Load() {
		if mqtt.Match(s.Filter, p.Message.Topic) {
			d.fixes, d.bad, err = s.Decode(p.Message.Topic, p.Message.Payload, p.At)
			return d, cmp.Or(invalid(err), d.name("", hooks.EncodeName(p.From.Client)), h.mayBring(&p.From, d.fixes))
		}
	}
	level := strings.Split(p.Message.Topic, "/")
	who, tracker := hooks.DecodeName(level[1]), hooks.EncodeName(p.From.Client)
	if level[0] == "owntracks" {
		tracker = level[2]
	} else if len(level) > 3 {
		tracker = level[3]
	}
	switch {
	case p.From.Client != "" && !h.mayReport(&p.From, who):
		return d, &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: "publish your own position to users/" + hooks.EncodeName(p.From.User) + "/location"}
	case tracker == "" && p.From.Client != "" || len(who) > maxName:
		return d, &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: "the names in the topic have 1 to 128 bytes"}
	}
	d.fixes, d.bad, err = geo.DecodeFixes(p.Message.Payload, p.At)
	for i := range d.fixes {
		d.fixes[i].Tracker = ""
	}
	if err == nil && len(d.fixes)+len(d.bad) == 0 {
		return d, d.untracked(p, level)
	}
	return d, cmp.Or(invalid(err), d.name(who, tracker))
}

// maxName bounds a user's name, in bytes.
const maxName = 128

// inside is the tracker of a fix that no client sent and that names none.
const inside = "inside"

// name says whose the fixes are, and of which tracker where they don't say it. The
// tracker must be a name.
func (d *prepared) name(who, tracker string) error {
	if tracker == "" {
		tracker = inside
	}
	for i := range d.fixes {
		f := &d.fixes[i]
		if who != "" {
			f.Who = who
		}
		if f.Tracker != "" {
			continue
		}
		if f.Tracker = tracker; !geo.ValidName(tracker) {
			return &hooks.Refusal{Reason: mqtt.TopicNameInvalid,
				Text: fmt.Sprintf("%.40q can't be a tracker: a name has 1 to 128 bytes without space; give it one as users/{me}/location/{tracker}", tracker)}
		}
	}
	return nil
}

// mayReport reports whether a client may say where who is.
func (h *Hook) mayReport(from *hooks.Identity, who string) bool {
	return from.User != "" && (who == from.User || h.Gateway != nil && h.Gateway(from, who))
}

// mayBring refuses a source's fixes if one is of somebody for whom the client may
// not report. What comes from inside the server may.
func (h *Hook) mayBring(from *hooks.Identity, fixes []geo.Fix) error {
	if h.Source == nil || from.Client == "" {
		return nil
	}
	for i := range fixes {
		if who := fixes[i].Who; who != from.User && !h.Source(from, who) {
			return &hooks.Refusal{Reason: mqtt.NotAuthorized,
				Text: fmt.Sprintf("%q may not report the position of %q: who may report for others has a gateway entry in the access file", from.User, who)}
		}
	}
	return nil
}

// Restore gives the engine and the trackers their state back. A tracker whose record
// is damaged is new with its next fix, and its history is deleted.
func (h *Hook) Restore(r hooks.Reader, _ int64) error {
	var records []rules.StateRecord
	var damage hooks.Damage
	err := r.Scan([]byte{engineRecord}, func(key, value []byte) bool {
		records = append(records, rules.StateRecord{Key: bytes.Clone(key[1:]), Value: append([]byte{}, value...)})
		return true
	})
	if err != nil {
		return err
	}
	var bad error
	err = r.Scan([]byte{trackerRecord}, func(key, value []byte) bool {
		t, e := readTracker(key, value)
		if e == nil && !t.retired && h.trackers.byName[[2]string{t.who, t.name}] != nil {
			e = errRecord
		}
		switch {
		case e == nil:
			h.trackers.add(t)
		case errors.Is(e, mqtt.ErrNewer):
			bad = e
		default:
			damage.Add(key)
		}
		return bad == nil
	})
	if err := cmp.Or(err, bad); err != nil {
		return err
	}
	for _, key := range damage.Keys {
		if err := h.lost(r, key); err != nil {
			return err
		}
	}
	rest, err := h.engine.Restore(records)
	if err != nil {
		return err
	}
	h.gone = rest.Gone
	for _, key := range rest.Damaged {
		damage.Add(append([]byte{engineRecord}, key...))
	}
	return damage.Err()
}

// lost takes on the history of a tracker whose record is damaged, as one that has been
// kept long enough.
func (h *Hook) lost(r hooks.Reader, key []byte) error {
	if len(key) != len(trackerKey(0)) {
		return nil
	}
	t := &tracker{id: binary.BigEndian.Uint64(key[1:]), retired: true}
	fixes := fixesKey(t.id)
	err := r.Scan(fixes, func(key, _ []byte) bool {
		if len(key) == len(fixes)+8 {
			n := binary.BigEndian.Uint64(key[len(fixes):])
			if t.spans == nil {
				t.first, t.spans = n, []span{{first: n}}
			}
			t.next = n + 1
		}
		return true
	})
	h.trackers.add(t)
	return err
}

// Apply steps the engine over the publish's fixes and keeps them.
func (h *Hook) Apply(tx hooks.Tx, p *hooks.Publish) (hooks.Verdict, error) {
	if p.Depth > 0 {
		return hooks.Route, nil // a position of our own on its way
	}
	h.takeOver(tx)
	d, _ := p.Prepared[h].(prepared)
	if err := h.step(tx, &d); err != nil {
		return hooks.Consume, err
	}
	if len(d.bad) > 0 {
		h.untold.reports(p, &d)
	}
	if d.lwt > 0 {
		lastWill(tx, p.Message, d.lwt)
	}
	if !strings.HasPrefix(p.Message.Topic, "users/") && !strings.HasPrefix(p.Message.Topic, "owntracks/") {
		return hooks.Route, nil
	}
	if len(d.bad) > 0 && p.From.User != "" {
		tellBad(tx, p, &d)
	}
	return hooks.Consume, nil
}

// step steps the engine over fixes, and writes and publishes at the end what they
// left: of a batch that was buffered offline each fix is kept, but state and the last
// position are those of its end. They are stepped in the order of their measurement,
// however they stand in the payload. The error is that of the first fix
// that could not be taken, if nothing was; else the others are, and d.bad has it.
func (h *Hook) step(tx hooks.Tx, d *prepared) (refused error) {
	var state []rules.StateRecord
	var failed error
	took := false
	var moved []*tracker
	last := map[*tracker]*geo.Fix{} // of each that has moved its newest fix, else nil
	inOrder(d.fixes, tx.Now())
	for i := range d.fixes {
		f := &d.fixes[i]
		forgotten, err := h.admit(tx, f)
		state = append(state, forgotten...)
		if err != nil {
			refused = cmp.Or(refused, err)
			d.bad = append(d.bad, geo.Rejection{Index: i, Reason: err.Error()})
			h.Rejected.Add(1)
			continue
		}
		took = true
		events, changed := h.engine.Step(*f)
		state = append(state, changed...)
		for i := range events {
			failed = cmp.Or(failed, h.send(tx, &events[i]))
		}
		t, newest := h.keep(tx, f, d.via(f))
		if newest || t == nil {
			transition(tx, f)
		}
		if t == nil {
			continue
		}
		if _, again := last[t]; !again {
			moved, last[t] = append(moved, t), nil
		}
		if newest {
			last[t] = f
		}
	}
	h.undelivered(failed) // the fix is taken all the same: the engine has moved on
	if !took && len(state) == 0 {
		return refused // nothing was written
	}
	h.put(tx, lastOf(state))
	for _, t := range moved {
		tx.Put(trackerKey(t.id), t.record())
		if f := last[t]; f != nil {
			position(tx, f, d.via(f), t.at == h.trackers.person[t.who].newest)
		}
	}
	return nil
}

// inOrder notes the arrival of fixes and sorts them by their measurement.
func inOrder(fixes []geo.Fix, now int64) {
	for i := range fixes {
		fixes[i].Recv = now
	}
	slices.SortStableFunc(fixes, func(a, b geo.Fix) int { return cmp.Compare(rules.EventTime(&a), rules.EventTime(&b)) })
}

// lastOf leaves the last record of each key, in the order of their writing.
func lastOf(state []rules.StateRecord) []rules.StateRecord {
	if len(state) < 2 {
		return state
	}
	seen := make(map[string]bool, len(state))
	for i := len(state) - 1; i >= 0; i-- {
		if key := string(state[i].Key); seen[key] {
			state[i].Key = nil
		} else {
			seen[key] = true
		}
	}
	return slices.DeleteFunc(state, func(s rules.StateRecord) bool { return s.Key == nil })
}

// commit writes what a step changed and sends its events, all that it can; the error
// is the first recipient's who can't have it.
func (h *Hook) commit(tx hooks.Tx, events []rules.Event, state []rules.StateRecord) error {
	h.put(tx, state)
	var failed error
	for i := range events {
		failed = cmp.Or(failed, h.send(tx, &events[i]))
	}
	return failed
}

func (h *Hook) put(tx hooks.Tx, state []rules.StateRecord) {
	for _, s := range state {
		key := append([]byte{engineRecord}, s.Key...)
		if s.Value == nil {
			tx.Delete(key)
		} else {
			tx.Put(key, s.Value)
		}
	}
}

func (h *Hook) send(tx hooks.Tx, e *rules.Event) error {
	expires := int64(0)
	if e.Expiry > 0 {
		expires = tx.Now() + e.Expiry.Milliseconds()
	}
	var failed error
	if len(e.Recipients) > 0 {
		failed = tx.Inboxes(e.Recipients, expires, e.AppendJSON(nil, 0, "", tx.Now()))
	}
	if e.Topic != "" {
		tx.Publish(&mqtt.Message{Topic: e.Topic, QoS: e.QoS, Payload: e.AppendJSON(nil, 0, "", tx.Now()), Expires: expires})
	}
	return failed
}

// Tick lets the engine's timers run, and what has been kept long enough go.
func (h *Hook) Tick(tx hooks.Tx) int64 {
	h.takeOver(tx)
	events, state := h.engine.Tick(tx.Now())
	h.undelivered(h.commit(tx, events, state))
	h.untold.tell(h.Log, tx.Now())
	n := min(len(h.gone), atOnce)
	h.put(tx, h.gone[:n])
	h.gone = h.gone[n:]
	if h.trim(tx) || !h.engine.Settled() || len(h.gone) > 0 {
		return tx.Now() + again
	}
	return 0
}
