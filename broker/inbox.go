package broker

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

const (
	tableUser   store.Table = 0x28 // user id → name, epoch, next number
	tableCursor store.Table = 0x29 // user id, client id → the device's cursor
	tableHook   store.Table = 0x2a // hook's name, 0, key → the hook's record

	logInbox byte = 'i' // a user's events by their number
)

// user is one person's inbox: a densely numbered, durable stream, read by each
// device with a cursor of its own. Owned by the core.
type user struct {
	id    uint64
	name  string
	epoch string
	next  uint64 // the number of the next event
	first uint64 // the oldest event that may still be there
	done  uint64 // the last event that is committed
	// cursors are the devices: client id → the last event acknowledged.
	cursors map[string]cursor
	bytes   int64 // of the events that are kept, about
	look    int64 // when a timer next looks at it, 0 for none
	// sweeping means that the oldest events are being read.
	sweeping bool
	feeds    []*session // sessions that are subscribed now
}

// inboxTopic is where a user's events arrive.
func inboxTopic(name string) string { return "users/" + encodeName(name) + "/inbox" }

// person returns the user's inbox, and makes it if there is none.
func (c *core) person(name string) *user {
	if u := c.users[name]; u != nil {
		return u
	}
	c.nextID++
	u := &user{id: c.nextID, name: name, epoch: rand.Text()[:8], next: 1, first: 1}
	c.users[name] = u
	return u
}

// record is kind, version, next and first number, bytes, epoch, name.
func (u *user) record() []byte {
	rec := binary.BigEndian.AppendUint64([]byte{'U', 1}, u.next)
	rec = binary.BigEndian.AppendUint64(rec, u.first)
	rec = binary.BigEndian.AppendUint64(rec, uint64(u.bytes))
	return appendString(appendString(rec, u.epoch), u.name)
}

func decodeUser(id uint64, v []byte) (*user, error) {
	v = append([]byte(nil), v...)
	if err := checkRecord(v, 'U', 26); err != nil {
		return nil, err
	}
	u := &user{id: id, next: binary.BigEndian.Uint64(v[2:]), first: binary.BigEndian.Uint64(v[10:])}
	u.done, u.bytes = u.next-1, int64(binary.BigEndian.Uint64(v[18:]))
	var err error
	v = v[26:]
	for _, f := range []*string{&u.epoch, &u.name} {
		if *f, v, err = cutString(v); err != nil {
			return nil, err
		}
	}
	if u.first == 0 || u.first > u.next {
		return nil, errRecord
	}
	return u, nil
}

// inboxEvent is an event in its stored form: kind, version, when it expires, when
// it came, the payload.
type inboxEvent struct {
	expires int64
	value   []byte
}

// eventHead is the length of what stands before the payload.
const eventHead = 18

// newInboxEvent is an event to which the payload is still to be appended.
func newInboxEvent(expires, now int64) inboxEvent {
	value := binary.BigEndian.AppendUint64([]byte{'E', 1}, uint64(expires))
	return inboxEvent{expires, binary.BigEndian.AppendUint64(value, uint64(now))}
}

// toInbox appends an event at its place, seq, to a user's inbox, in the open batch,
// and lets it go to the user's devices with the commit.
func (c *core) toInbox(u *user, seq uint64, e inboxEvent) {
	u.bytes += int64(len(e.value))
	c.cur.w.Append(store.Log{Kind: logInbox, ID: u.id}, store.Pos(seq), e.value)
	c.cur.w.Put(tableUser, be8(u.id), u.record())
	m := &mqtt.Message{Topic: inboxTopic(u.name), Payload: e.value[eventHead:], QoS: 1, Expires: e.expires}
	c.cur.effects = append(c.cur.effects, effect{do: func() {
		u.done = max(u.done, seq)
		for _, s := range u.feeds {
			c.arrive(s, &item{msg: m, qos: s.inbox.qos, subIDs: s.inbox.subIDs, at: store.Pos(seq), from: &s.inbox.queue})
		}
	}})
	c.keepInbox(u, c.clock.now)
	if c.inboxOver(u) {
		c.sweepInbox(u)
	}
}

// feed is a session's reading of an inbox.
type feed struct {
	queue
	user   *user
	qos    byte
	subIDs []uint32 // of the filters that opened it [MQTT-3.3.4-3]
	open   []uint64 // read and not yet acknowledged, rising
	quiet  bool     // its SUBACK has not left
}

// inboxFilters are the filters that open the session's own inbox.
func (s *session) inboxFilters() [2]string {
	n := "users/" + encodeName(s.key.user)
	return [2]string{n + "/inbox", n + "/#"}
}

// isInbox reports whether a filter opens the session's own inbox. A broker to whose
// inboxes no hook can write has none: to it these are plain topics.
func (c *core) isInbox(s *session, filter string) bool {
	if !c.inboxes || s.key.user == "" || !strings.HasPrefix(filter, "users/") {
		return false
	}
	f := s.inboxFilters()
	return slices.Contains(f[:], filter)
}

// tuneInbox takes the options of the session's filters over to its feed.
func (s *session) tuneInbox() {
	f := s.inbox
	f.qos, f.subIDs = 0, nil
	for _, filter := range s.inboxFilters() {
		if o, ok := s.subs.get(filter); ok {
			f.qos = max(f.qos, min(o.qos, 1))
			if o.id != 0 {
				f.subIDs = append(f.subIDs, o.id)
			}
		}
	}
}

// openInbox begins to feed a session from its user's inbox: a first device
// from the oldest event, later ones from the head.
func (c *core) openInbox(s *session) {
	s.wake()
	if s.inbox != nil {
		s.tuneInbox()
		return
	}
	u := c.person(s.key.user)
	if _, known := u.cursors[s.key.client]; !known {
		at := u.first - 1
		if len(u.cursors) > 0 {
			at = u.next - 1
		}
		c.makeRoom(u)
		c.setCursor(u, s.key.client, at)
		c.cur.w.Put(tableUser, be8(u.id), u.record())
		c.keepInbox(u, c.clock.now)
	}
	c.feed(s, u)
	s.inbox.quiet = true
}

// feed lets a session read an inbox from its device's cursor on. That of a device which
// was given up for another one may be missing; then it begins anew when it connects.
func (c *core) feed(s *session, u *user) {
	s.inbox = &feed{user: u}
	s.tuneInbox()
	s.inbox.reader = s
	s.inbox.log = store.Log{Kind: logInbox, ID: u.id}
	c.rewind(s)
	u.feeds = append(u.feeds, s)
}

// rewind lets the feed begin at the device's cursor.
func (c *core) rewind(s *session) {
	f := s.inbox
	f.read = store.Pos(f.user.cursors[s.key.client].at)
	f.done, f.liveAt, f.queue.open, f.open = store.Pos(f.user.done), 0, nil, nil
	f.live, f.reading, f.loaded, f.ended, f.quiet = false, false, true, false, false
}

// closeInbox ends a session's feed; the device keeps its cursor.
func (c *core) closeInbox(s *session) {
	if s.inbox == nil {
		return
	}
	u := s.inbox.user
	if s.conn != nil {
		c.seen(s)
	}
	if i := slices.Index(u.feeds, s); i >= 0 {
		u.feeds = slices.Delete(u.feeds, i, i+1)
	}
	s.inbox = nil
}

// passed moves a device's cursor over the events that it has acknowledged
// without a hole; what every cursor has passed is deleted.
func (c *core) passed(s *session, seq uint64) {
	f := s.inbox
	if f == nil {
		return
	}
	if i, ok := slices.BinarySearch(f.open, seq); ok {
		f.open = slices.Delete(f.open, i, i+1)
	}
	at := uint64(f.read)
	if len(f.open) > 0 {
		at = f.open[0] - 1
	}
	u := f.user
	if k, ok := u.cursors[s.key.client]; !ok || at <= k.at {
		return
	}
	c.setCursor(u, s.key.client, at)
	c.trimInbox(u)
}

// trimInbox deletes events that all devices have passed.
func (c *core) trimInbox(u *user) {
	low := u.next - 1
	for _, k := range u.cursors {
		low = min(low, k.at)
	}
	for n := 0; u.first <= low && n < eraseStep; n++ {
		u.bytes -= u.bytes / int64(u.next-u.first)
		c.cur.w.Remove(store.Log{Kind: logInbox, ID: u.id}, store.Pos(u.first))
		u.first++
	}
}

// readInbox reads the next page of the session's inbox; see readOn.
func (c *core) readInbox(s *session) {
	f := s.inbox
	if f == nil || f.reading || f.live || f.quiet {
		return
	}
	if f.read >= f.done && f.ended {
		f.live = true
		return
	}
	bytes, held, ok := c.lot(&f.queue, s.out)
	if !ok {
		c.queueUp(s)
		return
	}
	f.reading = true
	log, after, done, cn, topic := f.log, f.read, f.done, s.conn, inboxTopic(f.user.name)
	c.b.work(func() {
		var p page
		p.held = held
		p.err = c.store.Read(log, after, pageItems, bytes, func(at store.Pos, v []byte) bool {
			it, err := decodeEvent(topic, at, v)
			if err != nil {
				c.damaged("inbox event", logKey(logInbox, log.ID, at), v, err)
				p.damaged = append(p.damaged, at)
				it = item{at: at}
			}
			p.items = append(p.items, loaded{item: it})
			p.last = at
			return true
		})
		p.end = len(p.items) == 0 || !c.more(log, p.last)
		c.mail.post(command{kind: cmdCall, call: func() { c.pageInbox(s, f, cn, p, done) }})
	})
}

func (c *core) pageInbox(s *session, f *feed, cn *conn, p page, done store.Pos) {
	c.backlog.bytes -= p.held
	if s.conn != cn || s.gone || s.inbox != f {
		return // that connection's reading is no more
	}
	f.reading = false
	if p.err != nil {
		c.log.Error("inbox could not be read", "user", f.user.name, "err", p.err)
		c.drop(cn, mqtt.UnspecifiedError, "the inbox could not be read")
		return
	}
	for i := range p.items {
		it := p.items[i].item
		if it.at <= f.read {
			continue
		}
		c.gapBefore(s, f, it.at)
		if it.from = &f.queue; it.msg == nil {
			it.msg = f.user.gap(uint64(it.at), uint64(it.at), "damage")
		}
		c.feedItem(s, f, it)
	}
	if p.end {
		c.gapBefore(s, f, done+1)
	}
	f.read = max(f.read, p.last)
	if f.ended = p.end; p.end {
		f.read = max(f.read, done)
		f.live = f.read >= f.done
	}
	c.pump(s)
}

// gapBefore tells of events before at that are no more.
func (c *core) gapBefore(s *session, f *feed, at store.Pos) {
	if first := f.read + 1; first < at {
		m := f.user.gap(uint64(first), uint64(at-1), "retention")
		c.feedItem(s, f, item{msg: m, at: at - 1, from: &f.queue})
	}
}

// feedItem takes an event, or the gap that ends at its place, into memory.
func (c *core) feedItem(s *session, f *feed, it item) {
	it.qos, it.subIDs = f.qos, f.subIDs
	c.takenBy(s, &f.queue, &it)
	s.box().add(&it)
}

// decodeEvent makes an item of a stored inbox event.
func decodeEvent(topic string, at store.Pos, v []byte) (it item, err error) {
	if err := checkRecord(v, 'E', eventHead); err != nil {
		return it, err
	}
	m := &mqtt.Message{Topic: topic, QoS: 1, Expires: int64(binary.BigEndian.Uint64(v[2:]))}
	m.Payload = append([]byte(nil), v[eventHead:]...)
	return item{msg: m, at: at}, nil
}

// restoreUsers reads all inboxes' heads and cursors.
func (c *core) restoreUsers() error {
	byID := make(map[uint64]*user)
	err := c.scan("inbox", tableUser, 8, func(key, v []byte) error {
		id := binary.BigEndian.Uint64(key)
		u, err := decodeUser(id, v)
		if err == nil && c.users[u.name] != nil {
			err = errRecord
		}
		if err != nil { // the person's next one has another epoch, which tells of it
			c.eraseInbox(id)
			return err
		}
		byID[u.id], c.users[u.name] = u, u
		c.keepInbox(u, c.clock.now-c.cfg.Limits.InboxKeep.Milliseconds()+int64(u.id%3600)*1000)
		return nil
	})
	if err != nil {
		return err
	}
	return c.scan("cursor", tableCursor, 8, func(key, v []byte) error {
		id, client := binary.BigEndian.Uint64(key), string(key[8:])
		u := byID[id]
		if u == nil {
			c.cur.w.Delete(tableCursor, append([]byte(nil), key...))
			c.eraseInbox(id)
			return nil
		}
		if assigned(client) && c.sessions.get(sessionKey{u.name, client}) == nil { // it ended with a crash
			c.dropCursor(u, client)
			return nil
		}
		k, err := decodeCursor(v)
		if errors.Is(err, mqtt.ErrNewer) {
			return err
		}
		if err != nil || k.at >= u.next { // what the device has read is not known: it gets what is kept
			c.damaged("cursor", key, v, errRecord)
			c.setCursor(u, client, u.first-1)
			return nil
		}
		if u.cursors == nil {
			u.cursors = make(map[string]cursor, 1)
		}
		u.cursors[client] = k
		return nil
	})
}

// eraseInbox removes the events and cursors of an inbox whose own record is lost, once
// the core runs.
func (c *core) eraseInbox(id uint64) {
	c.mail.post(command{kind: cmdCall, call: func() {
		c.eraseTable(tableCursor, id)
		c.eraseLog(store.Log{Kind: logInbox, ID: id})
	}})
}

// encodeName is how a user stands in a topic level.
func encodeName(name string) string { return hooks.EncodeName(name) }
