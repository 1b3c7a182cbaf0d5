package broker

import (
	"time"

	"github.com/geocast/geocast/mqtt"
)

// schedule holds values by when they are due, in core time (ms): a heap. The zero
// value is empty.
type schedule[T any] struct{ heap []due[T] }

type due[T any] struct {
	at int64
	v  T
}

// add puts a value in.
func (s *schedule[T]) add(at int64, v T) {
	s.heap = append(s.heap, due[T]{at, v})
	for i := len(s.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if s.heap[up].at <= s.heap[i].at {
			break
		}
		s.heap[up], s.heap[i] = s.heap[i], s.heap[up]
		i = up
	}
}

// take removes the first value if it is due.
func (s *schedule[T]) take(now int64) (first due[T], ok bool) {
	if len(s.heap) == 0 || s.heap[0].at > now {
		return first, false
	}
	first = s.heap[0]
	n := len(s.heap) - 1
	s.heap[0], s.heap[n] = s.heap[n], due[T]{}
	s.heap = s.heap[:n]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child < min(2*i+3, n); child++ {
			if s.heap[child].at < s.heap[least].at {
				least = child
			}
		}
		if least == i {
			return first, true
		}
		s.heap[i], s.heap[least] = s.heap[least], s.heap[i]
		i = least
	}
}

// pass runs do for what is due, while the core has room and at most n times.
func pass[T any](c *core, s *schedule[T], now int64, n int, do func(at int64, v T)) {
	for ; n > 0 && !c.full(); n-- {
		first, ok := s.take(now)
		if !ok {
			return
		}
		do(first.at, first.v)
	}
}

// tick is the core's share of time passing: timers, keepalives, lazy writes.
func (c *core) tick() {
	now := c.clock.advance(time.Now())
	c.b.clockMs.Store(now)
	c.gauge()
	c.relieve()
	c.tickAges(now)
	c.sweepOn()
	pass(c, &c.timers, now, 1000, func(_ int64, do func()) { do() })
	pass(c, &c.looks, now, 1000, func(at int64, s *session) {
		if s.look == at { // else an earlier one has taken its place
			s.look = 0
			c.look(s)
		}
	})
	pass(c, &c.keeping, now, 1000, func(at int64, u *user) {
		if u.look == at { // else an earlier one has taken its place
			u.look = 0
			c.sweepInbox(u)
		}
	})
	pass(c, &c.silences, now, 10_000, func(_ int64, cn *conn) { c.checkAlive(cn) })
	c.tickHooks()
	c.tickSys()
	if now-c.forgot > preparedFor {
		c.forgot = now
		for _, a := range c.appliers {
			a.forget(c.released, now)
		}
	}
}

// watch closes a connection that has been silent for 1.5 times its keep alive
// [MQTT-3.1.2-22]. One timer follows it; each time it looks when the connection
// last spoke.
func (c *core) watch(cn *conn) {
	if cn.silence <= 0 {
		return
	}
	c.checkLater(cn, cn.silence)
}

// checkLater looks at least once a minute, so that a closed connection with a
// long keep alive is not held by its timer.
func (c *core) checkLater(cn *conn, rest time.Duration) {
	rest = max(min(rest, time.Minute), time.Millisecond)
	c.silences.add(c.clock.now+rest.Milliseconds(), cn)
}

func (c *core) checkAlive(cn *conn) {
	if cn.sess == nil || cn.sess.conn != cn {
		return
	}
	rest := cn.silence - cn.silent()
	if rest <= 0 && cn.unheard() {
		rest = time.Second
	}
	if rest <= 0 {
		c.drop(cn, mqtt.KeepAliveTimeout, "nothing was heard for 1.5 times the keep alive")
		return
	}
	c.checkLater(cn, rest)
}

// unwatch lets go of a connection; its timer finds that out by itself.
func (c *core) unwatch(cn *conn) { cn.sess = nil }
