package broker

import (
	"time"

	"github.com/geocast/geocast/mqtt"
)

// backlog is what waits in memory for readers, of all sessions and shared groups
// together. Owned by the core. One that holds more than its part gets no more: a
// session that is not lasting is closed, a lasting one is fed from its queue later.
// The part shrinks as the room does, so that a few may hold much and many may hold
// little; all together stay below twice most.
type backlog struct {
	most  int64
	bytes int64
	// large are messages that wait for several, mostly, and how many have them: the
	// bytes of each count once.
	large map[*mqtt.Message]int
	// line are sessions that wait for room in the backlog or in the output.
	line  []*session
	since int64 // when the line began, in core time (ms)
}

const (
	// itemCost is what an item takes beside its message, in bytes.
	itemCost = 192
	// largeMessage is the size from which a message counts once for all.
	largeMessage = 2 << 10
)

// count notes an item that waits, or (by -1) does not any more.
func (b *backlog) count(it *item, by int) {
	b.bytes += itemCost * int64(by)
	switch n := it.size(); {
	case it.msg == nil:
	case n < largeMessage:
		b.bytes += int64(n * by)
	default:
		if b.large == nil {
			b.large = make(map[*mqtt.Message]int)
		}
		was := b.large[it.msg]
		now := was + by
		switch {
		case was == 0:
			b.bytes += int64(n)
		case now <= 0:
			b.bytes -= int64(n)
			delete(b.large, it.msg)
			return
		}
		b.large[it.msg] = now
	}
}

// leastPart is what a session may have in the backlog at any time, in bytes.
const leastPart = 1 << 10

// part is how many bytes one of n sessions may have in it now.
func (b *backlog) part(n int) int64 {
	return max((b.most-b.bytes)/4, b.most/int64(max(n, 1)), leastPart)
}

// full means that nothing at all may be added.
func (b *backlog) full() bool { return b.bytes >= 2*b.most }

// hold is what the outbox counts against its part.
func (o *outbox) hold() int64 { return int64(o.bytes) + itemCost*int64(len(o.pend)) }

// lot is how many bytes of its queue a session may read now, and what that is counted
// as meanwhile: an entry is read whole, however large. ok is false if the session has to
// stand in line. The caller counts held back.
func (c *core) lot(q *queue, o *outbox) (bytes int, held int64, ok bool) {
	if c.backlog.full() {
		return 0, 0, false
	}
	part := c.backlog.part(c.online)
	if o != nil {
		part -= o.hold()
	}
	bytes = int(min(max(part, 1), pageBytes))
	held = int64(bytes)
	if q.messages > 0 {
		held = max(held, int64(q.bytes/q.messages))
	}
	c.backlog.bytes += held
	return bytes, held, true
}

// queueUp has the session wait in line: it goes on when there is room again.
func (c *core) queueUp(s *session) {
	if s.active == nil || s.waiting {
		return
	}
	if len(c.backlog.line) == 0 {
		c.backlog.since = c.clock.now
	}
	s.waiting = true
	c.backlog.line = append(c.backlog.line, s)
	c.b.short.Store(true)
}

// feedMost is how many of the line go on in one round.
const feedMost = 256

// serveLine lets those in line go on while there is room.
func (c *core) serveLine() {
	l := &c.backlog
	for n := min(len(l.line), feedMost); n > 0 && !c.b.outputFull() && !l.full(); n-- {
		s := l.line[0]
		l.line[0] = nil
		l.line = l.line[1:]
		if s.active == nil {
			continue
		}
		if s.waiting = false; s.ready() {
			c.pump(s)
		}
	}
	if len(l.line) == 0 {
		l.line = nil
	}
	c.b.short.Store(len(l.line) > 0)
}

// stallMost is how long a client may take nothing of what waits for it while others
// stand in line, in ms.
const stallMost = 5000

// relieve makes room: it hangs up on clients that take nothing of what they hold. What
// waits for a lasting session stays on disk.
func (c *core) relieve() {
	l := &c.backlog
	if now := c.clock.now; !c.b.outputFull() && !l.full() && (len(l.line) == 0 || now-l.since < 1000) || now-c.relieved < 1000 {
		return
	}
	c.relieved = c.clock.now
	for _, cn := range c.b.connections() {
		s := cn.sess
		if s == nil || s.conn != cn {
			continue
		}
		waits := s.out != nil && !s.waiting && (len(s.out.pend) > 0 || l.full()) && c.clock.now-s.out.moved > stallMost
		if waits || cn.stalledFor(time.Now()) > stallMost*time.Millisecond {
			c.b.stats.overflow.Add(1)
			c.b.often.warn("a client that does not read was hung up on: others need the memory", "client", s.key.client, "remote", cn.remote())
			c.drop(cn, mqtt.QuotaExceeded, "what waits for this client takes memory that others need")
		}
	}
}

// connections are those that are open.
func (b *Broker) connections() []*conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]*conn, 0, len(b.open))
	for c := range b.open {
		all = append(all, c)
	}
	return all
}
