package broker

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// readPage reads what follows `after` in a log. The first page of a connection
// also restores what the connection before it had in its window. It runs on a
// worker and touches nothing of the core.
func (c *core) readPage(l store.Log, session uint64, after store.Pos, first bool, was *windowRecord, bytes int) (p page) {
	if first {
		if was, p.err = c.readWindow(session); errors.Is(p.err, errWindow) {
			p.doubt, p.err = true, nil
		}
		if p.err != nil {
			return p
		}
		for _, r := range was.released {
			p.items = append(p.items, loaded{id: r, released: true})
		}
	}
	p.was = was
	size := 0 // with the shared bodies
	err := c.store.Read(l, after, pageItems, bytes, func(at store.Pos, value []byte) bool {
		items, err := decodeItems(append([]byte(nil), value...), c.bodyReader(&p.err))
		if p.err != nil {
			p.err = fmt.Errorf("entry %d: %w", at, p.err)
			return false
		}
		if p.last = at; err != nil {
			c.damaged("queue", logKey(l.Kind, l.ID, at), value, err)
			p.damaged = append(p.damaged, at)
			return true
		}
		for i := range items {
			items[i].at = at
			size += items[i].size()
			p.items = append(p.items, was.restore(items[i]))
		}
		return len(p.items) < pageItems && size < bytes
	})
	if err != nil && p.err == nil {
		p.err = err
	}
	p.end = p.last == 0 || !c.more(l, p.last)
	return p
}

// more reports whether the log has an entry after at.
func (c *core) more(l store.Log, at store.Pos) (more bool) {
	if err := c.store.Read(l, at, 1, 1, func(store.Pos, []byte) bool { more = true; return false }); err != nil {
		return true // the next page reports it
	}
	return more
}

// bodyReader reads shared bodies and leaves its error in failed.
func (c *core) bodyReader(failed *error) func(uint64) *mqtt.Message {
	return func(n uint64) *mqtt.Message {
		m, err := c.readBody(n)
		if err != nil {
			*failed = errors.Join(*failed, err)
		}
		return m
	}
}

// readBody reads a shared body; nil if it is no more, because what referred to it
// has gone meanwhile, or if it is damaged.
func (c *core) readBody(n uint64) (*mqtt.Message, error) {
	v, err := c.store.Get(tableBody, be8(n))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, _, err := mqtt.DecodeMessage(v)
	if errors.Is(err, mqtt.ErrNewer) {
		return nil, newer("message", tableBody, be8(n))
	}
	if err != nil {
		c.discard("message", tableBody, be8(n), v, err)
		return nil, nil
	}
	return m, nil
}

// windowRecord is what a session's window and read-ahead held when it
// disconnected.
type windowRecord struct {
	// read is the last entry taken into memory: what it or an earlier entry
	// holds and flights doesn't name was acknowledged.
	read store.Pos
	// most is the last entry with a message that had been sent.
	most     store.Pos
	flights  map[place]uint16 // the identifier, 0 if it had not been sent
	released []uint16
	// done are QoS 2 messages that arrived, of entries that hold others.
	done map[place]bool
}

// place is an item's place in a log.
type place struct {
	at  store.Pos
	idx uint16
}

// restore adds what the window knew of an item.
func (w *windowRecord) restore(it item) loaded {
	if w == nil {
		return loaded{item: it}
	}
	at := place{it.at, it.idx}
	id, open := w.flights[at]
	return loaded{item: it, id: id, done: w.done[at], skip: !open && it.at <= w.read || w.done[at]}
}

var errWindow = fmt.Errorf("window: %w", errRecord)

// readWindow reads what a disconnect saved, and the QoS 2 exchanges, which are
// saved as they go. errWindow says that what was saved is damaged; w then holds the
// exchanges.
func (c *core) readWindow(session uint64) (w *windowRecord, err error) {
	w = &windowRecord{flights: make(map[place]uint16)}
	v, err := c.store.Get(tableWindow, be8(session))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return w, err
	}
	var bad error
	if err == nil {
		if bad = w.decode(v); bad != nil {
			c.damaged("window", be8(session), v, bad)
			w = &windowRecord{flights: make(map[place]uint16)}
		}
	}
	err = c.store.Scan(tableDone, be8(session), nil, func(key, _ []byte) store.Next {
		if w.done == nil {
			w.done = make(map[place]bool)
		}
		if len(key) < 18 {
			return store.Next{}
		}
		w.done[place{store.Pos(binary.BigEndian.Uint64(key[8:])), binary.BigEndian.Uint16(key[16:])}] = true
		return store.Next{}
	})
	if err != nil {
		return w, err
	}
	own := make(map[uint16]place) // identifiers of QoS 2 exchanges
	err = c.store.Scan(tableOut2, be8(session), nil, func(key, v []byte) store.Next {
		if len(key) < 10 || !w.exchange(binary.BigEndian.Uint16(key[8:]), v, own) {
			c.discard("QoS 2 exchange", tableOut2, key, v, errRecord)
		}
		return store.Next{}
	})
	for at, id := range w.flights {
		if id != 0 {
			w.most = max(w.most, at.at)
		}
		if other, taken := own[id]; taken && other != at {
			w.flights[at] = 0 // it was free again when the exchange took it
		}
	}
	return w, cmp.Or(err, bad)
}

// exchange adds a stored QoS 2 exchange, and its identifier to own. It reports whether
// it could be read.
func (w *windowRecord) exchange(id uint16, v []byte, own map[uint16]place) bool {
	if checkRecord(v, 'O', 3) != nil {
		return false
	}
	switch {
	case v[2] == out2Released:
		own[id] = place{}
		w.released = append(w.released, id)
	case len(v) >= 13 && v[2] == out2Sent:
		own[id] = place{store.Pos(binary.BigEndian.Uint64(v[3:])), binary.BigEndian.Uint16(v[11:])}
		w.flights[own[id]] = id
	default:
		return false
	}
	return true
}

// encodeWindow is kind, version, read, then each open item as at, idx, id. What
// the connection before knew of entries that this one did not come to read still
// holds.
func (s *session) encodeWindow() []byte {
	read := s.queue.read
	if s.queue.was != nil {
		read = max(read, s.queue.was.read)
	}
	rec := binary.BigEndian.AppendUint64([]byte{'W', 1}, uint64(read))
	add := func(at store.Pos, idx, id uint16) {
		rec = binary.BigEndian.AppendUint64(rec, uint64(at))
		rec = binary.BigEndian.AppendUint16(rec, idx)
		rec = binary.BigEndian.AppendUint16(rec, id)
	}
	if was := s.queue.was; was != nil {
		for at, id := range was.flights {
			if at.at > s.queue.read {
				add(at.at, at.idx, id)
			}
		}
	}
	if s.out == nil {
		return rec
	}
	s.out.window.All(func(id uint16, st mqtt.OutState, f *flight) {
		if f.from == &s.queue && f.at != 0 && st == mqtt.OutSent {
			add(f.at, f.idx, id)
		}
	})
	for i := range s.out.pend {
		if it := &s.out.pend[i]; it.from == &s.queue && it.at != 0 {
			add(it.at, it.idx, it.id)
		}
	}
	return rec
}

func (w *windowRecord) decode(v []byte) error {
	if checkRecord(v, 'W', 10) != nil || (len(v)-10)%12 != 0 {
		return errWindow
	}
	w.read = store.Pos(binary.BigEndian.Uint64(v[2:]))
	for v = v[10:]; len(v) > 0; v = v[12:] {
		at := store.Pos(binary.BigEndian.Uint64(v))
		w.flights[place{at, binary.BigEndian.Uint16(v[8:])}] = binary.BigEndian.Uint16(v[10:])
	}
	return nil
}
