package broker

import (
	"encoding/binary"
	"time"

	"github.com/geocast/geocast/store"
)

const tableAge store.Table = 0x31 // commit number → core time by which it was written

// ages tell how old a queue entry is: an entry's place is its commit's number, and it
// holds no time. Of some commits, one an hour at most, it is noted by when they were
// written. An entry therefore is never dropped too early, and at most one such step and
// an hour too late. Owned by the core.
type ages struct {
	marks []mark // by rising commit; the first may be at the cut
	// put is the last commit with queue entries, cut the last one that is older
	// than queues keep messages, as of the last tick.
	put, cut store.Pos
}

// mark says that a commit and those before it were written by at (ms).
type mark struct {
	commit store.Pos
	at     int64
}

// ageStep is how far apart marks are.
func (l *Limits) ageStep() int64 {
	return max(min(l.QueueKeep/16, time.Hour).Milliseconds(), 1)
}

// tickAges notes the time of the last entries, and moves the cut. Its writes ride on
// the next batch.
func (c *core) tickAges(now int64) {
	a, l := &c.ages, &c.cfg.Limits
	if l.QueueKeep < 0 {
		return
	}
	last := mark{}
	if n := len(a.marks); n > 0 {
		last = a.marks[n-1]
	}
	if a.put > last.commit && now-last.at >= l.ageStep() {
		a.marks = append(a.marks, mark{a.put, now})
		c.cur.w.Put(tableAge, be8(uint64(a.put)), binary.BigEndian.AppendUint64([]byte{'A', 1}, uint64(now)))
	}
	for n := 0; n < eraseStep && len(a.marks) > 0 && a.marks[0].at <= now-l.QueueKeep.Milliseconds(); n++ {
		a.cut = a.marks[0].commit
		c.cur.w.Delete(tableAge, be8(uint64(a.cut)))
		a.marks = a.marks[1:]
	}
}

// restoreAges reads the marks. What was written since the last one, or by a version
// that made none, counts from now.
func (c *core) restoreAges() error {
	c.ages.put = store.Pos(c.released)
	return c.scan("age", tableAge, 8, func(key, v []byte) error {
		err := checkRecord(v, 'A', 10)
		if err == nil {
			c.ages.marks = append(c.ages.marks, mark{store.Pos(binary.BigEndian.Uint64(key)), min(int64(binary.BigEndian.Uint64(v[2:])), c.clock.now)}) // later only after ResetClock
		}
		return err
	})
}

// outlived reports whether an item of a queue is older than queues keep them. What a
// client may have been sent goes on to its end [MQTT-4.4.0-1].
func (c *core) outlived(it *item) bool {
	return it.at != 0 && it.at <= c.ages.cut && it.from != nil && it.from.reader == nil && it.id == 0 && !it.dup
}

const outlivedText = "a queue held messages for longer than it keeps them: they were dropped"

// dropOutlived settles such an item, counted like an overflow.
func (c *core) dropOutlived(it *item) {
	c.lose(it.from, 1, outlivedText)
	c.settle(it)
}

// age sees to it that a queue loses what it has kept long enough.
func (c *core) age(q *queue) {
	if q.messages > 0 && q.oldest <= c.ages.cut && !q.trimming {
		q.trimming = true
		c.trim(q)
	}
}

// ageLater looks at a queue that begins to hold something: with the offline sessions, or
// by a timer of its group.
func (c *core) ageLater(q *queue) {
	if c.cfg.Limits.QueueKeep < 0 {
		return
	}
	if q.owner != nil {
		c.lookLater(q.owner)
		return
	}
	if q.timed {
		return
	}
	q.timed = true
	c.timers.add(c.clock.now+3_600_000, func() {
		if q.timed = false; q.messages > 0 && !q.gone {
			c.age(q)
			c.ageLater(q)
		}
	})
}
