package broker

import (
	"runtime"
	"sync"
	"time"
)

// turn is whose turn it is to be the core: one goroutine at a time applies what waits,
// and its state is nobody's without the mutex. There is a goroutine for that, and a
// poller that has read something may do it itself: waking others for a single message
// would cost more than all the rest of it.
type turn struct {
	sync.Mutex
	linger *time.Timer // wakes the goroutine when the open batch has lingered
	due    time.Time   // until when that is; zero if it is not waiting for that
	over   bool        // the core has stopped
}

// loop takes a turn whenever something has come or time has passed, until the core has
// stopped and its last batch is committed, or the store has failed: then nothing
// further leaves.
func (c *core) loop(done chan<- struct{}) {
	defer close(done)
	defer close(c.commits)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for over := false; !over; {
		ticked := false
		select {
		case <-c.mail.wake:
			runtime.Gosched() // others that are about to post do so first
		case <-tick.C:
			ticked = true
		case <-c.turn.linger.C:
		}
		c.turn.Lock()
		if ticked {
			c.tick()
		}
		c.round()
		c.flush()
		over = c.turn.over
		c.turn.Unlock()
		if c.mail.waits() > 0 {
			c.mail.signal()
		}
	}
}

// turnMost is for how many commands a poller takes a turn: more are worth to wake the
// goroutine, and those whom the poller reads would wait long.
const turnMost = 256

// turnsInRow is how many turns a poller takes before it reads again.
const turnsInRow = 4

// runs sees to it that what waits is applied: by the caller, unless somebody else is
// the core now, who then looks again. The caller must be ready to write to connections.
func (c *core) runs() {
	for range turnsInRow {
		n := c.mail.waits()
		if n > turnMost {
			break
		}
		if n == 0 || !c.turn.TryLock() {
			return
		}
		c.round()
		var mine [fewOutputs]*conn
		n = c.few(mine[:])
		c.turn.Unlock()
		for _, cn := range mine[:n] {
			cn.drain()
		}
	}
	c.mail.signal()
}

// flushEvery is after how many commands of a long round output is handed on.
const flushEvery = 256

// round applies what waits.
func (c *core) round() {
	if c.turn.over {
		return
	}
	began := time.Now()
	c.b.clockMs.Store(c.clock.advance(began))
	cmds := inOrder(c.mail.take())
	for i, cmd := range cmds {
		if c.take(cmd); i%flushEvery == flushEvery-1 {
			c.flush()
		}
	}
	clear(cmds) // the mailbox keeps the slice, not what a burst has brought
	c.serveLine()
	if c.turn.over = c.failed || c.stopping && c.syncing == nil && !c.dirty(); c.turn.over {
		return
	}
	c.commitWhenDue()
	c.b.stats.busy.Add(int64(time.Since(began)))
}

func (c *core) dirty() bool { return c.cur.kept || c.cur.w.Len() > 0 || len(c.cur.effects) > 0 }

// commitWhenDue hands the open batch to the committer if that is idle and the
// batch has nothing to wait for. A batch of one connection does not linger;
// lazy writes alone wait a second.
func (c *core) commitWhenDue() {
	t := &c.turn
	if c.syncing != nil || !c.dirty() {
		t.due = time.Time{}
		return
	}
	now := time.Now()
	wait := time.Duration(0)
	switch {
	case c.stopping || c.full():
	case !c.cur.kept:
		wait = time.Second
	case c.cur.many && c.cfg.Linger > 0:
		wait = c.cfg.Linger
	}
	if t.due.IsZero() || now.Add(wait).Before(t.due) {
		t.due = now.Add(wait)
	}
	if rest := t.due.Sub(now); rest > 0 {
		t.linger.Reset(rest)
		return
	}
	c.seal()
	t.due = time.Time{}
}

// fewOutputs is for how many connections whoever has had a turn writes itself.
const fewOutputs = 32

// few moves the connections that have output to mine and returns how many they are; or
// gives them to the flushers if mine is too small.
func (c *core) few(mine []*conn) (n int) {
	for _, conns := range c.outputs {
		n += len(conns)
	}
	if n > len(mine) {
		c.flush()
		return 0
	}
	c.lighten()
	for i, conns := range c.outputs {
		mine = mine[copy(mine, conns):]
		clear(conns)
		c.outputs[i] = conns[:0]
	}
	return n
}
