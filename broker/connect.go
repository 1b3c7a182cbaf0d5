package broker

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// connectRequest is a CONNECT that was authenticated and authorised.
type connectRequest struct {
	packet   *mqtt.Connect
	identity hooks.Identity
	assigned string // the client id that we gave, or ""
	rights   uint64 // what Broker.rights was when the hooks were asked
}

// connect opens a new epoch of a session: the connection that had it is taken
// over, the old state is resumed or discarded, and CONNACK follows the commit
// of what the old epoch still had in the core.
func (c *core) connect(cn *conn, r *connectRequest) bool {
	key := sessionKey{r.identity.User, r.identity.Client}
	if c.full() && (r.packet.SessionExpiry > 0 || r.packet.Will != nil || c.sessions.get(key) != nil) {
		return false
	}
	if r.rights != c.b.rights.Load() { // it was let in by what holds no longer
		c.refuseSession(cn, mqtt.ServerBusy, "rights were read anew; connect again")
		return true
	}
	if c.sessions.get(key) == nil {
		switch {
		case c.sessions.len() >= c.cfg.Limits.Sessions:
			c.refuseSession(cn, mqtt.QuotaExceeded, "the server has as many sessions as it may")
			return true
		case c.b.crowded.Load():
			c.refuseSession(cn, mqtt.ServerBusy, errNoMemory.Text)
			return true
		}
	}
	if err := c.mayResume(key, r.packet.CleanStart); err != nil {
		reason, text := refusal(err)
		c.refuseSession(cn, reason, text)
		return true
	}
	s, ended := c.closeEpoch(cn, key, r.packet.CleanStart)
	present := s != nil
	if s == nil {
		s = c.newSession(key)
	}
	c.begin(s, cn, r)
	if s.lasting || s.will != nil {
		c.putSession(s)
		c.keep(cn)
	} else if ended {
		c.keep(cn)
	}
	c.emit(cn, s.stored || ended, effect{do: func() {
		if !c.greet(cn, c.connack(s, r, present)) {
			c.drop(cn, mqtt.PacketTooLarge, "CONNACK does not fit into the client's Maximum Packet Size")
		}
		if s.conn != cn { // it is gone already
			return
		}
		s.live.Store(cn)
		c.b.observe(hooks.Event{Kind: hooks.Connected, Identity: r.identity, At: c.clock.now})
		c.pump(s)
	}})
	return true
}

// mayResume says why an offline session can't go on: it reads its user's inbox, its
// device was given up for others, and as many as may be are connected.
func (c *core) mayResume(key sessionKey, clean bool) error {
	s := c.sessions.get(key)
	if s == nil || s.conn != nil || clean || !s.lasting || s.active == nil || s.inbox == nil || s.endsAt != 0 && s.endsAt <= c.clock.now {
		return nil
	}
	return c.mayOpenInbox(s)
}

// refuseSession answers a CONNECT that the core can't give a session.
func (c *core) refuseSession(cn *conn, reason mqtt.Reason, text string) {
	c.b.stats.refusedConnects.Add(1)
	c.b.often.warn("a session was refused", "client", cn.identity.Client, "user", cn.identity.User, "reason", reason, "text", text)
	c.emit(cn, false, effect{do: func() {
		a := fitted(&mqtt.Connack{Reason: reason, ReasonString: text}, cn.version, cn.maxPacket)
		cn.write(func(dst []byte) []byte { return append(dst, a...) })
		cn.because(reason, text)
		cn.close()
	}})
}

// closeEpoch ends what the session's last connection left: its epoch if it is
// still there, and the session itself if it is over or not wanted. It returns what
// can be resumed, or nil, and whether something stored has ended.
func (c *core) closeEpoch(cn *conn, key sessionKey, clean bool) (s *session, ended bool) {
	s = c.sessions.get(key)
	if s == nil {
		return nil, false
	}
	ended = s.stored
	if old := s.conn; old != nil {
		c.takeOver(s)
		cn.pend.Store(old.pend.Load()) // what it has in the core is the client's, too
	} else {
		c.look(s) // its will or its end may be due
	}
	if !s.gone && (clean || !s.lasting) {
		c.end(s)
	}
	if s.gone { // it ended with the old connection [MQTT-3.1.4-3 note]
		return nil, ended
	}
	return s, false
}

// begin binds a session to its new connection.
func (c *core) begin(s *session, cn *conn, r *connectRequest) {
	p := r.packet
	s.wake()
	s.conn, cn.sess = cn, s
	c.online++
	c.sys.most = max(c.sys.most, c.online)
	s.endsAt = 0
	s.expiry = c.capExpiry(p.SessionExpiry)
	s.lasting = s.lasting || s.expiry > 0
	s.queue.loaded, s.queue.live, s.queue.reading = !s.lasting, !s.lasting, false
	s.queue.ended, s.queue.back = !s.lasting, !s.lasting
	s.queue.read, s.queue.liveAt, s.queue.open, s.queue.was = 0, 0, nil, nil
	s.will = newWill(p.Will, r.identity)
	if s.inbox != nil {
		c.reopenInbox(s)
	}
	c.resumeReplays(s)
	s.unbox()
	s.window = uint16(min(int(p.ReceiveMaximum), c.cfg.Limits.Window))
	c.watch(cn)
}

func (c *core) capExpiry(asked uint32) uint32 {
	limit := c.cfg.Limits.SessionExpiry.Seconds()
	if limit > 0 && limit < math.MaxUint32 && float64(asked) > limit {
		return uint32(limit)
	}
	return asked
}

// connack announces what this broker does and what is bounded [MQTT-3.2.2].
func (c *core) connack(s *session, r *connectRequest, present bool) *mqtt.Connack {
	l := c.cfg.Limits
	yes := true
	a := &mqtt.Connack{
		SessionPresent: present, ReceiveMaximum: uint16(l.ReceiveMaximum),
		MaximumPacketSize: uint32(l.Packet), TopicAliasMaximum: uint16(l.TopicAliases),
		AssignedClientID: r.assigned,
		RetainAvailable:  &yes, WildcardAvailable: &yes, SubIDAvailable: &yes, SharedAvailable: &yes,
	}
	if s.expiry != r.packet.SessionExpiry {
		a.SessionExpiry = &s.expiry
	}
	if l.overridesKeepAlive(r.packet) {
		a.ServerKeepAlive = &l.ServerKeepAlive
	}
	if r.packet.RequestResponseInfo && s.key.user != "" {
		a.ResponseInfo = "users/" + encodeName(s.key.user) + "/reply/"
	}
	if s.active != nil && s.dropped > 0 { // a cut is announced
		a.UserProps = append(a.UserProps, mqtt.UserProp{Key: "dropped", Value: strconv.FormatUint(s.dropped, 10)})
		s.dropped = 0
	}
	return a
}

func (c *core) newSession(key sessionKey) *session {
	c.nextID++
	s := &session{id: c.nextID, key: key}
	c.sessions.put(s)
	return s
}

// takeOver ends the epoch of the connection that has the session
// [MQTT-3.1.4-3].
func (c *core) takeOver(s *session) {
	old := s.conn
	c.lost(s, true, mqtt.SessionTakenOver)
	old.closeWith(mqtt.SessionTakenOver, "another connection has taken the session over")
}

// drop closes a client's connection with a reason; its session goes on as
// after any lost connection.
func (c *core) drop(cn *conn, r mqtt.Reason, text string) {
	cn.closeWith(r, text)
	if s := cn.sess; s != nil && s.conn == cn {
		c.lost(s, true, r)
	}
}

// gone applies the end of a connection. why is the *mqtt.Error that ended it, if the
// client is still to be told: after its CONNACK.
func (c *core) gone(s *session, why any) {
	cn := s.conn
	perr, _ := why.(*mqtt.Error)
	if perr == nil {
		c.lost(s, true, mqtt.UnspecifiedError)
		return
	}
	c.emit(cn, false, effect{do: func() {
		cn.closeWith(perr.Reason, perr.Text)
		if s.conn == cn {
			c.lost(s, true, mqtt.UnspecifiedError)
		}
	}})
}

// disconnect applies a client's DISCONNECT.
func (c *core) disconnect(s *session, d *mqtt.Disconnect) {
	cn := s.conn
	if d.SessionExpiry != nil {
		s.expiry = c.capExpiry(*d.SessionExpiry)
	}
	c.lost(s, d.Reason == mqtt.DisconnectWithWill, d.Reason)
	c.emit(cn, false, effect{do: cn.close}) // what it is owed leaves before
}

// lost ends a connection's epoch: the will goes its way, the window is saved,
// and the session waits for its client or ends.
func (c *core) lost(s *session, withWill bool, reason mqtt.Reason) {
	cn := s.conn
	s.conn = nil
	c.online--
	s.live.Store(nil)
	c.unwatch(cn)
	gone := hooks.Event{Kind: hooks.Disconnected, Identity: cn.identity, Reason: reason, At: c.clock.now}
	defer func() { c.emit(cn, s.lasting, effect{do: func() { c.b.observe(gone) }}) }()
	if !withWill {
		s.will = nil
	}
	if s.inbox != nil {
		c.seen(s)
	}
	if c.releasing && s.queue.liveAt == store.Pos(c.released) {
		s.queue.read = s.queue.liveAt - 1 // the rest of the entry has not arrived
	}
	c.returnClaims(s)
	if s.will != nil {
		c.scheduleWill(s)
	}
	if s.expiry == 0 {
		s.unbox()
		c.end(s)
		return
	}
	if s.expiry != mqtt.NeverExpires {
		s.endsAt = c.clock.now + int64(s.expiry)*1000
		c.lookLater(s)
	}
	c.putSession(s)
	if s.queue.loaded { // else what the connection before it saved still holds
		c.cur.w.Put(tableWindow, be8(s.id), s.encodeWindow())
	}
	c.pauseReplays(s)
	s.unbox()
	s.queue.open = nil
	s.queue.live, s.queue.loaded = false, false
	s.rest(c.released)
	c.keep(nil)
}

// lookLater sees to it that a timer looks at the session when its will or its end is
// due, and within an hour, for the age of its queue: one that comes and goes has few.
func (c *core) lookLater(s *session) {
	at := c.clock.now + 3_600_000 - int64(s.id%1_800_000) // a million restored together come by and by
	if s.endsAt != 0 {
		at = min(at, s.endsAt)
	}
	if w := s.waits(); w != nil && s.conn == nil {
		at = min(at, w.due)
	}
	if s.look != 0 && s.look <= at {
		return
	}
	s.look = at
	c.looks.add(at, s)
}

// look does what is due for a session: if it is connected, only for its queue.
func (c *core) look(s *session) {
	if s.gone {
		return
	}
	if s.unsaved { // else it would begin anew at each start
		c.putSession(s)
	}
	holds := s.active != nil && s.queue.messages > 0 && c.cfg.Limits.QueueKeep >= 0
	if holds {
		c.age(&s.queue)
	}
	if s.conn != nil {
		if holds {
			c.lookLater(s)
		}
		return
	}
	if w := s.waits(); w != nil && w.due <= c.clock.now {
		c.sendWill(s)
		s.rest(c.released)
	}
	switch {
	case s.endsAt != 0 && s.endsAt <= c.clock.now:
		c.end(s)
	case s.endsAt != 0 || s.waits() != nil || holds:
		c.lookLater(s)
	}
}

// end removes a session and everything that is stored of it. A will that was
// waiting for its delay is sent now [MQTT-3.1.2-8].
func (c *core) end(s *session) {
	if s.gone {
		return
	}
	s.gone = true
	s.wake()
	if s.will != nil {
		c.sendWill(s)
	}
	for _, o := range slices.Clone(s.subs) {
		c.dropFilter(s, o.filter)
	}
	c.leaveGroups(s)
	c.closeInbox(s)
	c.forgetAssigned(s)
	c.sessions.remove(s.key)
	if s.stored {
		c.cur.w.Delete(tableSession, be8(s.id))
		c.keep(nil)
	}
	if s.lasting {
		c.cur.w.Delete(tableWindow, be8(s.id))
		c.erase(s)
	}
}

// putSession writes the session's record.
func (c *core) putSession(s *session) {
	s.stored, s.unsaved = true, false
	c.cur.w.Put(tableSession, be8(s.id), s.record())
}

// record is kind, version, expiry, when it ends, what its queue lost, then
// user, client and will.
func (s *session) record() []byte {
	a := s.active
	if a == nil {
		a = &active{}
	}
	rec := binary.BigEndian.AppendUint32([]byte{'S', 1}, s.expiry)
	rec = binary.BigEndian.AppendUint64(rec, uint64(s.endsAt))
	rec = binary.BigEndian.AppendUint64(rec, a.dropped)
	rec = appendString(rec, s.key.user)
	rec = appendString(rec, s.key.client)
	return a.will.append(rec)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// assignedID is the client id of a client that sent none.
func assignedID(n uint64) string { return "gc-" + strconv.FormatUint(n, 36) }
