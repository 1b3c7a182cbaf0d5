package broker

import (
	"encoding/binary"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// ack applies a PUBACK, PUBREC, PUBREL or PUBCOMP from a client.
func (c *core) ack(s *session, a mqtt.Ack) bool {
	if c.full() && s.writes() {
		return false
	}
	switch a.Type {
	case mqtt.PUBACK:
		if s.out != nil {
			if f, ok := s.out.window.Puback(a.ID); ok {
				c.settled(f)
			}
		}
	case mqtt.PUBREC:
		c.pubrec(s, a)
	case mqtt.PUBREL:
		c.pubrel(s, a.ID)
	case mqtt.PUBCOMP:
		c.pubcomp(s, a.ID)
	}
	c.pump(s)
	return true
}

// settle is settled for an item that needs no acknowledgement, or gets none.
func (c *core) settle(it *item) {
	if it.replay != nil {
		it.replay.acked(it.at)
		return
	}
	c.settled(it.flight())
}

// settled deletes what an acknowledged message leaves behind. It starts no
// sync: the delete rides on the next batch.
func (c *core) settled(f flight) {
	q := f.from
	if f.it != nil {
		c.backlog.count(f.it, -1)
	}
	if f.replay != nil {
		f.replay.acked(f.at)
		return
	}
	if q == nil || f.at == 0 || q.gone {
		return
	}
	if q.reader != nil {
		c.passed(q.reader, uint64(f.at))
		return
	}
	q.messages = max(q.messages-1, 0)
	q.bytes = max(q.bytes-int(f.size), 0)
	if o := q.open[f.at]; f.qos == 2 && o != nil && o.left > 1 {
		// The entry stays for its other messages: after a crash this one must
		// not be sent again.
		o.done = append(o.done, f.idx)
		c.cur.w.Put(tableDone, doneKey(q.log.ID, place{f.at, f.idx}), []byte{'D', 1})
	}
	if gone := q.acked(f.at); gone != nil {
		c.removeEntry(q, f.at, gone)
	}
}

func doneKey(log uint64, p place) []byte {
	k := append(be8(log), be8(uint64(p.at))...)
	return binary.BigEndian.AppendUint16(k, p.idx)
}

// removeEntry deletes an entry that nobody needs, and what it refers to.
func (c *core) removeEntry(q *queue, at store.Pos, o *opened) {
	c.cur.w.Remove(q.log, at)
	for _, n := range o.bodies {
		c.unref(n)
	}
	for _, idx := range o.done {
		c.cur.w.Delete(tableDone, doneKey(q.log.ID, place{at, idx}))
	}
}

// pubrec commits that the receiver has the message before PUBREL says so: its
// identifier then survives a restart.
func (c *core) pubrec(s *session, a mqtt.Ack) {
	rel := mqtt.Ack{Type: mqtt.PUBREL, ID: a.ID}
	var f flight
	var first, ok bool
	if s.out != nil {
		f, first, ok = s.out.window.Pubrec(a.ID)
	}
	if !ok {
		if s.conn.version == mqtt.V5 {
			rel.Reason = mqtt.PacketIdentifierNotFound
		}
		c.emit(s.conn, false, effect{conn: s.conn, ack: rel})
		return
	}
	if a.Reason >= 0x80 { // the receiver refuses it: that ends it [MQTT-4.3.3-4]
		s.out.window.Pubcomp(a.ID)
		c.forget2(s, a.ID)
		c.settled(f)
		return
	}
	if first {
		c.settled(f)
	}
	if s.lasting && first {
		c.cur.w.Put(tableOut2, packetKey(s.id, a.ID), []byte{'O', 1, out2Released})
		c.keep(s.conn)
	}
	c.emit(s.conn, s.lasting && first, effect{conn: s.conn, ack: rel})
}

func (c *core) pubcomp(s *session, id uint16) {
	if s.out == nil {
		return
	}
	if _, ok := s.out.window.Pubcomp(id); ok {
		c.forget2(s, id)
	}
}

// forget2 deletes the record of an outbound QoS 2 exchange, lazily.
func (c *core) forget2(s *session, id uint16) {
	if s.lasting {
		c.cur.w.Delete(tableOut2, packetKey(s.id, id))
	}
}

// pubrel ends an inbound QoS 2 exchange: the identifier is removed before
// PUBCOMP leaves, so that a later use of it is a new message.
func (c *core) pubrel(s *session, id uint16) {
	comp := mqtt.Ack{Type: mqtt.PUBCOMP, ID: id}
	_, known := s.in2[id]
	if !known {
		if s.conn.version == mqtt.V5 {
			comp.Reason = mqtt.PacketIdentifierNotFound
		}
		s.conn.unacked++ // sendAck gives back what was never taken
		c.emit(s.conn, false, effect{conn: s.conn, ack: comp})
		return
	}
	delete(s.in2, id)
	if s.lasting {
		c.cur.w.Delete(tableIn2, packetKey(s.id, id))
		c.keep(s.conn)
	}
	c.emit(s.conn, s.lasting, effect{conn: s.conn, ack: comp})
}
