package broker

import (
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/retained"
)

// sweep deletes retained messages that have expired, or were kept for as long as is
// configured, so that they neither take room nor count. It goes through the table in
// pages, read by a worker, when the first known end has passed. Owned by the core.
type sweep struct {
	retained.Sweep
	reading bool
	// next is when the next page, or the next round, may be read (ms).
	next int64
}

const (
	sweepPage  = 1000   // ms between two pages, of which the first found not all it could
	sweepRound = 60_000 // ms between two rounds
)

// term is what retained messages have to end by.
func (c *core) term() retained.Term {
	return retained.Term{Now: c.clock.now, Keep: c.cfg.Limits.RetainedKeep.Milliseconds()}
}

// sweepOn reads the next page if it is due.
func (c *core) sweepOn() {
	w, now := &c.sweep, c.clock.now
	if w.reading || now < w.next || w.After == "" && (w.Earliest == 0 || w.Earliest > now) {
		return
	}
	if w.After == "" {
		w.Earliest = 0 // this round finds it anew
	}
	w.reading = true
	next, term, from := w.Sweep, c.term(), c.released
	c.b.work(func() {
		var gone []string
		full, err := next.Next(retainedTable{c.store}, term, func(topic string) { gone = append(gone, topic) })
		c.mail.post(command{kind: cmdCall, call: func() { c.endPage(next, gone, full, from, err) }})
	})
}

// endPage deletes what a page found that began when batch from was on disk: what has
// not changed since.
func (c *core) endPage(next retained.Sweep, gone []string, full bool, from uint64, err error) {
	w := &c.sweep
	w.reading, w.next = false, c.clock.now+sweepPage
	if err != nil {
		c.log.Error("retained messages could not be read", "err", err)
		return
	}
	if from < c.forgotten {
		return // once more
	}
	if full {
		w.next = c.clock.now
	}
	for _, topic := range gone {
		if c.changedSince(from, topic) {
			continue
		}
		c.changes(topic)
		c.cur.w.Delete(tableRetained, []byte(topic))
		c.topics.Delete(topic)
		c.b.stats.retainedEnded.Add(1)
	}
	next.Expect(w.Earliest) // of what came meanwhile
	if w.Sweep = next; next.Done {
		w.After, w.Done, w.next = "", false, c.clock.now+sweepRound
	}
}

// retainedOver reports whether a retained message would go beyond the bound on bytes. One
// that takes no more than what it replaces does not.
func (c *core) retainedOver(m *mqtt.Message) bool {
	if c.topics.Bytes()+1<<20 < c.cfg.Limits.RetainedBytes { // a packet is much smaller
		return false
	}
	r := c.record(m, nil)
	more := int64(len(r.Append(nil)) - c.topics.Size(m.Topic))
	return more > 0 && c.topics.Bytes()+more > c.cfg.Limits.RetainedBytes
}
