package broker

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/retained"
	"github.com/geocast/geocast/store"
)

// restore builds the core's state from the store. Every session that was
// connected counts as disconnected now: wills and expiries run from here.
func (c *core) restore(now time.Time) error {
	saved, err := c.restoreMeta()
	if err != nil {
		return err
	}
	ahead := saved - now.UnixMilli()
	if ahead > 24*3600*1000 && c.cfg.ResetClock {
		c.log.Warn("the clock is set back", "by", time.Duration(ahead)*time.Millisecond)
		saved, ahead = 0, 0
	}
	c.clock.start(saved, now)
	c.b.clockMs.Store(c.clock.now)
	if ahead > 24*3600*1000 {
		return fmt.Errorf("broker: the saved time is %v ahead of the clock; set the clock, or start with --reset-clock",
			time.Duration(ahead)*time.Millisecond)
	}
	began := time.Now()
	byID, err := c.restoreSessions()
	if err != nil {
		return err
	}
	steps := []func() error{
		c.restoreUsers,
		func() error { return c.restoreSubs(byID) },
		func() error { return c.restoreIn2(byID) },
		func() error { return c.restoreReplays(byID) },
		c.restoreRetained,
		c.restoreTrees,
		c.restoreHooks,
		func() error { return c.restoreFans(byID) },
		c.restoreAges,
		func() error { return c.restoreBodies(byID) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	c.startSys()
	queued := 0
	for _, s := range byID {
		if s.active != nil {
			queued += s.queue.messages
		}
	}
	for _, g := range byID.groups() {
		queued += g.queue.messages
	}
	c.log.Info("restored", "sessions", c.sessions.len(), "queued_messages", queued, "subscriptions", c.index.Len(),
		"shared_subscriptions", c.groups.Len(), "retained", c.topics.Len(), "inboxes", len(c.users), "fan_outs", len(c.fans),
		"took", time.Since(began).Round(time.Millisecond))
	return nil
}

func (c *core) restoreMeta() (saved int64, err error) {
	v, err := c.store.Get(tableMeta, []byte("core"))
	if errors.Is(err, store.ErrNotFound) {
		return 0, c.wantEmpty()
	}
	if err != nil {
		return 0, err
	}
	if err := checkRecord(v, 'M', 34); errors.Is(err, mqtt.ErrNewer) {
		return 0, newer("core", tableMeta, []byte("core"))
	} else if err != nil {
		return 0, errCore
	}
	saved = int64(binary.BigEndian.Uint64(v[2:]))
	c.released = binary.BigEndian.Uint64(v[10:])
	c.cur.n = c.released + 1
	c.nextID = binary.BigEndian.Uint64(v[18:])
	c.stamp = binary.BigEndian.Uint64(v[26:])
	return saved, nil
}

// errCore refuses a store in which numbers would be given a second time.
var errCore = errors.New(`broker: the core's own record (table 0x26, key "core"), which says the time and which numbers are taken, is missing or damaged: restore a backup, or move the data folder away to begin with nothing`)

// wantEmpty is for a store without the core's own record.
func (c *core) wantEmpty() error {
	for t := tableSession; t <= tableAge; t++ {
		some := false
		if err := c.store.Scan(t, nil, nil, func(_, _ []byte) store.Next { some = true; return store.Stop }); err != nil {
			return err
		}
		if some {
			return errCore
		}
	}
	return nil
}

// sessionList is all sessions by rising id, while they are restored.
type sessionList []*session

// find returns the session of that id, or nil.
func (l sessionList) find(id uint64) *session {
	i, ok := slices.BinarySearchFunc(l, id, func(s *session, id uint64) int { return cmp.Compare(s.id, id) })
	if !ok {
		return nil
	}
	return l[i]
}

func (c *core) restoreSessions() (byID sessionList, err error) {
	err = c.scan("session", tableSession, 8, func(key, v []byte) error {
		id := binary.BigEndian.Uint64(key)
		s, will, err := decodeSession(id, v)
		if err == nil && c.sessions.get(s.key) != nil {
			err = errRecord
		}
		if err != nil {
			c.eraseOrphan(id) // its client is told by Session Present 0
			return err
		}
		if len(will) > 0 {
			w, err := decodeWill(append([]byte(nil), will...), s.key)
			if errors.Is(err, mqtt.ErrNewer) {
				return err
			}
			if err != nil {
				c.damaged("will", key, v, err)
				w = nil
			}
			s.wake().will = w
		}
		byID = append(byID, s)
		c.sessions.put(s)
		c.restoreTimes(s)
		return nil
	})
	return byID, err
}

// restoreTimes lets the will and the expiry of a session that was connected run
// from now, those of another from when it went offline.
func (c *core) restoreTimes(s *session) {
	left := c.clock.now
	if s.expiry != mqtt.NeverExpires {
		if s.endsAt == 0 {
			s.wake().queue.doubt = uint16(c.cfg.Limits.Window)
			s.endsAt, s.unsaved = left+int64(s.expiry)*1000, true
		}
		left = s.endsAt - int64(s.expiry)*1000
	}
	if w := s.waits(); w != nil {
		w.due = left + int64(min(w.delay, s.expiry))*1000
	}
	if s.endsAt != 0 || s.waits() != nil {
		c.lookLater(s)
	}
}

// decodeSession is the inverse of session.record, but for the will.
func decodeSession(id uint64, v []byte) (s *session, will []byte, err error) {
	if err := checkRecord(v, 'S', 22); err != nil {
		return nil, nil, err
	}
	s = &session{id: id, expiry: binary.BigEndian.Uint32(v[2:]), endsAt: int64(binary.BigEndian.Uint64(v[6:])), lasting: true, stored: true}
	if n := binary.BigEndian.Uint64(v[14:]); n > 0 {
		s.wake().dropped = n
	}
	s.key, will, err = decodeSessionKey(v)
	return s, will, err
}

// decodeSessionKey reads the key out of a session's record, and returns what
// follows.
func decodeSessionKey(v []byte) (k sessionKey, rest []byte, err error) {
	if len(v) < 22 {
		return k, nil, errRecord
	}
	if k.user, rest, err = cutString(v[22:]); err != nil {
		return k, nil, err
	}
	k.client, rest, err = cutString(rest)
	if k.client == k.user {
		k.client = k.user // in open mode: one string is enough
	}
	return k, rest, err
}

func cutString(v []byte) (string, []byte, error) {
	n, k := binary.Uvarint(v)
	if k <= 0 || n > uint64(len(v)-k) {
		return "", nil, errRecord
	}
	return string(v[k : k+int(n)]), v[k+int(n):], nil
}

func (c *core) restoreSubs(byID sessionList) error {
	type shared struct {
		s *session
		f string
		o subOptions
	}
	var groups []shared
	lost := uint64(0) // the last session that is no more
	err := c.scan("subscription", tableSub, 9, func(key, v []byte) error {
		id := binary.BigEndian.Uint64(key)
		s := byID.find(id)
		if s == nil {
			if id != lost {
				c.eraseOrphan(id)
			}
			lost = id
			return nil
		}
		f := string(key[8:])
		o, err := decodeSubOptions(v)
		if errors.Is(err, mqtt.ErrNewer) {
			return err
		}
		if err != nil { // what it asks for is in its key: it goes on as it can be served at least once
			c.damaged("subscription", key, v, err)
			o = subOptions{qos: 1}
			c.cur.w.Put(tableSub, append([]byte(nil), key...), o.append(nil))
		}
		s.subs.set(f, o)
		if _, _, is, _ := mqtt.ParseShared(f); is {
			groups = append(groups, shared{s, f, o})
		} else {
			own := c.isInbox(s, f)
			if own && s.wake().inbox != nil {
				s.tuneInbox()
			} else if own {
				c.feed(s, c.person(s.key.user))
			}
			if !own || f != inboxTopic(s.key.user) {
				c.index.Fill(f, s, o)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	ids, err := c.groupIDs()
	for _, g := range groups {
		c.restoreMember(g.s, g.f, g.o, ids)
	}
	for f, id := range ids {
		_, rest, _, _ := mqtt.ParseShared(f)
		if g, ok := c.groups.Get(rest, f); !ok || g.id != id {
			c.cur.w.Delete(tableGroup, be8(id)) // nobody is a member
		}
	}
	return err
}

// groupIDs reads which log each lasting shared subscription has.
func (c *core) groupIDs() (map[string]uint64, error) {
	ids := make(map[string]uint64)
	err := c.scan("shared subscription", tableGroup, 8, func(key, v []byte) error {
		if err := checkRecord(v, 'G', 3); err != nil {
			return err
		}
		f := string(v[2:])
		if _, _, is, err := mqtt.ParseShared(f); !is || err != nil {
			return errRecord
		}
		ids[f] = binary.BigEndian.Uint64(key)
		return nil
	})
	return ids, err
}

func (c *core) restoreMember(s *session, filter string, o subOptions, ids map[string]uint64) {
	_, rest, _, _ := mqtt.ParseShared(filter)
	g, ok := c.groups.Get(rest, filter)
	if !ok {
		id, known := ids[filter]
		if !known { // its queue can't be found any more: it begins a new one
			c.nextID++
			id = c.nextID
			c.damaged("shared subscription", []byte(filter), nil, errMissing)
			c.cur.w.Put(tableGroup, be8(id), append([]byte{'G', 1}, filter...))
		}
		g = &group{id: id, filter: filter, queue: queue{log: store.Log{Kind: logGroup, ID: id}}}
		c.groups.Set(rest, filter, g)
	}
	c.enlist(s, g, o)
}

func (c *core) restoreIn2(byID sessionList) error {
	return c.store.Scan(tableIn2, nil, nil, func(key, v []byte) store.Next {
		if len(key) != 10 {
			c.discard("QoS 2 identifier", tableIn2, key, v, errRecord)
			return store.Next{}
		}
		id := binary.BigEndian.Uint64(key)
		s := byID.find(id)
		if s == nil { // left by an interrupted erasure
			c.mail.post(command{kind: cmdCall, call: func() { c.eraseTable(tableIn2, id) }})
			return store.SkipTo(be8(id + 1))
		}
		if s.wake().in2 == nil {
			s.in2 = make(map[uint16]struct{})
		}
		s.in2[binary.BigEndian.Uint16(key[8:])] = struct{}{}
		return store.Next{}
	})
}

func (c *core) restoreRetained() error {
	return c.scan("retained message", tableRetained, 1, func(key, v []byte) error {
		r, err := retained.Decode(v)
		if err == nil {
			c.topics.Set(string(key), len(v))
			c.sweep.Expect(c.term().Ends(&r))
		}
		return err
	})
}

// restoreBodies counts anew which shared bodies are still referred to. Bodies
// and logs that nothing refers to are what an interrupted erasure left; they
// are erased once the core runs.
func (c *core) restoreBodies(byID sessionList) error {
	orphans := make(map[store.Log]bool)
	groups := byID.groups()
	var bad error
	var bodies []uint64
	for _, kind := range []byte{logQueue, logGroup} {
		err := c.store.Logs(kind, func(id uint64, at store.Pos, v []byte) bool {
			bodies = bodies[:0]
			items, err := decodeItems(v, func(n uint64) *mqtt.Message { bodies = append(bodies, n); return nil })
			if errors.Is(err, mqtt.ErrNewer) {
				bad = fmt.Errorf("broker: entry %d of log %c %d was written by a newer version of geocast: start that one, or restore a backup that this one made", at, kind, id)
				return false
			}
			var q *queue
			if g := groups[id]; kind == logGroup && g != nil {
				q = &g.queue
			} else if s := byID.find(id); kind == logQueue && s != nil {
				q = &s.wake().queue
			} else {
				orphans[store.Log{Kind: kind, ID: id}] = true
			}
			if err != nil {
				c.damaged("queue", logKey(kind, id, at), v, err)
				if q != nil { // else it is being erased
					c.cur.w.Remove(q.log, at)
					c.loseDamaged(q)
				}
				return true
			}
			for _, n := range bodies {
				c.bodies[n]++
			}
			if q == nil {
				return true
			}
			if q.messages == 0 && len(items) > 0 {
				q.oldest = at
				c.ageLater(q)
			}
			for i := range items {
				q.messages++
				q.bytes += items[i].size()
			}
			return true
		})
		if err := errors.Join(err, bad); err != nil {
			return err
		}
	}
	for _, s := range byID {
		s.rest(c.released) // its queue is empty: nothing of it is in doubt
	}
	for l := range orphans {
		c.mail.post(command{kind: cmdCall, call: func() { c.eraseLog(l) }})
	}
	return c.orphanBodies()
}

func (c *core) orphanBodies() error {
	return c.scan("message", tableBody, 8, func(key, v []byte) error {
		n := binary.BigEndian.Uint64(key)
		if c.bodies[n] == 0 {
			c.mail.post(command{kind: cmdCall, call: func() { c.cur.w.Delete(tableBody, be8(n)) }})
			return nil
		}
		_, _, err := mqtt.DecodeMessage(v) // what refers to it finds that it is lost
		return err
	})
}

// groups are the shared subscriptions of all sessions, by id.
func (l sessionList) groups() map[uint64]*group {
	groups := make(map[uint64]*group)
	for _, s := range l {
		if s.active == nil {
			continue
		}
		for g := range s.groups {
			groups[g.id] = g
		}
	}
	return groups
}
