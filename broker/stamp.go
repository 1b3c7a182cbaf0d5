package broker

import "github.com/geocast/geocast/mqtt"

// stamps order the changes of retained messages against the replays: a replay is of
// what stood at its SUBSCRIBE's place, also within one batch, and leaves out what
// changed since, which its session gets live. Owned by the core.
type stamps struct {
	// stamp is what a change gets; each SUBSCRIBE that replays ends it.
	stamp uint64
	// retainedIn is the last batch with a change in it.
	retainedIn uint64
	// reading is how many pages of replays are being read. changed are the topics
	// that changed while any was, with their stamps; lostChanges counts how often it
	// was emptied because it had become too large.
	reading     int
	changed     map[string]uint64
	lostChanges int
}

// mostChanges bounds changed.
const mostChanges = 1 << 16

// asOf is the place of a SUBSCRIBE.
func (s *stamps) asOf() uint64 {
	s.stamp++
	return s.stamp - 1
}

// changes notes that the retained message of a topic is being changed.
func (c *core) changes(topic string) {
	c.retainedIn = c.cur.n
	if c.reading == 0 {
		return
	}
	if c.changed == nil {
		c.changed = make(map[string]uint64)
	}
	if len(c.changed) >= mostChanges {
		clear(c.changed)
		c.lostChanges++
	}
	c.changed[topic] = c.stamp
}

// unchanged ends the reading of a page and leaves out what changed meanwhile: what
// was read of it is older than what its session has been sent. lost is lostChanges
// as the reading began; current is false if that can't be told any more.
func (c *core) unchanged(asOf uint64, lost int, page []*mqtt.Message) (rest []*mqtt.Message, current bool) {
	rest = page[:0]
	for _, m := range page {
		if c.changed[m.Topic] <= asOf {
			rest = append(rest, m)
		}
	}
	current = lost == c.lostChanges
	if c.reading--; c.reading == 0 {
		c.changed = nil
	}
	return rest, current
}
