package broker

import (
	"fmt"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// tx is what an Applier does during one command. It holds the writes back until
// the Applier has returned: all of them go into the open batch, or none.
type tx struct {
	c     *core
	a     *applier
	conn  *conn // the sender, or nil
	depth int
	topic string // of the publish, empty at a Tick
	// waits means that it saw a write which is not on disk yet: what is said
	// because of it may not leave before.
	waits   bool
	records []txRecord
	events  []txEvent
	fans    []txFan
	size    int             // of records and events, in bytes of the batch
	more    []*mqtt.Message // published in answer, routed after
	reply   []*mqtt.Message
	reads   []txRead
}

// txRead is what an Applier wants to read, and what it then does.
type txRead struct {
	look func(hooks.Reader)
	then func(hooks.Tx)
}

// txRecord is a record to be written, or deleted if value is nil, and what was
// remembered under its key before.
type txRecord struct {
	key, value []byte
	was        recent
	had        bool
}

// txEvent is an event with its place in an inbox; made means that the inbox is new.
type txEvent struct {
	user *user
	made bool
	seq  uint64
	inboxEvent
}

// opSize is about what a write takes of a batch beside its key's and value's text.
const opSize = 64

var _ hooks.Tx = (*tx)(nil)

func (t *tx) Now() int64 { return t.c.clock.now }

func (t *tx) Get(key []byte) ([]byte, bool) {
	r, ok := t.a.recent[string(key)]
	t.waits = t.waits || r.batch > t.c.released
	return r.value, ok
}

func (t *tx) Put(key, value []byte) { t.record(key, append([]byte{}, value...)) }

func (t *tx) Delete(key []byte) { t.record(key, nil) }

func (t *tx) record(key, value []byte) {
	r := txRecord{key: append([]byte(nil), key...), value: value}
	r.was, r.had = t.a.recent[string(key)]
	t.a.recent[string(key)] = recent{t.c.cur.n, value, t.c.clock.now}
	t.records = append(t.records, r)
	t.size += len(t.a.Name()) + len(key) + len(value) + opSize
}

func (t *tx) Inbox(name string, expires int64, encode func(dst []byte, at hooks.Place) []byte) error {
	if err := t.c.mayHaveInbox(name); err != nil {
		return err
	}
	w := &t.c.cur.w
	if entries, bytes := t.c.store.Limit(); w.Len()+len(t.records)+2*len(t.events) > entries*3/4 || w.Size()+t.size > bytes*3/4 {
		return &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the event has more recipients than one commit can hold"}
	}
	_, known := t.c.users[name]
	u := t.c.person(name)
	e := txEvent{u, !known, u.next, newInboxEvent(expires, t.c.clock.now)}
	e.value = encode(e.value, hooks.Place{Seq: u.next, Epoch: u.epoch})
	u.next++
	t.events = append(t.events, e)
	t.size += len(e.value) + len(u.record()) + 2*opSize
	return nil
}

func (t *tx) Publish(m *mqtt.Message) { t.more = append(t.more, m) }

func (t *tx) Reply(m *mqtt.Message) { t.reply = append(t.reply, m) }

func (t *tx) Read(look func(hooks.Reader), then func(hooks.Tx)) {
	t.reads = append(t.reads, txRead{look, then})
}

// read begins a reading.
func (c *core) read(a *applier, r txRead) {
	c.b.work(func() {
		r.look(hookReader{c.store, a.Name()})
		c.mail.post(command{kind: cmdCall, call: func() {
			t := &tx{c: c, a: a}
			r.then(t)
			c.finish(t)
		}})
	})
}

// write puts what was asked for into the open batch, and reports whether the
// command has to wait for it.
func (t *tx) write() (kept bool) {
	w := &t.c.cur.w
	for _, r := range t.records {
		key := hookReader{name: t.a.Name()}.key(r.key)
		if r.value == nil {
			w.Delete(tableHook, key)
		} else {
			w.Put(tableHook, key, r.value)
		}
	}
	for _, e := range t.events {
		t.c.toInbox(e.user, e.seq, e.inboxEvent)
	}
	for i := range t.fans {
		t.fans[i].write(t.c)
	}
	return t.keep(len(t.records)+len(t.events)+len(t.fans) > 0)
}

// drop takes everything back, for an Applier that refuses.
func (t *tx) drop() (kept bool) {
	for i := len(t.records) - 1; i >= 0; i-- {
		if r := &t.records[i]; r.had {
			t.a.recent[string(r.key)] = r.was
		} else {
			delete(t.a.recent, string(r.key))
		}
	}
	for i := len(t.events) - 1; i >= 0; i-- {
		e := &t.events[i]
		e.user.next = e.seq
		if e.made {
			delete(t.c.users, e.user.name)
		}
	}
	return t.keep(false)
}

func (t *tx) keep(wrote bool) (kept bool) {
	if kept = wrote || t.waits; kept {
		t.c.keep(t.conn)
	}
	return kept
}

// mayHaveInbox says why nothing can be sent to a user of that name.
func (c *core) mayHaveInbox(name string) error {
	switch {
	case name == "" || len(name) > 128:
		return &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: fmt.Sprintf("%.40q is no user's name: it has 1 to 128 bytes", name)}
	case c.users[name] == nil && c.b.crowded.Load():
		return errNoMemory
	case c.users[name] == nil && len(c.users) >= c.cfg.Limits.Inboxes:
		return &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the server has no room for another inbox"}
	}
	return nil
}
