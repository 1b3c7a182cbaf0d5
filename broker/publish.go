package broker

import (
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/retained"
)

// target is one recipient of the publish that is being applied.
type target struct {
	sess *session
	grp  *group
	item item
}

// sharedFrom is how many lasting recipients make a message worth storing once.
const sharedFrom = 5

// largeBody is the size from which two make it so.
const largeBody = 4 << 10

// publish applies a client's publish: QoS 2 retries are recognised, the rest is
// routed, and the acknowledgement follows what it obliges us to keep.
func (c *core) publish(s *session, cmd *command) bool {
	noSpace := c.b.noSpace.Load()
	keeps := (noSpace || c.full()) && (cmd.qos == 2 && s.lasting || c.keeps(cmd.msg, s))
	if keeps && !noSpace {
		return false // passing traffic does not wait for the disk
	}
	if cmd.qos > 0 && c.answered(s, cmd) {
		return true
	}
	kept, err := false, error(errNoSpace)
	if !keeps {
		kept, err = c.happen(s, cmd)
	}
	if err != nil {
		c.refuse(cmd.conn, kept, refused{cmd.msg.Topic, cmd.qos, cmd.id, err})
		return true
	}
	if kept {
		c.keep(cmd.conn)
	}
	c.release(cmd.conn, kept)
	c.published(cmd, kept)
	return true
}

// answered takes a publish of QoS 1 or 2 into the receive quota, and reports whether
// that is all there is to do: it is a QoS 2 retry, or one too many.
func (c *core) answered(s *session, cmd *command) bool {
	cn := cmd.conn
	if cn.version == mqtt.V5 && cn.unacked >= c.cfg.Limits.ReceiveMaximum {
		c.drop(cn, mqtt.ReceiveMaximumExceeded, "more unacknowledged publishes than Receive Maximum") // [MQTT-3.3.4-9]
		return true
	}
	cn.unacked++
	if cmd.qos < 2 {
		return false
	}
	if _, again := s.in2[cmd.id]; again {
		c.emit(cn, false, effect{conn: cn, ack: cmd.answer()})
		return true
	}
	if len(s.in2) >= most2 {
		c.drop(cn, mqtt.ReceiveMaximumExceeded, "more QoS 2 publishes that were never released than a session may have")
		return true
	}
	return false
}

// answer is the positive acknowledgement of a publish.
func (cmd *command) answer() mqtt.Ack {
	if cmd.qos == 2 {
		return mqtt.Ack{Type: mqtt.PUBREC, ID: cmd.id}
	}
	return mqtt.Ack{Type: mqtt.PUBACK, ID: cmd.id}
}

// happen lets a publish have its effects: those of the Appliers, the copies of its
// recipients, who are then in c.targets, and its QoS 2 identifier. It reports whether
// something was written, by an Applier also if it is refused.
func (c *core) happen(s *session, cmd *command) (kept bool, err error) {
	consumed := false
	if c.wanted(cmd.msg.Topic) {
		consumed, kept, err = c.applyHooks(cmd.hooked(cmd.conn), cmd.conn)
	}
	c.targets = c.targets[:0]
	if err == nil && !consumed {
		var stored bool
		stored, err = c.route(cmd.msg, s)
		kept = stored || kept
	}
	if err == nil && cmd.qos == 2 {
		kept = c.received2(s, cmd.id) || kept
	}
	return kept, err
}

// published tells the Observers and the publisher, once what was kept is on disk.
func (c *core) published(cmd *command, kept bool) {
	cn := cmd.conn
	if len(c.b.hooks.observers) > 0 {
		e := hooks.Event{Kind: hooks.Published, Identity: cn.identity, Message: cmd.msg, At: c.clock.now}
		c.emit(cn, kept, effect{do: func() { c.b.observe(e) }})
	}
	if cmd.qos > 0 {
		c.emit(cn, kept, effect{conn: cn, ack: cmd.answer()})
	}
}

// most2 is how many QoS 2 identifiers of a session may wait for their PUBREL: its
// client's Receive Maximum counts anew on each connection.
const most2 = 2048

// keeps reports whether a publish will have to write something.
func (c *core) keeps(m *mqtt.Message, from *session) bool {
	if c.retains(m) {
		return true
	}
	if c.wanted(m.Topic) {
		return true
	}
	c.match(m, from)
	for i := range c.targets {
		if c.targets[i].durable() {
			return true
		}
	}
	return false
}

// hooked is the publish as the hooks see it.
func (cmd *command) hooked(cn *conn) *hooks.Publish {
	if cmd.from != nil {
		return cmd.from
	}
	return &hooks.Publish{From: cn.identity, Message: cmd.msg}
}

// received2 notes a QoS 2 identifier, durably for a lasting session.
func (c *core) received2(s *session, id uint16) (kept bool) {
	if s.in2 == nil {
		s.in2 = make(map[uint16]struct{})
	}
	s.in2[id] = struct{}{}
	if s.lasting {
		c.cur.w.Put(tableIn2, packetKey(s.id, id), []byte{'I', 1})
	}
	return s.lasting
}

// route resolves the recipients of a message into c.targets and writes what
// has to be kept into the open batch; it reports whether anything was.
func (c *core) route(m *mqtt.Message, from *session) (kept bool, err error) {
	c.match(m, from)
	sessions, groups := c.durables()
	if err := c.tooMuch(m, sessions); err != nil {
		c.targets = c.targets[:0]
		return false, err
	}
	retains := c.retains(m)
	if retains {
		c.retain(m, from)
	}
	c.b.stats.routed(len(c.targets))
	kept = sessions+groups > 0 || retains
	if sessions >= fanFrom || sessions > 0 && c.fanning(m, from) {
		c.fanOut(m, from, sessions)
		sessions = 0
	}
	c.enqueueTargets(m, sessions+groups)
	return kept, nil
}

// durables counts the targets whose copies must survive a crash.
func (c *core) durables() (sessions, groups int) {
	for i := range c.targets {
		switch t := &c.targets[i]; {
		case !t.durable():
		case t.grp != nil:
			groups++
		default:
			sessions++
		}
	}
	return sessions, groups
}

// fanShare is the part of a commit's bytes that one fan-out's audience may be,
// counted as one recipient: its record takes less than a third of that.
const fanShare = 40

// tooMuch refuses a message that would break a bound.
func (c *core) tooMuch(m *mqtt.Message, sessions int) error {
	_, bytes := c.store.Limit()
	text := ""
	if m.Retain { // as a key; a hook may have made it
		text = c.cfg.Limits.outOfBounds(m.Topic)
	}
	switch {
	case text != "":
		return &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: text}
	case sessions > bytes/fanShare:
		return &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the topic has more lasting subscribers than one commit can name"}
	case sessions >= fanFrom && c.waiting > fanMost:
		return &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "earlier messages are still on their way to many subscribers", Later: true}
	case m.Retain && len(m.Payload) > 0 && c.b.crowded.Load() && !c.topics.Has(m.Topic):
		return errNoMemory
	case m.Retain && len(m.Payload) > 0 && c.topics.Len() >= c.cfg.Limits.Retained && !c.topics.Has(m.Topic):
		return &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the server keeps no more retained topics", Later: true}
	case m.Retain && len(m.Payload) > 0 && c.retainedOver(m):
		return &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the server has no room for more retained messages", Later: true}
	}
	return nil
}

// enqueueTargets writes the queue entries of the n targets that are durable.
func (c *core) enqueueTargets(m *mqtt.Message, n int) {
	var body uint64
	if n >= sharedFrom || n > 1 && len(m.Payload) > largeBody {
		body = c.storeBody(m, n)
	}
	for i := range c.targets {
		t := &c.targets[i]
		if !t.durable() {
			continue
		}
		if t.grp != nil {
			c.enqueue(&t.grp.queue, &t.item, body)
		} else {
			c.enqueue(&t.sess.wake().queue, &t.item, body)
		}
	}
}

// durable reports whether the target's copy must survive a crash.
func (t *target) durable() bool {
	if t.item.qos == 0 {
		return false
	}
	if t.grp != nil {
		return t.grp.lasting > 0
	}
	return t.sess.lasting
}

// match collects who gets m into c.targets: once a session, with the highest
// QoS of its matching subscriptions and all their identifiers [MQTT-3.3.4-2].
func (c *core) match(m *mqtt.Message, from *session) {
	clear(c.targets)
	c.targets = c.targets[:0]
	tree := c.inTree(m.Topic)
	c.index.Match(m.Topic, func(f string, s *session, o subOptions) {
		if s.gone || s == from && (o.noLocal || tree) {
			return // [MQTT-3.8.3-3]
		}
		if tree && !c.sees(s, f, m.Topic) {
			return
		}
		if at := int(s.matchAt); at >= len(c.targets) || c.targets[at].sess != s {
			s.matchAt = int32(len(c.targets))
			c.targets = append(c.targets, target{sess: s, item: item{msg: m}})
		}
		c.targets[s.matchAt].item.add(o, m)
	})
	c.groups.Match(m.Topic, func(f string, _ string, g *group) {
		if tree && !c.groupSees(g, f, m.Topic) {
			return
		}
		t := target{grp: g, item: item{msg: m, from: &g.queue}}
		t.item.qos = min(m.QoS, g.qos())
		c.targets = append(c.targets, t)
	})
}

// add merges a further subscription of the same session into the item.
func (it *item) add(o subOptions, m *mqtt.Message) {
	it.qos = max(it.qos, min(o.qos, m.QoS))
	it.retain = it.retain || o.asRetain && m.Retain
	if o.id != 0 {
		it.subIDs = append(it.subIDs, o.id)
	}
}

// release lets the deliveries of the routed message leave.
func (c *core) release(cn *conn, kept bool) {
	for i := range c.targets {
		t := &c.targets[i]
		switch {
		case t.grp != nil:
			g, it := t.grp, t.item
			c.emit(cn, kept, effect{do: func() { c.arriveGroup(g, &it) }})
		case t.sess.conn == nil && t.item.at == 0:
			// offline and not lasting, or QoS 0: nothing waits for it
		default:
			c.emit(cn, kept, effect{sess: t.sess, it: t.item})
		}
	}
}

// storeBody writes a message once for n queue entries and returns its number.
func (c *core) storeBody(m *mqtt.Message, n int) uint64 {
	c.nextID++
	c.cur.w.Put(tableBody, be8(c.nextID), m.Append(nil))
	c.bodies[c.nextID] = int32(n)
	return c.nextID
}

// retains reports whether a publish changes what is kept of its topic, or has to wait
// for an earlier one that does: clearing what is clear does neither.
func (c *core) retains(m *mqtt.Message) bool {
	return m.Retain && (len(m.Payload) > 0 || c.topics.Has(m.Topic) || c.changedSince(c.released, m.Topic))
}

// retain sets or clears what stays on the message's topic [MQTT-3.3.1-5, -6].
func (c *core) retain(m *mqtt.Message, from *session) {
	c.changes(m.Topic)
	if len(m.Payload) == 0 {
		c.cur.w.Delete(tableRetained, []byte(m.Topic))
		c.topics.Delete(m.Topic)
		return
	}
	r := c.record(m, from)
	rec := r.Append(nil)
	c.cur.w.Put(tableRetained, []byte(m.Topic), rec)
	c.topics.Set(m.Topic, len(rec))
	c.sweep.Expect(c.term().Ends(&r))
}

// record is what is stored of a retained message.
func (c *core) record(m *mqtt.Message, from *session) retained.Record {
	return retained.Record{Stamp: c.stamp, At: c.clock.now, Source: from.source(), Message: m}
}
