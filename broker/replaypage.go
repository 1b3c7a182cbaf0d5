package broker

import (
	"github.com/geocast/geocast/retained"
	"github.com/geocast/geocast/store"
)

// pageTurns let the sessions that replay take turns: whatever they ask for, most pages
// are read at once, by half of the CPUs, so that those, workers and memory are there for
// others. Owned by the core.
type pageTurns struct {
	most, reading int
	waiting       []*session
}

// replayOn asks for the next page of the session's first unfinished replay when there
// is room for it.
func (c *core) replayOn(s *session) {
	if s.turn || c.nextReplay(s) == nil {
		return
	}
	s.turn = true
	c.pages.waiting = append(c.pages.waiting, s)
	c.readPages()
}

// readPages gives their turns to the sessions that wait longest.
func (c *core) readPages() {
	t := &c.pages
	for t.reading < t.most && len(t.waiting) > 0 {
		s := t.waiting[0]
		t.waiting[0] = nil
		t.waiting = t.waiting[1:]
		if r := c.nextReplay(s); r != nil {
			t.reading++
			c.readReplay(s, r)
			continue
		}
		c.endTurn(s)
	}
}

// endTurn lets a session ask for another page.
func (c *core) endTurn(s *session) {
	if s.active != nil {
		s.turn = false
		s.rest(c.released)
	}
}

// nextReplay is the replay of which a page can be read and sent now, or nil.
func (c *core) nextReplay(s *session) *replay {
	if s.active == nil || !s.ready() {
		return nil
	}
	r := s.replays.first()
	for ; r != nil && r.arrived(); r = s.replays.first() {
		c.dropReplay(s, r.cursor.Filter)
	}
	if r == nil || !s.queue.back || s.lasting && r.options.qos == 2 && s.queue.messages >= pageItems {
		return nil // at QoS 2 it goes by the queue, which must not hold all of it
	}
	if r.cursor.Done { // the rest of it is on its way
		s.replays.rotate()
		r = s.replays.first()
	}
	items, bytes := c.replayPage()
	if r.cursor.Done || s.out != nil && (len(s.out.pend) >= (items+1)/2 || s.out.bytes >= bytes) || !c.roomy(s, pageBytes) {
		return nil
	}
	return r
}

// replayPage is how much a page of a replay holds now.
func (c *core) replayPage() (items, bytes int) {
	return c.b.share(pageItems, 1), c.b.share(pageBytes, 1)
}

// readReplay has a worker read the next page.
func (c *core) readReplay(s *session, r *replay) {
	next, term, cn, from, lasting := r.cursor, c.term(), s.conn, c.released, s.lasting
	items, bytes := c.replayPage()
	c.b.work(func() {
		var page []*retained.Record
		err := next.Next(retainedTable{c.store}, term, items, bytes, func(rec *retained.Record) { page = append(page, rec) })
		c.mail.post(command{kind: cmdCall, passing: !lasting, call: func() {
			c.pages.reading--
			c.endTurn(s)
			c.replayed(s, cn, r, next, page, err, from)
			c.readPages()
		}})
	})
}

// replayed sends a page that was read when batch from was on disk.
func (c *core) replayed(s *session, cn *conn, r *replay, next retained.Replay, page []*retained.Record, err error, from uint64) {
	switch {
	case s.gone || s.conn == nil:
		return
	case s.conn != cn || !s.replays.has(r) || from < c.forgotten:
		c.replayOn(s)
		return
	case err != nil:
		c.log.Error("retained messages could not be read", "filter", r.cursor.Filter, "err", err)
		next.Done = true
	}
	r.cursor = next
	for _, rec := range page {
		if c.changedSince(from, rec.Message.Topic) || !c.shows(s, r, rec) {
			continue
		}
		c.sendRetained(s, r, rec)
		if s.conn != cn {
			return
		}
	}
	c.turnReplay(s, r)
	c.pump(s)
}

// shows reports whether a subscription shows its session a retained message: of a tree
// what it may see, and what others have published if it asks for No Local
// [MQTT-3.8.3-3].
func (c *core) shows(s *session, r *replay, rec *retained.Record) bool {
	if r.options.noLocal && rec.Source == s.source() {
		return false
	}
	return !c.inTree(rec.Message.Topic) || c.sees(s, r.cursor.Filter, rec.Message.Topic)
}

func (c *core) sendRetained(s *session, r *replay, rec *retained.Record) {
	it := item{msg: rec.Message, qos: min(rec.Message.QoS, r.options.qos), retain: true, replay: r}
	if r.options.id != 0 {
		it.subIDs = []uint32{r.options.id}
	}
	switch {
	case it.qos == 0:
		c.transmit(s.conn, &it, 0)
	case it.qos == 2 && s.lasting: // its identifier must survive: it goes by the queue
		it.replay = nil
		c.enqueue(&s.queue, &it, 0)
		c.keep(nil)
		c.cur.effects = append(c.cur.effects, effect{sess: s, it: it})
	default:
		r.sent++
		it.at = r.sent
		r.open = append(r.open, openTopic{r.sent, rec.Message.Topic})
		c.push(s, &it)
	}
}

// turnReplay ends a replay that is read to its end and has arrived, or saves how
// far it is.
func (c *core) turnReplay(s *session, r *replay) {
	if r.arrived() {
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
