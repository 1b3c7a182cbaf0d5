package broker

import (
	"encoding/binary"
	"slices"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/retained"
	"github.com/geocast/geocast/store"
)

const tableReplay store.Table = 0x2f // session id, filter → an unfinished replay

// replay sends the retained messages of one new subscription, in pages, in
// topic order, over what stood at the SUBSCRIBE's place in the order. That of a
// lasting session goes on after a reconnect or a restart.
type replay struct {
	cursor  retained.Replay
	options subOptions
	reading bool
	// open are the topics of what was sent and is not yet acknowledged, in
	// order, so that the saved place moves only over what arrived.
	open []string
}

func (c *core) newReplay(s *session, filter string, o subOptions) *replay {
	c.dropReplay(s, filter)
	if c.topics.Len() == 0 {
		return nil
	}
	r := &replay{cursor: retained.Replay{Filter: filter, AsOf: c.asOf()}, options: o}
	c.saveReplay(s, r)
	return r
}

// safe is the last topic up to which everything arrived.
func (r *replay) safe() string {
	if len(r.open) == 0 {
		return r.cursor.After
	}
	return r.open[0] // is sent again: At Least Once
}

// acked notes that a retained message arrived.
func (r *replay) acked(topic string) {
	if i := slices.Index(r.open, topic); i >= 0 {
		r.open = slices.Delete(r.open, i, i+1)
	}
}

func replayKey(s *session, filter string) []byte { return append(be8(s.id), filter...) }

// saveReplay keeps a lasting session's replay; it rides on the next batch. The
// record is kind, version, whether the topic itself is still to be sent, AsOf, the
// options, the topic.
func (c *core) saveReplay(s *session, r *replay) {
	if !s.lasting {
		return
	}
	again := byte(0)
	if len(r.open) > 0 {
		again = 1
	}
	rec := binary.BigEndian.AppendUint64([]byte{'Y', 1, again}, r.cursor.AsOf)
	rec = append(r.options.append(rec), r.safe()...)
	c.cur.w.Put(tableReplay, replayKey(s, r.cursor.Filter), rec)
}

func decodeReplay(filter string, v []byte) (*replay, bool) {
	if len(v) < 18 || v[0] != 'Y' {
		return nil, false
	}
	o, ok := decodeSubOptions(v[11:18])
	r := &replay{cursor: retained.Replay{Filter: filter, AsOf: binary.BigEndian.Uint64(v[3:]), After: string(v[18:])}, options: o}
	if v[2] == 1 {
		r.open = []string{r.cursor.After}
	}
	r.rewind()
	return r, ok
}

// rewind goes back to what has not arrived.
func (r *replay) rewind() {
	r.reading, r.cursor.Done = false, false
	if len(r.open) > 0 {
		r.cursor.After, r.cursor.Again = r.open[0], true
		r.open = nil
	}
}

// dropReplay ends a filter's replay.
func (c *core) dropReplay(s *session, filter string) {
	i := slices.IndexFunc(s.replays, func(r *replay) bool { return r.cursor.Filter == filter })
	if i < 0 {
		return
	}
	s.replays = slices.Delete(s.replays, i, i+1)
	if s.lasting {
		c.cur.w.Delete(tableReplay, replayKey(s, filter))
	}
}

// pauseReplays is for a connection that ends: what had not arrived is sent on the
// next one.
func (c *core) pauseReplays(s *session) {
	for _, r := range s.replays {
		c.saveReplay(s, r)
		r.rewind()
	}
}

// restoreReplays reads the replays that had not finished.
func (c *core) restoreReplays(byID sessionList) error {
	return c.store.Scan(tableReplay, nil, nil, func(key, v []byte) store.Next {
		s := byID.find(binary.BigEndian.Uint64(key))
		r, ok := decodeReplay(string(key[8:]), v)
		if s == nil || !ok {
			return store.Next{}
		}
		if s.subs.has(r.cursor.Filter) {
			s.wake()
			s.replays = append(s.replays, r)
		}
		return store.Next{}
	})
}

// startReplays begins the replays of a SUBSCRIBE once what it saw is committed.
func (c *core) startReplays(s *session, cn *conn, rs []*replay) {
	if s.gone || s.conn != cn && !s.lasting || len(rs) == 0 {
		return
	}
	if n := c.retainedIn; n > c.released { // what stood there can't be read yet
		b := c.batchOf(n)
		b.effects = append(b.effects, effect{do: func() { c.beginReplays(s, cn, rs) }})
		return
	}
	c.beginReplays(s, cn, rs)
}

// beginReplays is startReplays for what can be read. It does not look at later
// batches: if every one holds a retained change, that would be for ever.
func (c *core) beginReplays(s *session, cn *conn, rs []*replay) {
	if s.gone || s.conn != cn && !s.lasting {
		return
	}
	for _, r := range rs {
		if s.subs.has(r.cursor.Filter) {
			s.wake()
			s.replays = append(s.replays, r)
		}
	}
	if s.ready() {
		c.replayOn(s)
	}
}

// replayOn reads the next page of the first unfinished replay when the session
// has room for it.
func (c *core) replayOn(s *session) {
	c.endReplays(s)
	if len(s.replays) == 0 || s.conn == nil || !s.queue.back {
		return
	}
	r := s.replays[0]
	if r.cursor.Done && len(s.replays) > 1 { // the rest of it is on its way
		s.replays = append(s.replays[1:], r)
		r = s.replays[0]
	}
	if r.reading || r.cursor.Done || s.out != nil && (len(s.out.pend) >= pageItems/2 || s.out.bytes >= pageBytes) || !s.conn.roomy() {
		return
	}
	r.reading = true
	c.reading++
	next, now, cn, lost := r.cursor, c.clock.now, s.conn, c.lostChanges
	lasting := s.lasting
	c.b.work(func() {
		var page []*mqtt.Message
		err := next.Next(retainedTable{c.store}, now, pageItems, pageBytes, func(m *mqtt.Message) { page = append(page, m) })
		c.mail.post(command{kind: cmdCall, passing: !lasting, call: func() {
			page, current := c.unchanged(next.AsOf, lost, page)
			c.replayed(s, cn, r, next, page, err, current)
		}})
	})
}

func (c *core) replayed(s *session, cn *conn, r *replay, next retained.Replay, page []*mqtt.Message, err error, current bool) {
	if s.conn != cn || s.gone || !slices.Contains(s.replays, r) {
		return
	}
	r.reading = false
	if !current {
		c.replayOn(s) // once more
		return
	}
	if err != nil {
		c.log.Error("retained messages could not be read", "filter", r.cursor.Filter, "err", err)
		next.Done = true
	}
	r.cursor = next
	for _, m := range page {
		if c.inTree(m.Topic) && !c.sees(s, r.cursor.Filter, m.Topic) {
			continue
		}
		it := item{msg: m, qos: min(m.QoS, r.options.qos), retain: true, replay: r}
		if r.options.id != 0 {
			it.subIDs = []uint32{r.options.id}
		}
		switch {
		case it.qos == 0:
			c.transmit(s.conn, &it, 0)
			continue
		case it.qos == 2 && s.lasting: // its identifier must survive: it goes by the queue
			it.replay = nil
			c.enqueue(&s.queue, &it, 0)
			c.keep(nil)
			c.cur.effects = append(c.cur.effects, effect{sess: s, it: it})
			continue
		}
		r.open = append(r.open, m.Topic)
		c.push(s, &it)
		if s.conn != cn {
			return
		}
	}
	c.turnReplay(s, r)
	c.pump(s)
}

// endReplays ends the replays that have arrived.
func (c *core) endReplays(s *session) {
	for i := 0; i < len(s.replays); {
		if r := s.replays[i]; r.cursor.Done && len(r.open) == 0 {
			c.dropReplay(s, r.cursor.Filter)
			continue
		}
		i++
	}
}

// turnReplay ends a replay that is read to its end and has arrived, or saves how
// far it is.
func (c *core) turnReplay(s *session, r *replay) {
	if r.cursor.Done && len(r.open) == 0 {
		c.dropReplay(s, r.cursor.Filter)
		return
	}
	c.saveReplay(s, r)
}

// retainedTable is the retained table as package retained reads it.
type retainedTable struct{ s store.Store }

func (t retainedTable) ScanRetained(prefix, from []byte, fn func(topic, record []byte) (seek []byte, more bool)) error {
	return t.s.Scan(tableRetained, prefix, from, func(key, value []byte) store.Next {
		seek, more := fn(key, value)
		switch {
		case !more:
			return store.Stop
		case seek != nil:
			return store.SkipTo(seek)
		}
		return store.Next{}
	})
}
