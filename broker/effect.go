package broker

import "github.com/geocast/geocast/mqtt"

// effect is what leaves the core because of a command: an acknowledgement, a
// delivery, or a step that has to wait for its place (do).
type effect struct {
	conn *conn // the connection an acknowledgement goes to
	ack  mqtt.Ack
	sess *session // the session that a delivery goes to
	it   item
	do   func()
}

// emit lets an effect leave: with the open batch if its command is kept, after
// the sender's earlier effects if it has some that wait, else at once.
func (c *core) emit(from *conn, kept bool, e effect) {
	switch {
	case kept:
		c.cur.effects = append(c.cur.effects, e)
	case from != nil && from.pend.Load() > c.released:
		b := c.batchOf(from.pend.Load())
		b.effects = append(b.effects, e)
	default:
		c.run(&e)
	}
}

// run performs an effect.
func (c *core) run(e *effect) {
	switch {
	case e.do != nil:
		e.do()
	case e.sess != nil:
		c.arrive(e.sess, &e.it)
	case e.conn != nil:
		c.sendAck(e.conn, e.ack)
	}
}

// sendAck writes an acknowledgement, and gives back the receive quota that it
// ends.
func (c *core) sendAck(cn *conn, a mqtt.Ack) {
	if a.Type == mqtt.PUBACK || a.Type == mqtt.PUBCOMP || a.Type == mqtt.PUBREC && a.Reason >= 0x80 {
		cn.unacked = max(cn.unacked-1, 0) // PUBREL may be of an earlier connection
	}
	if cn.mute || !cn.takes(len(a.ReasonString)) {
		a.ReasonString = ""
	}
	c.write(cn, func(dst []byte) []byte { return mqtt.AppendAck(dst, a, cn.version) })
}
