package broker

import (
	"encoding/binary"
	"time"

	"github.com/geocast/geocast/store"
)

// The tables and logs of the store. The numbers are on disk: never reuse one.
const (
	tableSession  store.Table = 0x20 // session id → session record
	tableSub      store.Table = 0x21 // session id, filter → options
	tableIn2      store.Table = 0x22 // session id, packet id → QoS 2 received
	tableWindow   store.Table = 0x23 // session id → what was unacknowledged at its disconnect
	tableOut2     store.Table = 0x24 // session id, packet id → QoS 2 sent
	tableRetained store.Table = 0x25 // topic → retained record
	tableMeta     store.Table = 0x26 // "core" → clock and counters
	tableBody     store.Table = 0x27 // body number → message shared by entries
	tableGroup    store.Table = 0x2b // group id → name and filter
	tableDone     store.Table = 0x30 // log id, entry, index → a QoS 2 message that arrived

	logQueue byte = 'q' // a session's undelivered messages
	logGroup byte = 'g' // a shared subscription's
)

// batch is what commits together: a write set and the effects that wait for
// it. While one syncs the next one fills. Owned by the core, but w, which the
// committer reads while the batch syncs.
type batch struct {
	n       uint64
	w       store.Batch
	kept    bool      // something in it must be synced before its effects leave
	began   time.Time // when that was so first
	effects []effect
	entries []*entry
	// one is the connection whose commands made it kept; many if several did.
	one  *conn
	many bool
}

// entry is the queue entry that a batch is writing for one queue.
type entry struct {
	q      *queue
	buf    []byte
	items  uint16
	bodies []uint64
}

// be8 is an internal number as a key: big-endian, so that keys sort by it.
func be8(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

func packetKey(session uint64, id uint16) []byte {
	return binary.BigEndian.AppendUint16(be8(session), id)
}

// keep notes that cmd's connection has something in the open batch.
func (c *core) keep(from *conn) {
	b := c.cur
	if !b.kept {
		b.kept, b.began = true, time.Now()
	}
	if b.one == nil {
		b.one = from
	} else if b.one != from {
		b.many = true
	}
	if from != nil {
		from.pend.Store(b.n)
	}
}

// enqueue appends an item to a queue's entry of the open batch and returns its
// place. body is the number of a shared body, or 0.
func (c *core) enqueue(q *queue, it *item, body uint64) {
	b := c.cur
	if q.put != store.Pos(b.n) || q.entry == nil {
		q.put, q.next = store.Pos(b.n), 0
		q.entry = &entry{q: q, buf: []byte{'Q', 1}}
		b.entries = append(b.entries, q.entry)
	}
	it.at, it.idx, it.from, it.body, it.entry = q.put, q.next, q, body, q.entry
	q.next++
	q.entry.items++
	if body != 0 {
		q.entry.bodies = append(q.entry.bodies, body)
	}
	q.entry.buf = appendItem(q.entry.buf, it, body)
	if q.messages++; q.messages == 1 {
		q.oldest = q.put
		c.ageLater(q)
	}
	q.bytes += it.size()
	c.openBytes += it.size()
	c.bound(q)
}

// full reports whether the open batch should take no further kept command until
// it has been handed to the committer. One command may add three times as much:
// the largest packet twice (as a body and as a retained message), the filters of
// a session, the recipients of mostRecipients.
func (c *core) full() bool {
	entries, bytes := c.store.Limit()
	return c.cur.w.Len()+len(c.cur.entries) > entries/4 || c.cur.w.Size()+c.openBytes > bytes/4
}

// seal completes the open batch and hands it to the committer.
func (c *core) seal() {
	b := c.cur
	for _, e := range b.entries {
		b.w.Append(e.q.log, e.q.put, e.buf)
		e.q.entry, c.ages.put = nil, store.Pos(b.n)
	}
	b.w.Put(tableMeta, []byte("core"), c.metaRecord())
	c.syncing, c.cur, c.openBytes = b, &batch{n: b.n + 1}, 0
	c.commits <- b
}

// metaRecord is kind, version, the clock, the next free numbers, and the stamp of
// retained messages.
func (c *core) metaRecord() []byte {
	rec := []byte{'M', 1}
	rec = binary.BigEndian.AppendUint64(rec, uint64(c.clock.now))
	rec = binary.BigEndian.AppendUint64(rec, c.cur.n)
	rec = binary.BigEndian.AppendUint64(rec, c.nextID)
	return binary.BigEndian.AppendUint64(rec, c.stamp)
}

// committed is called when batch b is on stable storage: its effects leave, in
// order.
func (c *core) committed(b *batch) {
	c.released = b.n
	c.syncing = nil
	c.releasing = true
	for i := range b.effects {
		c.run(&b.effects[i])
	}
	c.releasing = false
	if b.kept {
		c.b.stats.answers.observe(time.Since(b.began))
	}
	c.left.Store(b.n)
	c.resumeParked()
}

// batchOf returns the unreleased batch number n, or nil.
func (c *core) batchOf(n uint64) *batch {
	switch {
	case n <= c.released:
		return nil
	case c.syncing != nil && c.syncing.n == n:
		return c.syncing
	}
	return c.cur
}
