package broker

import (
	"slices"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// group is one shared subscription: (share name, filter). It has one queue; a
// member claims a message when it is sent to it. While a member is lasting the
// queue is on disk, else in memory. Owned by the core.
type group struct {
	id      uint64
	filter  string // as subscribed, with $share
	members []*session
	next    int    // where the round robin goes on
	lasting int    // members whose session lasts
	granted [3]int // members by the QoS that they were granted
	queue   queue
	// pend are messages that wait for a member with room; returned claims come
	// first. bytes is their size.
	pend  []item
	bytes int
}

// count notes an item of pend that has come, or (by -1) has gone.
func (c *core) count(g *group, it *item, by int) {
	g.bytes += by * it.size()
	c.backlog.count(it, by)
}

// first takes the first item of pend.
func (c *core) first(g *group) item {
	it := g.pend[0]
	c.count(g, &it, -1)
	g.pend[0] = item{}
	g.pend = g.pend[1:]
	return it
}

// qos is the highest QoS that a member was granted: what the queue keeps.
func (g *group) qos() byte {
	for q := byte(2); q > 0; q-- {
		if g.granted[q] > 0 {
			return q
		}
	}
	return 0
}

// join makes the session a member of the filter's group.
func (c *core) join(s *session, filter string, o subOptions) {
	_, rest, _, _ := mqtt.ParseShared(filter)
	g, ok := c.groups.Get(rest, filter)
	if !ok {
		c.nextID++
		g = &group{id: c.nextID, filter: filter}
		g.queue = queue{log: store.Log{Kind: logGroup, ID: g.id}, loaded: true, ended: true, live: true}
		c.groups.Set(rest, filter, g)
	}
	c.enlist(s, g, o)
	if s.lasting {
		c.cur.w.Put(tableGroup, be8(g.id), append([]byte{'G', 1}, filter...))
	}
}

func (c *core) enlist(s *session, g *group, o subOptions) {
	if s.wake().groups == nil {
		s.groups = make(map[*group]subOptions, 1)
	}
	if old, had := s.groups[g]; had {
		g.granted[old.qos]--
	} else {
		g.members = append(g.members, s)
		if s.lasting {
			g.lasting++
		}
	}
	g.granted[o.qos]++
	s.groups[g] = o
}

// leave ends a membership; the last member takes the group's queue with it.
func (c *core) leave(s *session, filter string) {
	_, rest, _, _ := mqtt.ParseShared(filter)
	g, ok := c.groups.Get(rest, filter)
	if !ok {
		return
	}
	i := slices.Index(g.members, s)
	if i < 0 {
		return
	}
	g.members = slices.Delete(g.members, i, i+1)
	g.granted[s.groups[g].qos]--
	delete(s.groups, g)
	if s.lasting {
		g.lasting--
	}
	if len(g.members) == 0 {
		for len(g.pend) > 0 {
			c.first(g)
		}
		c.groups.Delete(rest, filter)
		c.cur.w.Delete(tableGroup, be8(g.id))
		g.queue.gone = true // claims that are acknowledged later count for nothing
		c.then(func() {
			c.eraseTable(tableDone, g.id)
			c.eraseLog(g.queue.log)
		})
	}
}

func (c *core) leaveGroups(s *session) {
	for _, g := range sortedGroups(s) {
		c.leave(s, g.filter)
	}
}

// sortedGroups keeps what happens in the order of the groups' ids.
func sortedGroups(s *session) []*group {
	gs := make([]*group, 0, len(s.groups))
	for g := range s.groups {
		gs = append(gs, g)
	}
	slices.SortFunc(gs, func(a, b *group) int { return int(a.id) - int(b.id) })
	return gs
}

// arriveGroup takes a released message into the group's memory, if there is
// room, and hands on what members have room for.
func (c *core) arriveGroup(g *group, it *item) {
	q := &g.queue
	if q.gone {
		return
	}
	it.grp = g
	if it.at != 0 {
		q.done = max(q.done, it.at)
		if it.at <= q.read && it.at != q.liveAt {
			return
		}
		if it.at != q.liveAt && (!q.live || len(g.pend) >= pageItems || g.bytes >= pageBytes) {
			q.live = false
			c.pumpGroup(g)
			return
		}
		if q.liveAt != it.at {
			q.liveAt = it.at
			q.taken(it.at, it.entry.items, it.entry.bodies...)
		}
	} else if it.qos == 0 {
		if s := c.member(g, it.size()); s != nil {
			o := *it
			o.subIDs = g.subIDs(s)
			c.writeQoS0(s, &o)
		}
		return
	}
	g.pend = append(g.pend, *it)
	c.count(g, it, 1)
	for l := c.cfg.Limits; it.at == 0 && len(g.pend) > 1 && (len(g.pend) > l.PendingMessages || g.bytes > l.PendingBytes || int64(g.bytes) > c.backlog.part(c.online)); {
		c.b.stats.overflow.Add(1)
		c.first(g)
	}
	c.pumpGroup(g)
}

// member returns the next member, round robin, that can take a message now.
func (c *core) member(g *group, size int) *session {
	for range g.members {
		g.next = (g.next + 1) % len(g.members)
		s := g.members[g.next]
		if s.conn != nil && s.live.Load() != nil && len(s.box().pend) == 0 && c.mayClaim(s) && c.mayPublish(s, size) {
			return s
		}
	}
	return nil
}

// mayClaim reports whether a member may have a further claim: it stays in memory until it
// is acknowledged.
func (c *core) mayClaim(s *session) bool {
	return c.backlog.bytes < c.backlog.most || s.out.window.Len() == 0 && !c.backlog.full()
}

func (g *group) subIDs(s *session) []uint32 {
	if id := s.groups[g].id; id != 0 {
		return []uint32{id}
	}
	return nil
}

// pumpGroup hands waiting messages to members with room, then reads on.
func (c *core) pumpGroup(g *group) {
	for len(g.pend) > 0 {
		s := c.member(g, g.pend[0].size())
		if s == nil {
			return
		}
		c.claim(g, s, c.first(g))
	}
	g.pend = nil
	c.readGroup(g)
}

// claim sends a message to a member. A claim at QoS 2 of a lasting member stays
// with it: the message moves to the member's own queue.
func (c *core) claim(g *group, s *session, it item) {
	if c.outlived(&it) {
		c.dropOutlived(&it)
		return
	}
	it.qos = min(it.qos, s.groups[g].qos)
	it.subIDs = g.subIDs(s)
	if it.qos == 2 && s.lasting && it.at != 0 {
		c.settle(&it)
		moved := item{msg: it.msg, subIDs: it.subIDs, qos: 2}
		c.enqueue(&s.queue, &moved, 0)
		c.keep(nil)
		c.cur.effects = append(c.cur.effects, effect{sess: s, it: moved})
		return
	}
	c.send(s, &it)
}

// returnClaims gives back to its groups, also those that it has left, what a member
// that goes away had not acknowledged. A claim at QoS 2 ends with the session: nobody
// else may get it [MQTT-4.8.2-5]; a lasting one has it in its own queue.
func (c *core) returnClaims(s *session) {
	if s.out == nil {
		return
	}
	var back []*item
	s.out.window.All(func(_ uint16, st mqtt.OutState, f *flight) {
		switch {
		case f.it == nil || f.it.grp == nil || f.it.grp.queue.gone:
		case f.qos == 1:
			back = append(back, f.it)
		case st == mqtt.OutSent:
			c.settled(*f)
			f.it = nil
		}
	})
	for i := len(back) - 1; i >= 0; i-- {
		g := back[i].grp
		back[i].dup = true
		g.pend = append([]item{*back[i]}, g.pend...)
		c.count(g, back[i], 1)
	}
	for _, it := range back {
		c.pumpGroup(it.grp)
	}
}

// readGroup reads the next page of a group's queue when nothing waits in memory.
func (c *core) readGroup(g *group) {
	q := &g.queue
	if q.live || q.reading {
		return
	}
	if q.read >= q.done && q.ended {
		q.live = true
		return
	}
	bytes, held, ok := c.lot(q, nil)
	if !ok {
		for _, s := range g.members {
			if s.ready() {
				c.queueUp(s)
				return
			}
		}
		return // a member that comes reads
	}
	q.reading = true
	after, done, first, was, released := q.read, q.done, !q.loaded, q.was, c.released
	c.b.work(func() {
		p := c.readPage(q.log, g.id, after, first, was, bytes)
		p.released, p.held = released, held
		c.mail.post(command{kind: cmdCall, call: func() { c.pageGroup(g, p, done) }})
	})
}

func (c *core) pageGroup(g *group, p page, done store.Pos) {
	q := &g.queue
	q.reading = false
	c.backlog.bytes -= p.held
	if q.gone {
		return
	}
	if p.err != nil {
		c.log.Error("shared queue could not be read", "filter", g.filter, "err", p.err)
		return
	}
	if q.cutIn > p.released {
		c.again(q, func() { c.pumpGroup(g) })
		return
	}
	q.loaded, q.was = true, p.was
	c.takePage(q, p)
	for i := range p.items {
		if p.items[i].skip {
			continue
		}
		it := p.items[i].item
		it.from, it.grp = q, g
		if it.msg == nil {
			c.settleLost(&it)
			continue
		}
		g.pend = append(g.pend, it)
		c.count(g, &it, 1)
	}
	q.read = max(q.read, p.last)
	if q.ended = p.end; p.end {
		q.read = max(q.read, done)
		q.live = q.read >= q.done
	}
	c.pumpGroup(g)
}
