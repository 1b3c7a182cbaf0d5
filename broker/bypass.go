package broker

import "github.com/geocast/geocast/mqtt"

// bypassMost is how many subscribers the bypass serves; a larger fan-out is
// cheaper in the core.
const bypassMost = 32

// bypass writes a QoS 0 message that changes nothing straight to its
// subscribers, on the publisher's goroutine, unless the connection has
// something in the core that it must not overtake. It reports false, and has
// done nothing, if the core has to route the message.
func (c *conn) bypass(m *mqtt.Message) bool {
	if len(c.out) > 0 || c.waits() || c.b.core.inTree(m.Topic) || c.b.core.wanted(m.Topic) {
		return false
	}
	var to [bypassMost]straight
	n, ok := c.straights(m.Topic, &to)
	if !ok {
		return false
	}
	for _, t := range to[:n] {
		if full, _ := t.conn.full(len(m.Payload)); full {
			c.b.stats.dropped0.Add(1)
			continue
		}
		d := mqtt.Delivery{Now: c.b.now()}
		if t.id != 0 {
			d.SubIDs = []uint32{t.id}
		}
		fits, start := t.conn.deliver(m, d)
		if start {
			c.straight = append(c.straight, t.conn)
		}
		if fits {
			c.b.stats.delivered.Add(1)
		}
	}
	c.b.stats.routed(n)
	return true
}

// waits reports whether the connection has a command in the core whose effects have
// not left. A command has noted its batch before it is counted as applied.
func (c *conn) waits() bool { return c.inCore.Load() > 0 || c.pend.Load() > c.b.core.left.Load() }

// flushStraight writes what bypass gave to others, once for all of a buffer. The
// reader does it itself, where the socket takes it at once: nobody has to be woken.
// It must come before anything that may wait.
func (c *conn) flushStraight() {
	if len(c.straight) == 0 {
		return
	}
	for _, cn := range c.straight {
		if cn.tcp != nil {
			cn.drain()
		} else {
			c.b.flush(cn)
		}
	}
	clear(c.straight)
	c.straight = c.straight[:0]
}

// straight is one subscriber of a bypassing message.
type straight struct {
	conn *conn
	id   uint32
}

// straights collects the online subscribers of topic; ok is false if they are
// many, shared or overlapping.
func (c *conn) straights(topic string, to *[bypassMost]straight) (n int, ok bool) {
	k, ok := c.b.core, true
	k.groups.Match(topic, func(string, string, *group) { ok = false })
	k.index.Match(topic, func(_ string, s *session, o subOptions) {
		cn := s.live.Load()
		if !ok || cn == nil || o.noLocal && cn == c {
			return
		}
		for _, had := range to[:n] {
			ok = ok && had.conn != cn
		}
		if n == len(to) {
			ok = false
		}
		if ok {
			to[n] = straight{cn, o.id}
			n++
		}
	})
	return n, ok
}
