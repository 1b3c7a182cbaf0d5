package broker

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// cursor is how far one device has come in its user's inbox.
type cursor struct {
	at   uint64 // the last event acknowledged
	seen int64  // when it was last connected, core time (ms)
}

func (k cursor) record() []byte {
	rec := binary.BigEndian.AppendUint64([]byte{'C', 1}, k.at)
	return binary.BigEndian.AppendUint64(rec, uint64(k.seen))
}

func decodeCursor(v []byte) (k cursor, err error) {
	if err := checkRecord(v, 'C', 18); err != nil {
		return k, err
	}
	return cursor{binary.BigEndian.Uint64(v[2:]), int64(binary.BigEndian.Uint64(v[10:]))}, nil
}

// maxDevices is how many devices a user may have.
const maxDevices = 16

// idleDevice is how long the cursor of a device outlives its last connection.
const idleDevice = 30 * 24 * time.Hour

func (c *core) setCursor(u *user, client string, at uint64) {
	if u.cursors == nil {
		u.cursors = make(map[string]cursor, 1)
	}
	k := cursor{at, c.clock.now}
	u.cursors[client] = k
	c.cur.w.Put(tableCursor, append(be8(u.id), client...), k.record())
}

// seen notes that a session's device is there now.
func (c *core) seen(s *session) {
	u := s.inbox.user
	if k, ok := u.cursors[s.key.client]; ok {
		c.setCursor(u, s.key.client, k.at)
	}
}

// reopenInbox goes on at the device's cursor, or as a new device if the one it
// had was given up meanwhile.
func (c *core) reopenInbox(s *session) {
	u := s.inbox.user
	if k, known := u.cursors[s.key.client]; known && c.clock.now-k.seen <= idleDevice.Milliseconds() {
		c.seen(s)
		c.rewind(s)
		return
	}
	c.dropCursor(u, s.key.client)
	c.closeInbox(s)
	c.openInbox(s)
	s.inbox.quiet = false // there is no SUBACK to wait for
}

func (c *core) dropCursor(u *user, client string) {
	delete(u.cursors, client)
	c.cur.w.Delete(tableCursor, append(be8(u.id), client...))
}

// mayOpenInbox says why a session can't read its user's inbox.
func (c *core) mayOpenInbox(s *session) error {
	if err := c.mayHaveInbox(s.key.user); err != nil {
		return err
	}
	u := c.users[s.key.user]
	if u == nil {
		return nil
	}
	c.dropIdle(u)
	reading := 0
	for client := range u.cursors {
		if u.reads(client) {
			reading++
		}
	}
	if _, known := u.cursors[s.key.client]; !known && reading >= maxDevices {
		return &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "as many devices of this user as may be are connected"}
	}
	return nil
}

// leaveInbox ends a session's feed if none of its filters asks for it any more.
func (c *core) leaveInbox(s *session) {
	for _, f := range s.inboxFilters() {
		if s.subs.has(f) {
			s.tuneInbox()
			return
		}
	}
	c.closeInbox(s)
}

// forgetAssigned ends the cursor of a device that we gave its id: it lasts no
// longer than the session.
func (c *core) forgetAssigned(s *session) {
	if u := c.users[s.key.user]; u != nil && assigned(s.key.client) {
		c.dropCursor(u, s.key.client)
	}
}

// dropIdle ends the cursors of devices that are gone for good.
func (c *core) dropIdle(u *user) {
	for client, k := range u.cursors {
		if c.clock.now-k.seen > idleDevice.Milliseconds() && !u.reads(client) {
			c.dropCursor(u, client)
		}
	}
}

// makeRoom lets the longest idle device go if the user has as many as it may.
func (c *core) makeRoom(u *user) {
	for len(u.cursors) >= maxDevices {
		idle, since := "", int64(math.MaxInt64)
		for client, k := range u.cursors {
			if !u.reads(client) && (k.seen < since || k.seen == since && client < idle) {
				idle, since = client, k.seen
			}
		}
		if since == math.MaxInt64 {
			return // all of them are connected
		}
		c.dropCursor(u, idle)
	}
}

// reads reports whether a device is subscribed to the inbox now.
func (u *user) reads(client string) bool {
	for _, s := range u.feeds {
		if s.key.client == client && s.conn != nil {
			return true
		}
	}
	return false
}

// assigned reports whether we gave a client its id.
func assigned(client string) bool { return strings.HasPrefix(client, "gc-") }

// keepInbox sees to it that a timer looks at a user's oldest event, and at devices that
// may be gone for good.
func (c *core) keepInbox(u *user, oldest int64) {
	idle := idleDevice.Milliseconds()
	at := c.clock.now + idle
	if u.first < u.next {
		at = min(at, oldest+c.cfg.Limits.InboxKeep.Milliseconds())
	} else if len(u.cursors) == 0 {
		at = 0
	}
	if u.look != 0 && u.look <= at {
		return
	}
	for client, k := range u.cursors {
		if !u.reads(client) {
			at = min(at, k.seen+idle+1)
		}
	}
	at = max(at, c.clock.now+1000)
	if u.look == 0 || at < u.look {
		u.look = at
		c.keeping.add(at, u)
	}
}

// sweepInbox removes a user's events that are older than is kept, or beyond
// the bounds of an inbox, and the cursors of devices that are gone for good. An inbox
// that has neither goes, too: numbering begins anew, in another epoch.
func (c *core) sweepInbox(u *user) {
	if u.sweeping || c.users[u.name] != u {
		return
	}
	c.dropIdle(u)
	if u.first == u.next {
		if len(u.cursors)+len(u.feeds) > 0 {
			c.keepInbox(u, 0)
			return
		}
		delete(c.users, u.name)
		c.cur.w.Delete(tableUser, be8(u.id))
		return
	}
	u.sweeping = true
	log, done := store.Log{Kind: logInbox, ID: u.id}, u.done
	c.b.work(func() {
		var head []oldEvent
		err := c.store.Read(log, 0, eraseStep, 1<<20, func(at store.Pos, v []byte) bool {
			e := oldEvent{seq: uint64(at), size: len(v)} // one that is damaged is of no use: it goes
			if checkRecord(v, 'E', eventHead) == nil {
				e.ts = int64(binary.BigEndian.Uint64(v[10:]))
			}
			head = append(head, e)
			return true
		})
		c.mail.post(command{kind: cmdCall, call: func() {
			u.sweeping = false
			switch {
			case err != nil:
				c.log.Error("inbox could not be read", "user", u.name, "err", err)
				c.keepInbox(u, c.clock.now)
			case len(head) == 0:
				c.allPassed(u, done)
			default:
				c.swept(u, head)
			}
		}})
	})
}

// allPassed notes that devices have passed all events up to done: as they pass them,
// only the events are written.
func (c *core) allPassed(u *user, done uint64) {
	if u.first = max(u.first, done+1); u.first == u.next {
		u.bytes = 0
	}
	c.cur.w.Put(tableUser, be8(u.id), u.record())
	c.then(func() { c.sweepInbox(u) })
}

// oldEvent is an event at the head of an inbox.
type oldEvent struct {
	seq  uint64
	ts   int64
	size int
}

// swept removes what of an inbox's head is beyond its bounds. What u.first is past counts
// no more: the store was read before its removal was committed.
func (c *core) swept(u *user, head []oldEvent) {
	cut := c.clock.now - c.cfg.Limits.InboxKeep.Milliseconds()
	removed, past := 0, 0
	for _, e := range head {
		if e.seq < u.first {
			c.cur.w.Remove(store.Log{Kind: logInbox, ID: u.id}, store.Pos(e.seq))
			past++
			continue
		}
		e.ts = min(e.ts, c.clock.now) // it may be damaged
		if e.ts > cut && !c.inboxOver(u) {
			c.keepInbox(u, e.ts)
			break
		}
		c.cur.w.Remove(store.Log{Kind: logInbox, ID: u.id}, store.Pos(e.seq))
		u.first, u.bytes = max(u.first, e.seq+1), max(u.bytes-int64(e.size), 0)
		removed++
	}
	if removed+past == 0 {
		return
	}
	c.b.stats.inboxCut.Add(uint64(removed))
	c.cur.w.Put(tableUser, be8(u.id), u.record())
	if removed+past == len(head) {
		c.then(func() { c.sweepInbox(u) })
	}
}

// inboxOver reports whether a user's inbox is beyond its bounds.
func (c *core) inboxOver(u *user) bool {
	l := c.cfg.Limits
	return u.next-u.first > uint64(l.InboxEvents) || u.bytes > l.InboxBytes
}

// gap is the event that stands for those from seq to to, which are no more. A hole that no gap explains would be loss.
func (u *user) gap(seq, to uint64, why string) *mqtt.Message {
	return &mqtt.Message{Topic: inboxTopic(u.name), QoS: 1, Payload: fmt.Appendf(nil,
		`{"v":1,"seq":%d,"epoch":%q,"type":"gap","to":%d,"why":%q}`, seq, u.epoch, to, why)}
}
