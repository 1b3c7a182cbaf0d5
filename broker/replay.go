package broker

import (
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/retained"
	"github.com/geocast/geocast/store"
)

// replay sends the retained messages of one new subscription, in pages, in
// topic order, over what stood at the SUBSCRIBE's place in the order.
type replay struct {
	cursor  retained.Replay
	options subOptions
	reading bool
	// sent and acked count QoS 1 and 2 messages, so that the cursor of a
	// lasting session moves only over what arrived.
	sent, acked int
	safe        string // everything up to this topic was acknowledged
}

func (c *core) newReplay(filter string, o subOptions) *replay {
	if c.topics.Len() == 0 {
		return nil
	}
	return &replay{cursor: retained.Replay{Filter: filter, AsOf: c.cur.n}, options: o}
}

// startReplays begins the replays of a SUBSCRIBE once what it saw is committed.
func (c *core) startReplays(s *session, cn *conn, rs []*replay) {
	if s.conn != cn || len(rs) == 0 {
		return
	}
	for _, r := range rs {
		r.cursor.AsOf = max(r.cursor.AsOf, c.released)
	}
	s.replays = append(s.replays, rs...)
	c.replayOn(s)
}

// replayOn reads the next page of the first unfinished replay when the session
// has room for it.
func (c *core) replayOn(s *session) {
	if len(s.replays) == 0 || s.conn == nil {
		return
	}
	r := s.replays[0]
	if r.reading || s.out != nil && (len(s.out.pend) >= pageItems/2 || s.out.bytes >= pageBytes) || s.conn.buffered() >= outCap {
		return
	}
	r.reading = true
	next, now, cn := r.cursor, c.clock.now, s.conn
	c.b.work(func() {
		var page []*mqtt.Message
		err := next.Next(retainedTable{c.store}, now, pageItems, pageBytes, func(m *mqtt.Message) { page = append(page, m) })
		c.mail.post(command{kind: cmdCall, call: func() { c.replayed(s, cn, r, next, page, err) }})
	})
}

func (c *core) replayed(s *session, cn *conn, r *replay, next retained.Replay, page []*mqtt.Message, err error) {
	r.reading = false
	if s.conn != cn || s.gone || len(s.replays) == 0 || s.replays[0] != r {
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
		if it.qos == 0 {
			c.transmit(s.conn, &it, 0)
			continue
		}
		c.push(s, &it)
		if s.conn != cn {
			return
		}
	}
	if next.Done {
		s.replays = s.replays[1:]
	}
	c.pump(s)
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
