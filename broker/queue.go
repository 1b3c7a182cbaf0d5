package broker

import (
	"encoding/binary"
	"math"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// queue is a cursor over a log on disk: one entry per commit, which holds the
// messages of that commit. While it is live the core hands it each entry as it
// commits; else entries are read in pages. Owned by the core.
type queue struct {
	log store.Log
	// put is the last entry written (perhaps not yet committed), done the last
	// one committed, read the last one taken into memory.
	put, done, read store.Pos
	// entry is the open batch's entry, if any: index of the next message.
	next  uint16
	entry *entry
	// liveAt is the entry that is being handed on while live.
	liveAt store.Pos
	// ended means that the last page was the log's end, as of when it was read.
	ended bool
	// loaded means that the first page since CONNECT has been read, back that all
	// of what the last connection had in its window is in memory again: until then
	// no identifier is given away.
	loaded, back bool
	// doubt is how many messages may have been sent before a crash: their first
	// sending says DUP.
	doubt uint16
	// cutIn is the last batch that cuts entries: a page that was asked for before
	// its commit may hold them, and is read again.
	cutIn uint64
	// gone means that the log is being erased: nothing is counted any more.
	gone bool
	// live means that read == done: a committed entry can be handed on at once.
	live bool
	// reading means that a page is on its way.
	reading bool
	// open counts the unacknowledged messages of entries that are in memory.
	open map[store.Pos]*opened
	// was is what the last connection's window held, until the reading has
	// come past it.
	was *windowRecord
	// reader is set for an inbox: the session whose cursor acknowledgements move.
	reader *session
	// messages and bytes are what the log holds, for bounds; no entry that still holds
	// one stands before oldest.
	messages, bytes int
	oldest          store.Pos
	// timed means that a timer will look at the age of a group's queue.
	timed bool
	// owner is the session whose queue it is; nil for a group's or an inbox.
	owner *session
	// trimming means that its oldest entries are being read, to drop them.
	trimming bool
}

// opened is what is known of an entry that is in memory.
type opened struct {
	left   uint16   // its messages that are not acknowledged
	bodies []uint64 // the shared bodies that go with it
	done   []uint16 // its QoS 2 messages that arrived, as noted in tableDone
}

// taken notes that an entry, with n messages to be acknowledged, is in memory.
func (q *queue) taken(at store.Pos, n uint16, bodies ...uint64) {
	if q.open == nil {
		q.open = make(map[store.Pos]*opened, 1)
	}
	o := q.open[at]
	if o == nil {
		o = &opened{}
		q.open[at] = o
	}
	o.left += n
	o.bodies = append(o.bodies, bodies...)
	q.read = max(q.read, at)
}

// acked notes that one message of the entry was acknowledged. When none is left
// the entry can go, with its shared bodies.
func (q *queue) acked(at store.Pos) (gone *opened) {
	o, ok := q.open[at]
	if !ok {
		return nil
	}
	if o.left > 0 {
		o.left--
	}
	return q.emptied(at, o)
}

// emptied returns the entry if nothing of it is left.
func (q *queue) emptied(at store.Pos, o *opened) *opened {
	if o.left > 0 {
		return nil
	}
	delete(q.open, at)
	if len(q.open) == 0 {
		q.open = nil
	}
	return o
}

// The two kinds of queue entry items: a message in the entry itself, and a
// reference to a body that several entries share.
const (
	itemInline = 1
	itemShared = 2
)

// appendItem appends the stored form of an item: kind, QoS and retain flag,
// subscription identifiers, then the message or the body's number.
func appendItem(dst []byte, it *item, body uint64) []byte {
	kind := byte(itemInline)
	if body != 0 {
		kind = itemShared
	}
	flags := it.qos
	if it.retain {
		flags |= 4
	}
	dst = append(dst, kind, flags, byte(min(len(it.subIDs), 255)))
	for _, id := range it.subIDs[:min(len(it.subIDs), 255)] {
		dst = binary.AppendUvarint(dst, uint64(id))
	}
	if body != 0 {
		dst = binary.BigEndian.AppendUint64(dst, body)
		return binary.AppendUvarint(dst, uint64(it.size()))
	}
	return it.msg.Append(dst)
}

// decodeItems decodes an entry, which is kind, version, items; body returns the
// message of a shared body, or
// nil if it is no more.
func decodeItems(b []byte, body func(uint64) *mqtt.Message) ([]item, error) {
	if err := checkRecord(b, 'Q', 2); err != nil {
		return nil, err
	}
	b = b[2:]
	var items []item
	for idx := uint16(0); len(b) > 0; idx++ {
		it, rest, err := decodeItem(b, body)
		if err != nil {
			return nil, err
		}
		it.idx, b = idx, rest
		items = append(items, it)
	}
	return items, nil
}

func decodeItem(b []byte, body func(uint64) *mqtt.Message) (it item, rest []byte, err error) {
	if len(b) < 3 {
		return it, nil, errRecord
	}
	kind, flags, n := b[0], b[1], int(b[2])
	b = b[3:]
	if it.qos, it.retain = flags&3, flags&4 != 0; it.qos == 3 {
		return it, nil, errRecord
	}
	for range n {
		id, k := binary.Uvarint(b)
		if k <= 0 {
			return it, nil, errRecord
		}
		it.subIDs, b = append(it.subIDs, uint32(id)), b[k:]
	}
	switch {
	case kind == itemInline:
		it.msg, b, err = mqtt.DecodeMessage(b)
		return it, b, err
	case kind == itemShared && len(b) >= 8:
		it.body = binary.BigEndian.Uint64(b)
		it.msg = body(it.body)
		n, k := binary.Uvarint(b[8:])
		if k <= 0 || n > math.MaxInt32 {
			return it, nil, errRecord
		}
		it.bodySize = int(n)
		return it, b[8+k:], nil
	}
	return it, nil, errRecord
}
