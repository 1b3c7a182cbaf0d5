package broker

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// A record that can't be read is told with its key, counted and taken away, so that it
// is met once; what it stood for is announced where somebody can be told, as a cut is.
// Only two things end a start: a record of a newer version, which is no damage, and
// the loss of the core's own record, without which numbers would be given twice.

// recordVersion is the version of every record here. Records that a start does not
// read rise together with the core's own, which it reads first.
const recordVersion = 1

// errRecord says that a record is not what was written.
var errRecord = errors.New("it is not readable")

// errMissing says that there is no record where others need one.
var errMissing = errors.New("it is missing")

// checkRecord looks at a record's kind, version and least length.
func checkRecord(v []byte, kind byte, least int) error {
	switch {
	case len(v) < 2 || v[0] != kind || v[1] == 0:
		return errRecord
	case v[1] > recordVersion:
		return mqtt.ErrNewer
	case len(v) < least:
		return errRecord
	}
	return nil
}

// logKey is how an entry's place is told.
func logKey(kind byte, id uint64, at store.Pos) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{kind}, be8(id)...), uint64(at))
}

// damaged tells and counts a record that can't be read. It is safe for concurrent use.
func (c *core) damaged(what string, key, value []byte, err error) {
	c.b.stats.damaged.Add(1)
	c.b.often.some(slog.LevelError, "a record of the store is damaged: it goes on without", "record", what,
		"key", hex.EncodeToString(key), "begins", hex.EncodeToString(value[:min(len(value), 32)]), "err", err)
}

// discard is damaged, and has the record deleted. It is safe for concurrent use.
func (c *core) discard(what string, t store.Table, key, value []byte, err error) {
	c.damaged(what, key, value, err)
	key = bytes.Clone(key)
	c.mail.post(command{kind: cmdCall, call: func() { c.cur.w.Delete(t, key) }})
}

// skipDamaged lets go of a queue's entry that can't be read. How many messages it held
// is not known: one is announced.
func (c *core) skipDamaged(q *queue, at store.Pos) {
	c.cur.w.Remove(q.log, at)
	q.messages = max(q.messages-1, 0)
	c.loseDamaged(q)
}

// loseDamaged announces a message that a queue has lost to damage.
func (c *core) loseDamaged(q *queue) {
	c.lose(q, 1, "a queue lost a message to damage of the store")
	if q.owner != nil && q.owner.stored {
		c.putSession(q.owner)
	}
}

// settleLost settles an item whose body is not there: it had been delivered, and what
// referred to the body has gone, or it is lost.
func (c *core) settleLost(it *item) {
	if c.bodies[it.body] > 0 {
		c.loseDamaged(it.from)
	}
	c.settle(it)
}

// newer says what to do about a record of a newer version.
func newer(what string, t store.Table, key []byte) error {
	return fmt.Errorf("broker: the record of a %s (table 0x%02x, key %x) was written by a newer version of geocast: start that one, or restore a backup that this one made", what, byte(t), key)
}

// scan reads a table at a start. What read can't read is discarded, but if it is newer.
func (c *core) scan(what string, t store.Table, keyLen int, read func(key, v []byte) error) error {
	var bad error
	err := c.store.Scan(t, nil, nil, func(key, v []byte) store.Next {
		err := errRecord
		if len(key) >= keyLen {
			err = read(key, v)
		}
		switch {
		case err == nil:
		case errors.Is(err, mqtt.ErrNewer):
			bad = newer(what, t, key)
			return store.Stop
		default:
			c.discard(what, t, key, v, err)
		}
		return store.Next{}
	})
	return errors.Join(err, bad)
}
