// Package georules lets a rules engine join a broker: it reads fixes from the
// location topics and from the rules' sources, keeps the last position of each
// tracker as a retained message, and sends the events to inboxes and topics, all
// of it in the publish's own batch.
package georules

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync/atomic"

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
	// The last fix of each tracker that was applied: who, tracker → tst.
	last map[[2]string]int64
	// Gateway reports whether a client may report the position of another user;
	// nil is never. It is set before the broker starts, and must be safe for
	// concurrent use. What a gateway reports carries its name as via.
	Gateway func(from *hooks.Identity, who string) bool
	// Rejected counts fixes that were refused; for any goroutine.
	Rejected atomic.Uint64
}

var (
	_ hooks.Gate    = (*Hook)(nil)
	_ hooks.Applier = (*Hook)(nil)
)

// New returns a hook that runs set over people.
func New(set *rules.Set, people rules.People) *Hook {
	r := &roll{people}
	h := &Hook{people: r, engine: rules.New(set, r), last: make(map[[2]string]int64)}
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
	if set := h.next.Swap(nil); set != nil {
		for _, s := range h.engine.Replace(set) {
			tx.Delete(append([]byte("e"), s.Key...))
		}
	}
}

// Name keys the engine's state in the store.
func (h *Hook) Name() string { return "georules" }

// Filters are the location topics, OwnTracks' and the sources'.
func (h *Hook) Filters() []string {
	f := []string{"users/+/location", "users/+/location/+", "owntracks/+/+", "owntracks/+/+/event"}
	for _, s := range *h.sources.Load() {
		f = append(f, s.Filter)
	}
	return f
}

// Gate decodes the fixes of a publish and checks that they are the sender's own.
func (h *Hook) Gate(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
	d, bad, err := h.decode(p)
	if err != nil {
		return err
	}
	h.Rejected.Add(uint64(len(bad)))
	if len(d.fixes) == 0 && len(bad) > 0 {
		return &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid, Text: fmt.Sprintf("report %d: %s", bad[0].Index+1, bad[0].Reason)}
	}
	p.Prepare(h, d)
	return nil
}

// prepared is what Gate found out.
type prepared struct {
	fixes []geo.Fix
	via   string // the gateway that reported them, empty for the user's own devices
}

func (h *Hook) decode(p *hooks.Publish) (d prepared, bad []geo.Rejection, err error) {
	topic := p.Message.Topic
	for _, s := range *h.sources.Load() {
		if mqtt.Match(s.Filter, topic) {
			d.fixes, bad, err = s.Decode(topic, p.Message.Payload, p.At)
			return d, bad, err
		}
	}
	level := strings.Split(topic, "/")
	who, tracker := hooks.DecodeName(level[1]), hooks.EncodeName(p.From.Client)
	if len(level) > 2 && level[0] == "owntracks" {
		tracker = level[2]
	}
	if len(level) > 3 && level[0] == "users" {
		tracker = level[3]
	}
	if p.From.Client != "" && !h.mayReport(&p.From, who) {
		return d, nil, &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: "publish your own position to users/" + hooks.EncodeName(p.From.User) + "/location"}
	}
	if d.fixes, bad, err = geo.DecodeFixes(p.Message.Payload, p.At); err != nil {
		return d, nil, &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid, Text: err.Error()}
	}
	for i := range d.fixes {
		d.fixes[i].Who, d.fixes[i].Tracker = who, tracker
	}
	if p.From.Client != "" && who != p.From.User {
		d.via = p.From.User
	}
	return d, bad, nil
}

// mayReport reports whether a client may say where who is.
func (h *Hook) mayReport(from *hooks.Identity, who string) bool {
	return from.User != "" && (who == from.User || h.Gateway != nil && h.Gateway(from, who))
}

// Restore gives the engine its state back.
func (h *Hook) Restore(r hooks.Reader, _ int64) error {
	var records []rules.StateRecord
	err := r.Scan([]byte("e"), func(key, value []byte) bool {
		records = append(records, rules.StateRecord{Key: clone(key[1:]), Value: clone(value)})
		return true
	})
	if err != nil {
		return err
	}
	err = r.Scan([]byte("p"), func(key, value []byte) bool {
		who, tracker, ok := strings.Cut(string(key[1:]), "\x00")
		if ok && len(value) == 8 {
			h.last[[2]string{who, tracker}] = int64(binary.BigEndian.Uint64(value))
		}
		return true
	})
	if err != nil {
		return err
	}
	return h.engine.Restore(records)
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// Apply steps the engine over the publish's fixes.
func (h *Hook) Apply(tx hooks.Tx, p *hooks.Publish) (hooks.Verdict, error) {
	if p.Depth > 0 {
		return hooks.Route, nil // a position of our own on its way
	}
	h.takeOver(tx)
	d, _ := p.Prepared[h].(prepared)
	for _, f := range d.fixes {
		f.Recv = tx.Now()
		events, state := h.engine.Step(f)
		if err := h.commit(tx, events, state); err != nil {
			return hooks.Consume, err
		}
		h.position(tx, &f, d.via)
	}
	if strings.HasPrefix(p.Message.Topic, "users/") || strings.HasPrefix(p.Message.Topic, "owntracks/") {
		return hooks.Consume, nil
	}
	return hooks.Route, nil
}

// commit writes what a step changed and sends its events.
func (h *Hook) commit(tx hooks.Tx, events []rules.Event, state []rules.StateRecord) error {
	for _, s := range state {
		key := append([]byte("e"), s.Key...)
		if s.Value == nil {
			tx.Delete(key)
		} else {
			tx.Put(key, s.Value)
		}
	}
	for i := range events {
		if err := h.send(tx, &events[i]); err != nil {
			return err
		}
	}
	return nil
}

func (h *Hook) send(tx hooks.Tx, e *rules.Event) error {
	expires := int64(0)
	if e.Expiry > 0 {
		expires = tx.Now() + e.Expiry.Milliseconds()
	}
	for _, user := range e.Recipients {
		err := tx.Inbox(user, expires, func(dst []byte, at hooks.Place) []byte {
			return e.AppendJSON(dst, at.Seq, at.Epoch, tx.Now())
		})
		if err != nil {
			return err
		}
	}
	if e.Topic != "" {
		tx.Publish(&mqtt.Message{Topic: e.Topic, QoS: e.QoS, Payload: e.AppendJSON(nil, 0, "", tx.Now()), Expires: expires})
	}
	return nil
}

// position keeps a tracker's newest position as a retained message; a late or
// duplicate fix does not move it.
func (h *Hook) position(tx hooks.Tx, f *geo.Fix, via string) {
	k := [2]string{f.Who, f.Tracker}
	if f.Tst <= h.last[k] {
		return
	}
	h.last[k] = f.Tst
	tx.Put([]byte("p"+f.Who+"\x00"+f.Tracker), binary.BigEndian.AppendUint64(nil, uint64(f.Tst)))
	body := f.AppendJSON(nil, tx.Now(), via)
	for _, topic := range [2]string{"", "/" + f.Tracker} {
		topic = "users/" + hooks.EncodeName(f.Who) + "/location" + topic
		if mqtt.ValidTopicName([]byte(topic)) {
			tx.Publish(&mqtt.Message{Topic: topic, QoS: 1, Retain: true, Payload: body})
		}
	}
}

// Tick lets the engine's timers run.
func (h *Hook) Tick(tx hooks.Tx) int64 {
	h.takeOver(tx)
	events, state := h.engine.Tick(tx.Now())
	if err := h.commit(tx, events, state); err != nil {
		return 0
	}
	return 0
}
