package broker

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/retained"
	"github.com/geocast/geocast/store"
)

const tableReplay store.Table = 0x2f // session id, filter → an unfinished replay

// replay sends the retained messages of one new subscription, in pages, in
// topic order, over what stood at the SUBSCRIBE's place in the order. That of a
// lasting session goes on after a reconnect or a restart.
type replay struct {
	cursor  retained.Replay
	options subOptions
	// open is what was sent and is not yet acknowledged, in order, so that the saved
	// place moves only over what arrived; sent counts what was sent.
	open []openTopic
	sent store.Pos
}

// openTopic is the topic of the n-th message that a replay has sent.
type openTopic struct {
	n     store.Pos
	topic string
}

func (c *core) newReplay(s *session, filter string, o subOptions) *replay {
	if c.topics.Len() == 0 {
		c.dropReplay(s, filter)
		return nil
	}
	s.replays.remove(filter)
	r := &replay{cursor: retained.Replay{Filter: filter, AsOf: c.asOf(), QoS: o.qos}, options: o}
	c.saveReplay(s, r)
	return r
}

// safe is the last topic up to which everything arrived.
func (r *replay) safe() string {
	if len(r.open) == 0 {
		return r.cursor.After
	}
	return r.open[0].topic // is sent again: At Least Once
}

// acked notes that the n-th message arrived.
func (r *replay) acked(n store.Pos) {
	if i := slices.IndexFunc(r.open, func(o openTopic) bool { return o.n == n }); i >= 0 {
		r.open = slices.Delete(r.open, i, i+1)
	}
}

func replayKey(s *session, filter string) []byte { return append(be8(s.id), filter...) }

// saveReplay keeps a lasting session's replay; it rides on the next batch. The
// record is kind, version, whether the topic itself is still to be sent, AsOf, the
// options, the topic.
func (c *core) saveReplay(s *session, r *replay) {
	if !s.lasting {
		return
	}
	again := byte(0)
	if len(r.open) > 0 {
		again = 1
	}
	rec := binary.BigEndian.AppendUint64([]byte{'Y', 1, again}, r.cursor.AsOf)
	rec = append(r.options.append(rec), r.safe()...)
	c.cur.w.Put(tableReplay, replayKey(s, r.cursor.Filter), rec)
}

func decodeReplay(filter string, v []byte) (*replay, error) {
	if err := checkRecord(v, 'Y', 18); err != nil {
		return nil, err
	}
	o, err := decodeSubOptions(v[11:18])
	if err != nil {
		return nil, err
	}
	r := &replay{cursor: retained.Replay{Filter: filter, AsOf: binary.BigEndian.Uint64(v[3:]), After: string(v[18:]), QoS: o.qos}, options: o}
	if v[2] == 1 {
		r.open = []openTopic{{topic: r.cursor.After}}
	}
	r.rewind()
	return r, nil
}

// rewind goes back to what has not arrived.
func (r *replay) rewind() {
	r.cursor.Done = false
	if len(r.open) > 0 {
		r.cursor.After, r.cursor.Again = r.open[0].topic, true
		r.open = nil
	}
}

// retune lets the replay of a filter, if it has not ended, go on with other options.
func (s *session) retune(filter string, o subOptions) {
	if r := s.replays.get(filter); r != nil {
		r.options, r.cursor.QoS = o, o.qos
	}
}

// dropReplay ends a filter's replay, also one that has not begun.
func (c *core) dropReplay(s *session, filter string) {
	s.replays.remove(filter)
	if s.lasting {
		c.cur.w.Delete(tableReplay, replayKey(s, filter))
	}
}

// pauseReplays is for a connection that ends: what had not arrived is sent on the
// next one.
func (c *core) pauseReplays(s *session) {
	for _, r := range s.replays.all() {
		c.saveReplay(s, r)
		r.rewind()
	}
}

// resumeReplays is for a connection that begins.
func (c *core) resumeReplays(s *session) {
	if s.replays.len() == 0 {
		return
	}
	at := c.asOf()
	for _, r := range s.replays.all() {
		r.cursor.Resumed = at
	}
}

// restoreReplays reads the replays that had not finished.
func (c *core) restoreReplays(byID sessionList) error {
	return c.scan("replay of retained messages", tableReplay, 8, func(key, v []byte) error {
		id, filter := binary.BigEndian.Uint64(key), string(key[8:])
		s := byID.find(id)
		if s == nil { // left by an interrupted erasure
			c.mail.post(command{kind: cmdCall, call: func() { c.eraseTable(tableReplay, id) }})
			return nil
		}
		o, ok := s.subs.get(filter)
		if !ok {
			c.cur.w.Delete(tableReplay, append([]byte(nil), key...))
			return nil
		}
		r, err := decodeReplay(filter, v)
		if errors.Is(err, mqtt.ErrNewer) {
			return err
		}
		s.wake()
		if err != nil { // it begins anew: at least once
			c.damaged("replay of retained messages", key, v, err)
			r = &replay{cursor: retained.Replay{Filter: filter, AsOf: c.asOf(), QoS: o.qos}, options: o}
			c.saveReplay(s, r)
		}
		s.replays.add(r)
		return nil
	})
}

// startReplays begins the replays of a SUBSCRIBE once what it saw is committed.
func (c *core) startReplays(s *session, cn *conn, rs []*replay) {
	if s.gone || s.conn != cn && !s.lasting || len(rs) == 0 {
		return
	}
	if n := c.retainedIn; n > c.released { // what stood there can't be read yet
		b := c.batchOf(n)
		b.effects = append(b.effects, effect{do: func() { c.beginReplays(s, cn, rs) }})
		return
	}
	c.beginReplays(s, cn, rs)
}

// beginReplays is startReplays for what can be read. It does not look at later
// batches: if every one holds a retained change, that would be for ever. Of several
// SUBSCRIBEs of one filter the last one's replay is what goes on.
func (c *core) beginReplays(s *session, cn *conn, rs []*replay) {
	if s.gone || s.conn != cn && !s.lasting {
		return
	}
	for _, r := range rs {
		if s.subs.has(r.cursor.Filter) {
			s.wake()
			s.replays.add(r)
		}
	}
	if s.ready() {
		c.replayOn(s)
	}
}

// arrived reports whether all of it was read, sent and acknowledged.
func (r *replay) arrived() bool { return r.cursor.Done && len(r.open) == 0 }
