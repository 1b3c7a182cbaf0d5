package broker

import (
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// The states of an outbound QoS 2 exchange as stored.
const (
	out2Sent     = 1
	out2Released = 2
)

const (
	// outCap is how much output may wait for a connection before it is fed
	// from its queue only, in bytes.
	outCap = 64 << 10
	// pageItems and pageBytes bound what is read ahead for one session.
	pageItems = 128
	pageBytes = 64 << 10
)

// arrive gives a released item to a session: to its connection if it is live
// there, else it stays in its log.
func (c *core) arrive(s *session, it *item) {
	if q := it.from; q != nil && it.at != 0 {
		q.done = max(q.done, it.at)
		if it.at <= q.read && it.at != q.liveAt {
			return // a page has brought it already
		}
		if it.at != q.liveAt && !c.room(s, q) {
			q.live = false
			c.pump(s)
			return
		}
		if c.takenBy(s, q, it); q.liveAt != it.at {
			q.liveAt = it.at
		}
	}
	if !s.ready() {
		return
	}
	if it.qos == 0 && it.from == nil {
		c.sendQoS0(s, it)
		return
	}
	c.push(s, it) // an event of an inbox is never dropped
}

// takenBy notes that an entry is in the session's memory: with its first message
// all of them.
func (c *core) takenBy(s *session, q *queue, it *item) {
	switch {
	case q.reader != nil:
		q.read = max(q.read, it.at)
		s.inbox.open = append(s.inbox.open, uint64(it.at))
	case it.at != q.liveAt:
		q.taken(it.at, it.entry.items, it.entry.bodies...)
	}
}

// room reports whether a live queue may hand a further entry to memory.
func (c *core) room(s *session, q *queue) bool {
	if !q.live || !s.ready() || !s.queue.back {
		return false
	}
	if c.backlog.full() {
		return false
	}
	return s.out == nil || len(s.out.pend) < pageItems && s.out.bytes < pageBytes && s.out.hold() <= c.backlog.part(c.online)
}

// push queues an item behind those that wait and sends what may be sent. A
// session that is not lasting is closed when too much waits in memory.
func (c *core) push(s *session, it *item) {
	o := s.box()
	if len(o.pend) == 0 && c.mayPublish(s, it.size()) {
		c.send(s, it)
		return
	}
	o.add(it)
	l := c.cfg.Limits
	if it.isLoose() && (o.loose > l.PendingMessages || o.looseBytes > l.PendingBytes || o.hold() > c.backlog.part(c.online)) {
		c.b.stats.overflow.Add(1)
		c.drop(s.conn, mqtt.QuotaExceeded, "too much waits for this client")
	}
}

// mayPublish reports whether the window and the output have room for so many bytes. Before
// what the last connection had in its window is back, no identifier may be given to
// anything else.
func (c *core) mayPublish(s *session, size int) bool { return s.queue.back && c.mayResend(s, size) }

// mayResend is mayPublish for what has its identifier.
func (c *core) mayResend(s *session, size int) bool {
	return s.box().window.Free() > 0 && c.roomy(s, size)
}

// roomy reports whether the session's connection takes so many bytes more of output. If
// only the room for all is used up, the session stands in line.
func (c *core) roomy(s *session, size int) bool {
	ok, idle := s.conn.roomy(size)
	if idle {
		c.queueUp(s)
	}
	return ok
}

// pump sends what waits while the window has room, then reads on.
func (c *core) pump(s *session) {
	if !s.ready() {
		return
	}
	if o := s.out; o != nil {
		n := 0
		for n < len(o.pend) && (c.mayPublish(s, o.pend[n].size()) || o.pend[n].id != 0 && c.mayResend(s, o.pend[n].size())) {
			it := o.pend[n]
			o.count(&it, -1)
			o.pend[n] = item{}
			n++
			c.send(s, &it)
		}
		if n == len(o.pend) {
			o.pend = nil
		} else {
			o.pend = o.pend[n:]
		}
		if s.queue.back && len(o.pend)-o.loose >= pageItems/2 {
			return // else what was not sent may stand before what was
		}
	}
	c.readOn(s)
	if !s.queue.back {
		return // an inbox's events would wait before what has to come first
	}
	c.readInbox(s)
	c.replayOn(s)
	for g := range s.groups {
		c.pumpGroup(g)
	}
	s.idle()
}

// send gives an item an identifier and writes it. The identifier of a QoS 2
// message to a lasting session is committed first, since it must survive.
func (c *core) send(s *session, it *item) {
	if s.inbox != nil && it.from == &s.inbox.queue && it.msg.Expires != 0 && it.msg.Expires <= c.clock.now {
		it.msg = s.inbox.user.gap(uint64(it.at), uint64(it.at), "expired")
		c.b.stats.expired.Add(1)
	}
	if it.msg.Expires != 0 && it.msg.Expires <= c.clock.now {
		c.settle(it)
		c.b.stats.expired.Add(1)
		return
	}
	if c.outlived(it) {
		c.dropOutlived(it)
		return
	}
	if it.qos == 0 {
		c.writeQoS0(s, it)
		c.settle(it)
		return
	}
	f := it.flight()
	if it.from != nil && it.from != &s.queue && it.from.reader == nil { // a claim: it may go back
		kept := *it
		f.it = &kept
	}
	id, ok := it.id, it.id != 0 && s.out.window.AddWithID(it.id, it.qos, false, f)
	if !ok {
		id, ok = s.out.window.Add(it.qos, f)
	}
	if !ok {
		return
	}
	if s.out.moved = c.clock.now; f.it != nil {
		c.backlog.count(f.it, 1)
	}
	if it.qos == 2 && s.lasting && id != it.id {
		c.send2(s, id, *it)
		return
	}
	c.transmit(s.conn, it, id)
}

func (c *core) send2(s *session, id uint16, it item) {
	rec := []byte{'O', 1, out2Sent}
	rec = append(append(rec, be8(uint64(it.at))...), byte(it.idx>>8), byte(it.idx))
	c.cur.w.Put(tableOut2, packetKey(s.id, id), rec)
	cn := s.conn
	c.keep(nil)
	c.cur.effects = append(c.cur.effects, effect{do: func() {
		if s.conn == cn {
			c.transmit(cn, &it, id)
		}
	}})
}

// transmit writes a PUBLISH. One that is larger than the client takes counts
// as delivered [MQTT-3.1.2-25]; of an inbox a gap says so.
func (c *core) transmit(cn *conn, it *item, id uint16) {
	d := mqtt.Delivery{ID: id, QoS: it.qos, Dup: it.dup, Retain: it.retain, SubIDs: it.subIDs, Now: c.clock.now}
	fits, start := cn.deliver(it.msg, d)
	s := cn.sess
	if !fits {
		c.b.stats.tooLarge.Add(1)
		if s != nil && s.inbox != nil && it.from == &s.inbox.queue {
			var first bool
			fits, first = cn.deliver(s.inbox.user.gap(uint64(it.at), uint64(it.at), "size"), d)
			start = start || first
		}
	}
	if start {
		c.soon(cn)
	}
	if fits {
		c.b.stats.delivered.Add(1)
		return
	}
	if s != nil && id != 0 {
		c.ackSelf(s, it, id)
	}
}

// ackSelf settles a message that can't be sent to this client.
func (c *core) ackSelf(s *session, it *item, id uint16) {
	if it.qos == 2 {
		s.out.window.Pubrec(id)
		if f, ok := s.out.window.Pubcomp(id); ok {
			c.forget2(s, id)
			c.settled(f)
		}
		return
	}
	if f, ok := s.out.window.Puback(id); ok {
		c.settled(f)
	}
}

// sendQoS0 writes a QoS 0 message. It waits behind others if it is not this reader
// that is slow, but others' output that takes the room.
func (c *core) sendQoS0(s *session, it *item) {
	_, idle := s.conn.full(it.size())
	if !idle && !s.waiting {
		c.writeQoS0(s, it)
		return
	}
	l, o := c.cfg.Limits, s.box()
	if o.loose >= l.PendingMessages || o.looseBytes >= l.PendingBytes || o.hold() > c.backlog.part(c.online) {
		c.b.stats.dropped0.Add(1)
		return
	}
	o.add(it)
	c.queueUp(s)
}

// writeQoS0 writes a QoS 0 message, or drops and counts it if the reader is slow.
func (c *core) writeQoS0(s *session, it *item) {
	if full, _ := s.conn.full(it.size()); full {
		c.b.stats.dropped0.Add(1)
		return
	}
	c.transmit(s.conn, it, 0)
}

// readOn asks for the next page of the session's queue if there is more on
// disk than was read, and makes the queue live when there is not.
func (c *core) readOn(s *session) {
	q := &s.queue
	if q.reading || q.live {
		return
	}
	if q.read >= q.done && q.ended {
		q.live = true
		return
	}
	bytes, held, ok := c.lot(q, s.out)
	if !ok {
		c.queueUp(s)
		return
	}
	q.reading = true
	first, after, cn, done, was, released := !q.loaded, q.read, s.conn, q.done, q.was, c.released
	c.b.work(func() {
		p := c.readPage(q.log, s.id, after, first, was, bytes)
		p.released, p.held = released, held
		c.mail.post(command{kind: cmdCall, call: func() { c.page(s, cn, p, done) }})
	})
}

// page is what a worker read of a queue.
type page struct {
	items []loaded
	last  store.Pos
	end   bool
	was   *windowRecord
	err   error
	// damaged are the entries that could not be read; doubt means that what was in the
	// window could not, so that anything may have been sent.
	damaged []store.Pos
	doubt   bool
	// released is the last batch that was committed when the page was asked for.
	released uint64
	// held is what the backlog counts for it until it is there.
	held int64
}

// again asks for a page again, once the entries that were cut meanwhile are gone.
func (c *core) again(q *queue, pump func()) {
	if q.cutIn <= c.released {
		pump()
		return
	}
	b := c.batchOf(q.cutIn)
	b.kept = b.kept || b == c.cur
	b.effects = append(b.effects, effect{do: pump})
}

// loaded is an item as read, with what the last connection knew of it.
type loaded struct {
	item
	id       uint16 // the identifier it was sent under, 0 if it was not
	released bool   // QoS 2: PUBREC was received; only PUBREL is left
	skip     bool   // acknowledged before, in an entry that was not
	done     bool   // so noted in tableDone
}

// page takes a page into memory: first what was in the window, with its
// identifiers and DUP, then the rest. done is what was committed when the page
// was asked for: at its end nothing up to there is left on disk.
func (c *core) page(s *session, cn *conn, p page, done store.Pos) {
	c.backlog.bytes -= p.held
	if s.conn != cn || s.gone {
		return // of an older epoch; this one reads for itself
	}
	q := &s.queue
	q.reading = false
	if p.err != nil {
		c.log.Error("queue could not be read", "client", s.key.client, "err", p.err)
		c.drop(cn, mqtt.UnspecifiedError, "the queue could not be read")
		return
	}
	if q.cutIn > p.released {
		c.again(q, func() { c.pump(s) })
		return
	}
	q.loaded, q.was = true, p.was
	if p.doubt {
		q.doubt = uint16(c.cfg.Limits.Window)
	}
	c.takePage(q, p)
	for i := range p.items {
		c.takeLoaded(s, q, &p.items[i])
	}
	q.read = max(q.read, p.last)
	if q.ended = p.end; p.end {
		q.read = max(q.read, done)
		q.live = q.read >= q.done
	}
	if q.back = p.end || q.was == nil || q.read >= q.was.most; q.was != nil && q.read >= q.was.read && len(q.was.done) == 0 && q.back {
		q.was = nil
	}
	c.pump(s)
}

// takePage notes what the page's entries hold. One of which everything was
// acknowledged before goes.
func (c *core) takePage(q *queue, p page) {
	for _, at := range p.damaged {
		c.skipDamaged(q, at)
	}
	for i := range p.items {
		l := &p.items[i]
		switch {
		case l.released:
			continue
		case l.skip:
			if q.taken(l.at, 0); l.done {
				q.open[l.at].done = append(q.open[l.at].done, l.idx)
			}
		default:
			q.taken(l.at, 1)
		}
		if l.body != 0 {
			q.taken(l.at, 0, l.body)
		}
	}
	for i := range p.items {
		if o := q.open[p.items[i].at]; o != nil && q.emptied(p.items[i].at, o) != nil {
			c.removeEntry(q, p.items[i].at, o)
		}
	}
}

func (c *core) takeLoaded(s *session, q *queue, l *loaded) {
	l.from = q
	switch {
	case l.skip:
		return
	case l.released:
		s.box().window.AddWithID(l.id, 2, true, flight{qos: 2})
		c.sendAck(s.conn, mqtt.Ack{Type: mqtt.PUBREL, ID: l.id})
		return
	}
	if l.msg == nil {
		c.settleLost(&l.item)
		return
	}
	if l.id == 0 {
		if q.doubt > 0 && l.qos == 1 {
			q.doubt--
			l.dup = true
		}
		s.box().add(&l.item)
		return
	}
	l.dup, l.item.id = true, l.id
	s.box().addAgain(&l.item)
}
