package broker

import (
	"container/heap"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// timers are what the core does at a time, by core time.
type timers struct{ heap timerHeap }

type timer struct {
	at int64
	do func()
}

type timerHeap []timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}

func (t *timers) add(at int64, do func()) { heap.Push(&t.heap, timer{at, do}) }

// due runs what is due, at most n of it, and reports whether it ran something.
func (t *timers) due(now int64, n int) (ran bool) {
	for ; n > 0 && len(t.heap) > 0 && t.heap[0].at <= now; n-- {
		heap.Pop(&t.heap).(timer).do()
		ran = true
	}
	return ran
}

// tick is the core's share of time passing: timers, keepalives, lazy writes.
func (c *core) tick() {
	now := c.clock.advance(time.Now())
	c.b.clockMs.Store(now)
	c.gauge()
	for n := 0; n < 1000 && !c.full() && c.timers.due(now, 1); n++ {
	}
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
	c.timers.add(c.clock.now+rest.Milliseconds(), func() { c.checkAlive(cn) })
}

func (c *core) checkAlive(cn *conn) {
	if cn.sess == nil || cn.sess.conn != cn {
		return
	}
	rest := cn.silence - cn.silent()
	if rest <= 0 {
		c.drop(cn, mqtt.KeepAliveTimeout, "nothing was heard for 1.5 times the keep alive")
		return
	}
	c.checkLater(cn, rest)
}

// unwatch lets go of a connection; its timer finds that out by itself.
func (c *core) unwatch(cn *conn) { cn.sess = nil }
