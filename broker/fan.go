package broker

import (
	"encoding/binary"
	"errors"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

const (
	tableFan   store.Table = 0x2d // fan-out number → body and audience
	tableFanAt store.Table = 0x2e // fan-out number → how far it is
)

const (
	// fanFrom is how many lasting recipients make a message a fan-out, and how
	// many of them one step serves: no command holds the core for long.
	fanFrom = 256
	// fanMost is how many recipients may wait in all fan-outs together.
	fanMost = 1 << 20
)

// fan is a publish to many lasting sessions, or an event for many inboxes: the
// message and the audience are written once, with the command; what each recipient
// gets follows in steps of their own.
// A step and its progress commit together, so that a restart goes on where the
// last one ended, and nobody gets it twice. Owned by the core.
type fan struct {
	n    uint64
	key  fanKey
	body uint64
	msg  *mqtt.Message
	to   []fanTarget
	next int
	// inbox is set, and body, msg and to are not, if it is for inboxes.
	inbox *fanInbox
}

// size is the number of its recipients.
func (f *fan) size() int {
	if f.inbox != nil {
		return len(f.inbox.names)
	}
	return len(f.to)
}

// fanKey is a publisher and a topic: what it publishes there later queues
// behind, whatever its audience, since their order is promised.
type fanKey struct {
	from  sessionKey
	topic string
}

type fanTarget struct {
	sess   *session
	subIDs []uint32
	qos    byte
	retain bool
}

// fanOut takes the lasting sessions out of c.targets and serves them in steps.
func (c *core) fanOut(m *mqtt.Message, from *session, lasting int) {
	c.nextID++
	f := &fan{n: c.nextID, key: fanOf(m, from), msg: m, to: make([]fanTarget, 0, lasting)}
	rest := c.targets[:0]
	for _, t := range c.targets {
		if t.grp != nil || !t.durable() {
			rest = append(rest, t)
			continue
		}
		f.to = append(f.to, fanTarget{t.sess, t.item.subIDs, t.item.qos, t.item.retain})
	}
	clear(c.targets[len(rest):])
	c.targets = rest
	f.body = c.storeBody(m, len(f.to))
	c.cur.w.Put(tableFan, be8(f.n), f.record())
	c.chain(f)
}

func fanOf(m *mqtt.Message, from *session) fanKey {
	k := fanKey{topic: m.Topic}
	if from != nil {
		k.from = from.key
	}
	return k
}

// fanning reports whether m must queue behind an earlier message of its
// publisher on its topic.
func (c *core) fanning(m *mqtt.Message, from *session) bool {
	return len(c.fans) > 0 && len(c.fans[fanOf(m, from)]) > 0
}

// chain puts a fan-out behind those of its publisher and topic.
func (c *core) chain(f *fan) {
	if c.fans == nil {
		c.fans = make(map[fanKey][]*fan)
	}
	c.fans[f.key] = append(c.fans[f.key], f)
	c.waiting += f.size() - f.next
	if len(c.fans[f.key]) == 1 {
		c.fanSoon(f)
	}
}

func (c *core) fanSoon(f *fan) {
	c.mail.post(command{kind: cmdCall, call: func() { c.fanStep(f) }})
}

// fanStep serves the next recipients.
func (c *core) fanStep(f *fan) {
	was := f.next
	if f.inbox != nil {
		c.inboxStep(f)
	} else {
		c.refStep(f)
	}
	c.waiting -= f.next - was
	c.keep(nil)
	if f.next < f.size() {
		c.cur.w.Put(tableFanAt, be8(f.n), append([]byte{'A', 1}, be8(uint64(f.next))...))
		c.fanSoon(f)
		return
	}
	c.cur.w.Delete(tableFan, be8(f.n))
	c.cur.w.Delete(tableFanAt, be8(f.n))
	c.unchain(f)
}

// refStep writes the references of the next sessions.
func (c *core) refStep(f *fan) {
	end := min(f.next+fanFrom, len(f.to))
	for _, t := range f.to[f.next:end] {
		if t.sess.gone {
			c.unref(f.body)
			continue
		}
		it := item{msg: f.msg, subIDs: t.subIDs, qos: t.qos, retain: t.retain}
		c.enqueue(&t.sess.wake().queue, &it, f.body)
		c.cur.effects = append(c.cur.effects, effect{sess: t.sess, it: it})
	}
	f.next = end
}

// unchain ends a fan-out and begins the next one behind it.
func (c *core) unchain(f *fan) {
	rest := c.fans[f.key][1:]
	if len(rest) == 0 {
		delete(c.fans, f.key)
		return
	}
	c.fans[f.key] = rest
	c.fanSoon(rest[0])
}

// record is kind, version, body, the publisher, then each recipient.
func (f *fan) record() []byte {
	rec := append([]byte{'F', 1}, be8(f.body)...)
	rec = appendString(appendString(rec, f.key.from.user), f.key.from.client)
	for _, t := range f.to {
		flags := t.qos
		if t.retain {
			flags |= 4
		}
		n := min(len(t.subIDs), 255)
		rec = append(binary.AppendUvarint(rec, t.sess.id), flags, byte(n))
		for _, id := range t.subIDs[:n] {
			rec = binary.AppendUvarint(rec, uint64(id))
		}
	}
	return rec
}

// decodeFan is the inverse of record; sessions that have ended get a stand-in,
// so that the places of the others hold.
func decodeFan(n uint64, v []byte, byID sessionList) (*fan, error) {
	if len(v) > 0 && v[0] == 'I' {
		return decodeFanInbox(n, v)
	}
	if err := checkRecord(v, 'F', 10); err != nil {
		return nil, err
	}
	f := &fan{n: n, body: binary.BigEndian.Uint64(v[2:])}
	var err error
	v = v[10:]
	for _, s := range []*string{&f.key.from.user, &f.key.from.client} {
		if *s, v, err = cutString(v); err != nil {
			return nil, errRecord
		}
	}
	for len(v) > 0 {
		id, k := binary.Uvarint(v)
		if k <= 0 || len(v) < k+2 || v[k]&3 == 3 {
			return nil, errRecord
		}
		t := fanTarget{sess: byID.find(id), qos: v[k] & 3, retain: v[k]&4 != 0}
		if t.sess == nil {
			t.sess = &session{gone: true}
		}
		subs := int(v[k+1])
		v = v[k+2:]
		for range subs {
			id, k := binary.Uvarint(v)
			if k <= 0 {
				return nil, errRecord
			}
			t.subIDs, v = append(t.subIDs, uint32(id)), v[k:]
		}
		f.to = append(f.to, t)
	}
	return f, nil
}

// restoreFans goes on with the fan-outs that had not ended.
func (c *core) restoreFans(byID sessionList) error {
	var fans []*fan
	err := c.scan("fan-out", tableFan, 8, func(key, v []byte) error {
		f, err := decodeFan(binary.BigEndian.Uint64(key), append([]byte(nil), v...), byID)
		if err != nil {
			c.cur.w.Delete(tableFanAt, append([]byte(nil), key...))
			return err
		}
		fans = append(fans, f)
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range fans {
		if err := c.resumeFan(f); err != nil {
			return err
		}
	}
	return nil
}

// loseFan ends a fan-out whose message is lost.
func (c *core) loseFan(f *fan) {
	c.damaged("fan-out's message", be8(f.body), nil, errMissing)
	for _, t := range f.to[f.next:] {
		if !t.sess.gone {
			c.loseDamaged(&t.sess.wake().queue)
		}
	}
	c.cur.w.Delete(tableFan, be8(f.n))
	c.cur.w.Delete(tableFanAt, be8(f.n))
}

func (c *core) resumeFan(f *fan) error {
	v, err := c.store.Get(tableFanAt, be8(f.n))
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return err
	case checkRecord(v, 'A', 10) == nil:
		f.next = int(min(binary.BigEndian.Uint64(v[2:]), uint64(f.size())))
	case errors.Is(checkRecord(v, 'A', 10), mqtt.ErrNewer):
		return newer("fan-out's progress", tableFanAt, be8(f.n))
	default: // who had it gets it again: at least once
		c.damaged("fan-out's progress", be8(f.n), v, errRecord)
	}
	if f.inbox != nil {
		c.chain(f)
		return nil
	}
	if f.msg, err = c.readBody(f.body); err != nil {
		return err
	}
	if f.msg == nil {
		c.loseFan(f)
		return nil
	}
	f.key.topic = f.msg.Topic
	c.bodies[f.body] += int32(len(f.to) - f.next)
	c.chain(f)
	return nil
}
