package broker

import (
	"encoding/binary"
	"log/slog"
	"sync"
	"time"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// bound sees to it that a queue that is over its bounds loses its oldest
// messages. It goes a little below, so that a queue at its bound isn't read for
// each new message.
func (c *core) bound(q *queue) {
	if q.trimming || !c.over(q, 1) {
		return
	}
	q.trimming = true
	c.trim(q)
}

// over reports whether the queue holds more than share of its bounds.
func (c *core) over(q *queue, share float64) bool {
	l := c.cfg.Limits
	return float64(q.messages) > share*float64(l.QueueMessages) || float64(q.bytes) > share*float64(l.QueueBytes)
}

// oldest is an entry at the head of a log, with what it holds.
type oldest struct {
	at     store.Pos
	items  int
	bytes  int
	bodies []uint64
}

// trim reads the oldest entries that no connection has in its window, and has
// them removed, in steps.
func (c *core) trim(q *queue) {
	after := q.read
	if q.owner != nil && q.owner.conn == nil {
		after = 0
	}
	log := q.log
	c.b.work(func() {
		var head []oldest
		held, err := c.exchanges(q)
		if err != nil {
			c.log.Error("a session's exchanges could not be read", "err", err)
		}
		err = c.store.Read(log, after, eraseStep, 1<<20, func(at store.Pos, v []byte) bool {
			if held[at] {
				return true
			}
			o := oldest{at: at}
			items, _ := decodeItems(v, func(uint64) *mqtt.Message { return nil })
			for i := range items {
				o.items++
				o.bytes += items[i].size()
				o.bodies = append(o.bodies, items[i].body)
			}
			head = append(head, o)
			return true
		})
		if err != nil {
			c.log.Error("queue could not be read", "err", err)
		}
		c.mail.post(command{kind: cmdCall, call: func() { c.cutHead(q, head) }})
	})
}

// exchanges are the entries whose QoS 2 messages the client may know by an identifier:
// that must not be given to another message before the exchange has ended.
func (c *core) exchanges(q *queue) (held map[store.Pos]bool, err error) {
	if q.owner == nil {
		return nil, nil
	}
	held = make(map[store.Pos]bool)
	err = c.store.Scan(tableOut2, be8(q.owner.id), nil, func(_, v []byte) store.Next {
		if len(v) >= 13 && v[2] == out2Sent {
			held[store.Pos(binary.BigEndian.Uint64(v[3:]))] = true
		}
		return store.Next{}
	})
	return held, err
}

// cutHead removes the oldest entries until the queue is within its bounds, of which age
// is one.
func (c *core) cutHead(q *queue, head []oldest) {
	q.trimming = false
	if q.gone || q.owner != nil && q.owner.gone {
		return // an erasure does it
	}
	lost, aged, online := 0, 0, q.owner == nil || q.owner.conn != nil
	for _, o := range head {
		if q.oldest = max(q.oldest, o.at); o.at > c.ages.cut && !c.over(q, 15.0/16) {
			break
		}
		if online && o.at <= q.read {
			continue
		}
		c.cur.w.Remove(q.log, o.at)
		q.oldest++
		q.messages -= o.items
		q.bytes -= o.bytes
		lost += o.items
		if o.at <= c.ages.cut {
			aged += o.items
		}
		for _, n := range o.bodies {
			c.unref(n)
		}
	}
	if lost == 0 {
		return
	}
	q.cutIn = c.cur.n
	why := "a queue is full: its oldest messages were dropped"
	if aged == lost {
		why = outlivedText
	}
	c.lose(q, lost, why)
	if q.owner != nil {
		c.putSession(q.owner)
	}
	c.then(func() {
		c.bound(q)
		c.age(q)
	})
}

// lose counts what a queue has lost to its bounds; its client is told with its next
// CONNACK.
func (c *core) lose(q *queue, lost int, why string) {
	c.b.stats.overflow.Add(uint64(lost))
	client := ""
	if s := q.owner; s != nil {
		s.wake().dropped += uint64(lost)
		client = s.key.client
	}
	c.b.often.warn(why, "client", client, "dropped", lost)
}

// oftenLog logs a kind of line at most once a minute, with how many there were.
type oftenLog struct {
	log  *slog.Logger
	mu   sync.Mutex
	last map[string]*oftenLine
}

type oftenLine struct {
	at    time.Time
	lines int // since at; see some
	more  int
}

// line is what is known of a kind of line; mu is held.
func (o *oftenLog) line(text string) *oftenLine {
	l := o.last[text]
	if l == nil {
		if o.last == nil {
			o.last = make(map[string]*oftenLine)
		}
		l = &oftenLine{}
		o.last[text] = l
	}
	return l
}

// warn logs, or counts for the next line of the same text.
func (o *oftenLog) warn(text string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.line(text)
	if now := time.Now(); now.Sub(l.at) >= time.Minute {
		if l.more > 0 {
			args = append(args, "more_since_last_line", l.more)
		}
		o.log.Warn(text, args...)
		l.at, l.more = now, 0
		return
	}
	l.more++
}
