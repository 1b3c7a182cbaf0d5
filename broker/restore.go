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
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(v) < 34 || v[0] != 'M' {
		return 0, errors.New("broker: malformed core record")
	}
	saved = int64(binary.BigEndian.Uint64(v[2:]))
	c.released = binary.BigEndian.Uint64(v[10:])
	c.cur.n = c.released + 1
	c.nextID = binary.BigEndian.Uint64(v[18:])
	c.stamp = binary.BigEndian.Uint64(v[26:])
	return saved, nil
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
	var bad error
	err = c.store.Scan(tableSession, nil, nil, func(key, v []byte) store.Next {
		s, err := decodeSession(binary.BigEndian.Uint64(key), v)
		if err != nil {
			bad = fmt.Errorf("broker: session record %x: %w", key, err)
			return store.Stop
		}
		byID = append(byID, s)
		c.sessions.put(s)
		c.restoreTimes(s)
		return store.Next{}
	})
	return byID, errors.Join(err, bad)
}

// restoreTimes lets the will and the expiry of a session that was connected run
// from now, those of another from when it went offline.
func (c *core) restoreTimes(s *session) {
	left := c.clock.now
	if s.expiry != mqtt.NeverExpires {
		if s.endsAt == 0 {
			s.wake().queue.doubt = uint16(c.cfg.Limits.Window)
			s.endsAt = left + int64(s.expiry)*1000
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

// decodeSession is the inverse of session.record.
func decodeSession(id uint64, v []byte) (*session, error) {
	if len(v) < 22 || v[0] != 'S' {
		return nil, errItem
	}
	s := &session{id: id, expiry: binary.BigEndian.Uint32(v[2:]), endsAt: int64(binary.BigEndian.Uint64(v[6:])), lasting: true, stored: true}
	if n := binary.BigEndian.Uint64(v[14:]); n > 0 {
		s.wake().dropped = n
	}
	var err error
	if s.key, v, err = decodeSessionKey(v); err != nil {
		return nil, err
	}
	if len(v) > 0 {
		s.wake().will, err = decodeWill(append([]byte(nil), v...), s.key)
	}
	return s, err
}

// decodeSessionKey reads the key out of a session's record, and returns what
// follows.
func decodeSessionKey(v []byte) (k sessionKey, rest []byte, err error) {
	if len(v) < 22 {
		return k, nil, errItem
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
		return "", nil, errItem
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
	err := c.store.Scan(tableSub, nil, nil, func(key, v []byte) store.Next {
		s := byID.find(binary.BigEndian.Uint64(key))
		o, ok := decodeSubOptions(v)
		if s == nil || !ok {
			return store.Next{}
		}
		f := string(key[8:])
		s.subs.set(f, o)
		if _, _, is, _ := mqtt.ParseShared(f); is {
			groups = append(groups, shared{s, f, o})
		} else {
			own := c.isInbox(s, f)
			if own {
				c.openInbox(s)
			}
			if !own || f != inboxTopic(s.key.user) {
				c.index.Fill(f, s, o)
			}
		}
		return store.Next{}
	})
	if err != nil {
		return err
	}
	ids, err := c.groupIDs()
	for _, g := range groups {
		c.restoreMember(g.s, g.f, g.o, ids)
	}
	return err
}

// groupIDs reads which log each lasting shared subscription has.
func (c *core) groupIDs() (map[string]uint64, error) {
	ids := make(map[string]uint64)
	err := c.store.Scan(tableGroup, nil, nil, func(key, v []byte) store.Next {
		if len(v) > 2 {
			ids[string(v[2:])] = binary.BigEndian.Uint64(key)
		}
		return store.Next{}
	})
	return ids, err
}

func (c *core) restoreMember(s *session, filter string, o subOptions, ids map[string]uint64) {
	_, rest, _, _ := mqtt.ParseShared(filter)
	g, ok := c.groups.Get(rest, filter)
	if !ok {
		id := ids[filter]
		g = &group{id: id, filter: filter, queue: queue{log: store.Log{Kind: logGroup, ID: id}}}
		c.groups.Set(rest, filter, g)
	}
	c.enlist(s, g, o)
}

func (c *core) restoreIn2(byID sessionList) error {
	return c.store.Scan(tableIn2, nil, nil, func(key, _ []byte) store.Next {
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
	malformed := 0
	err := c.store.Scan(tableRetained, nil, nil, func(key, v []byte) store.Next {
		r, err := retained.Decode(v)
		if err != nil {
			malformed++
			return store.Next{}
		}
		c.topics.Set(string(key), len(v))
		c.sweep.Expect(c.term().Ends(&r))
		return store.Next{}
	})
	if malformed > 0 {
		c.log.Error("retained messages could not be read and are left out", "messages", malformed)
	}
	return err
}

// restoreBodies counts anew which shared bodies are still referred to. Bodies
// and logs that nothing refers to are what an interrupted erasure left; they
// are erased once the core runs.
func (c *core) restoreBodies(byID sessionList) error {
	orphans := make(map[store.Log]bool)
	groups := byID.groups()
	for _, kind := range []byte{logQueue, logGroup} {
		err := c.store.Logs(kind, func(id uint64, at store.Pos, v []byte) bool {
			items, _ := decodeItems(v, func(n uint64) *mqtt.Message { c.bodies[n]++; return nil })
			var q *queue
			if g := groups[id]; kind == logGroup && g != nil {
				q = &g.queue
			} else if s := byID.find(id); kind == logQueue && s != nil {
				q = &s.wake().queue
			} else {
				orphans[store.Log{Kind: kind, ID: id}] = true
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
		if err != nil {
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
	return c.store.Scan(tableBody, nil, nil, func(key, _ []byte) store.Next {
		if n := binary.BigEndian.Uint64(key); c.bodies[n] == 0 {
			c.mail.post(command{kind: cmdCall, call: func() { c.cur.w.Delete(tableBody, be8(n)) }})
		}
		return store.Next{}
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
