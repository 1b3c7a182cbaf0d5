package broker

import (
	"maps"

	"github.com/geocast/geocast/retained"
)

// stamps order the changes of retained messages against the replays: a replay is of
// what stood at its SUBSCRIBE's place, also within one batch, and leaves out what
// changed since, which its session gets live. Owned by the core.
type stamps struct {
	// stamp is what a change gets; each SUBSCRIBE that replays ends it.
	stamp uint64
	// retainedIn is the last batch with a change in it.
	retainedIn uint64
	// changed are the topics, by hash, that batches after forgotten have changed, with
	// the last batch: a page that was read while that was not on disk holds what they
	// were.
	changed   map[uint64]uint64
	forgotten uint64
}

// mostChanges bounds changed. It is far above what two batches hold, the open one and
// the one that syncs.
const mostChanges = 1 << 16

// asOf is the place of a SUBSCRIBE.
func (s *stamps) asOf() uint64 {
	s.stamp++
	return s.stamp - 1
}

// changes notes that the retained message of a topic is being changed.
func (c *core) changes(topic string) {
	c.retainedIn = c.cur.n
	if len(c.changed) >= mostChanges {
		c.forgetChanges()
	}
	if c.changed == nil {
		c.changed = make(map[uint64]uint64)
	}
	c.changed[retained.Hash(topic)] = c.cur.n
}

// forgetChanges forgets those that are on disk. What is being read now has to be read
// once more.
func (c *core) forgetChanges() {
	c.forgotten = c.released
	maps.DeleteFunc(c.changed, func(_, batch uint64) bool { return batch <= c.released })
}

// changedSince reports whether a topic was changed in a batch after that one.
func (s *stamps) changedSince(batch uint64, topic string) bool {
	return s.changed[retained.Hash(topic)] > batch
}
