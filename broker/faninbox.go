package broker

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// fanInbox is an event for many people. Each gets it at a place of its own inbox,
// which is given in the step that writes it, never before: what comes to a person
// meanwhile may stand in front of it.
type fanInbox struct {
	names       []string
	event       []byte // JSON, without the place
	expires, at int64  // core time, ms
}

// txFan is an event for many inboxes that an Applier asked for.
type txFan struct {
	key   fanKey
	inbox fanInbox
}

func (t *tx) Inboxes(users []string, expires int64, event []byte) error {
	key := fanKey{topic: t.topic}
	if t.conn != nil && t.conn.sess != nil {
		key.from = t.conn.sess.key
	}
	if len(users) < fanFrom && len(t.c.fans[key]) == 0 && t.holds(len(users), len(event)) {
		for _, name := range users {
			err := t.Inbox(name, expires, func(dst []byte, at hooks.Place) []byte { return appendPlaced(dst, event, at) })
			if err != nil {
				t.c.unreachable(name, err)
			}
		}
		return nil
	}
	f := txFan{key, fanInbox{append([]string(nil), users...), append([]byte(nil), event...), expires, t.c.clock.now}}
	size := f.inbox.size()
	if _, most := t.c.store.Limit(); t.c.cur.w.Size()+t.size+size > most*3/4 || t.c.waiting+len(users) > fanMost {
		return &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the event has more recipients than the server can take on now", Later: true}
	}
	t.size += size
	t.fans = append(t.fans, f)
	return nil
}

// holds reports whether n events of a size fit into a share of one commit, so that
// the command stays short.
func (t *tx) holds(n, size int) bool {
	const each = 400 // an event's head and place, and the user's record
	_, most := t.c.store.Limit()
	return t.c.cur.w.Size()+t.size+n*(size+each) <= most/2
}

// unreachable notes that an event has a recipient who can have no inbox.
func (c *core) unreachable(name string, err error) {
	c.b.stats.refused.Add(1)
	c.b.often.warn("an event has a recipient who can have no inbox", "user", name, "err", err)
}

// write begins the fan-out, in the open batch.
func (f *txFan) write(c *core) {
	c.nextID++
	out := &fan{n: c.nextID, key: f.key, inbox: &f.inbox}
	c.cur.w.Put(tableFan, be8(out.n), out.inboxRecord())
	c.chain(out)
}

// inboxStep gives the event its place in the next inboxes, in as many as the open
// batch takes.
func (c *core) inboxStep(f *fan) {
	in := f.inbox
	for end := min(f.next+fanFrom, len(in.names)); f.next < end; f.next++ {
		if f.next > 0 && c.full() {
			return
		}
		name := in.names[f.next]
		if err := c.mayHaveInbox(name); err != nil {
			c.unreachable(name, err)
			continue
		}
		u := c.person(name)
		seq := u.next
		u.next++
		e := newInboxEvent(in.expires, in.at)
		e.value = appendPlaced(e.value, in.event, hooks.Place{Seq: seq, Epoch: u.epoch})
		c.toInbox(u, seq, e)
	}
}

// appendPlaced appends an event, a JSON object, with its place behind the version.
func appendPlaced(dst, event []byte, at hooks.Place) []byte {
	head := []byte(`{"v":1,`)
	rest, ok := bytes.CutPrefix(event, head)
	if !ok {
		head, rest = []byte("{"), event[1:]
	}
	dst = append(append(dst, head...), `"seq":`...)
	dst = strconv.AppendUint(dst, at.Seq, 10)
	dst = strconv.AppendQuote(append(dst, `,"epoch":`...), at.Epoch)
	return append(append(dst, ','), rest...)
}

func (in *fanInbox) size() int {
	n := len(in.event) + 2*opSize + 300
	for _, name := range in.names {
		n += len(name) + 2
	}
	return n
}

// inboxRecord is kind, version, expiry, time, the publisher, the topic, the event,
// then each name.
func (f *fan) inboxRecord() []byte {
	in := f.inbox
	rec := make([]byte, 0, in.size())
	rec = append(rec, 'I', 1)
	rec = binary.BigEndian.AppendUint64(rec, uint64(in.expires))
	rec = binary.BigEndian.AppendUint64(rec, uint64(in.at))
	for _, s := range []string{f.key.from.user, f.key.from.client, f.key.topic, string(in.event)} {
		rec = appendString(rec, s)
	}
	for _, name := range in.names {
		rec = appendString(rec, name)
	}
	return rec
}

func decodeFanInbox(n uint64, v []byte) (*fan, error) {
	if err := checkRecord(v, 'I', 18); err != nil {
		return nil, err
	}
	in := &fanInbox{expires: int64(binary.BigEndian.Uint64(v[2:])), at: int64(binary.BigEndian.Uint64(v[10:]))}
	f := &fan{n: n, inbox: in}
	var event string
	var err error
	v = v[18:]
	for _, s := range []*string{&f.key.from.user, &f.key.from.client, &f.key.topic, &event} {
		if *s, v, err = cutString(v); err != nil {
			return nil, errRecord
		}
	}
	if in.event = []byte(event); len(event) < 2 {
		return nil, errRecord
	}
	for len(v) > 0 {
		var name string
		if name, v, err = cutString(v); err != nil {
			return nil, errRecord
		}
		in.names = append(in.names, name)
	}
	return f, nil
}
