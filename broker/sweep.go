package broker

import (
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/retained"
)

// sweep deletes retained messages whose expiry has passed, so that they neither take
// room nor count. It goes through the table in pages, read by a worker, when the first
// known expiry has passed. Owned by the core.
type sweep struct {
	retained.Sweep
	reading bool
	// next is when the next page, or the next round, may be read (ms).
	next int64
}

const (
	sweepPage  = 1000   // ms between two pages
	sweepRound = 60_000 // ms between two rounds
)

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
	c.reading++
	asOf, lost, next := c.asOf(), c.lostChanges, w.Sweep
	read := func() {
		c.b.work(func() {
			var gone []*mqtt.Message
			err := next.Next(retainedTable{c.store}, now, func(topic string) { gone = append(gone, &mqtt.Message{Topic: topic}) })
			c.mail.post(command{kind: cmdCall, call: func() {
				gone, current := c.unchanged(asOf, lost, gone)
				c.endPage(next, gone, err, current)
			}})
		})
	}
	if b := c.batchOf(c.retainedIn); b != nil { // what stands there can't be read yet
		b.effects = append(b.effects, effect{do: read})
		return
	}
	read()
}

// endPage deletes what a page found: that has not changed since.
func (c *core) endPage(next retained.Sweep, gone []*mqtt.Message, err error, current bool) {
	w := &c.sweep
	w.reading, w.next = false, c.clock.now+sweepPage
	if err != nil {
		c.log.Error("retained messages could not be read", "err", err)
		return
	}
	if !current {
		return // once more
	}
	for _, m := range gone {
		c.changes(m.Topic)
		c.cur.w.Delete(tableRetained, []byte(m.Topic))
		c.topics.Delete(m.Topic)
	}
	c.b.stats.expired.Add(uint64(len(gone)))
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
	more := int64(len(retained.AppendRecord(nil, 0, m)) - c.topics.Size(m.Topic))
	return more > 0 && c.topics.Bytes()+more > c.cfg.Limits.RetainedBytes
}
