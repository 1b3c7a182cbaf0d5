// Package store is the seam behind which everything durable lives: it speaks of
// logs, cursors and tables, which are written in batches.
//
// A [Batch] collects writes; [Store.Commit] makes all of it durable with one
// fsync, or nothing. [Open] gives a store on disk (Badger), [NewMemory] its twin in
// memory, for tests and for brokers that keep nothing.
package store

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// Errors that callers test for.
var (
	// ErrNotFound is returned by Get for a key that is not there.
	ErrNotFound = errors.New("store: not found")
	// ErrInUse is returned by Open for a folder that another process has open.
	ErrInUse = errors.New("store: the data folder is in use by another process")
	// ErrNewerFormat is returned by Open for a store of a later version.
	ErrNewerFormat = errors.New("store: the data folder was written by a newer version")
	// ErrNoSpace is returned by Open for a volume that is too full to start on.
	ErrNoSpace = errors.New("store: the disk is full")
	// ErrTooBig is returned by Commit for a batch with a write that is larger than
	// Limit, or has a key longer than MaxKey; nothing of the batch was written.
	ErrTooBig = errors.New("store: a write is too big")
	// ErrFailed is returned by Commit after one that failed: what is on disk is
	// not known any more, and the process must stop.
	ErrFailed = errors.New("store: an earlier commit failed")
)

// MaxKey is how long a record's key may be, in bytes.
const MaxKey = 64_000

// Table is a set of records by key. The caller chooses numbers from 0x20 on;
// they are on disk and must never change their meaning.
type Table byte

// Log names an ordered stream of entries of one home: a session's queue, a
// user's inbox.
type Log struct {
	Kind byte
	ID   uint64
}

// Pos is an entry's place in its log. It is given by the writer and rises; for
// everybody else it is opaque.
type Pos uint64

// Batch is a set of writes. It has one owner; the zero value is empty. Keys and
// values are not copied and must not change until it is committed.
type Batch struct {
	ops  []op
	size int
}

type op struct {
	key, value []byte
	del        bool
}

// Put sets a record.
func (b *Batch) Put(t Table, key, value []byte) { b.add(op{tableKey(t, key), value, false}) }

// Delete removes a record; it need not be there.
func (b *Batch) Delete(t Table, key []byte) { b.add(op{tableKey(t, key), nil, true}) }

// Append adds an entry to a log. at must be above every place that the log has
// had.
func (b *Batch) Append(l Log, at Pos, value []byte) { b.add(op{logKey(l, at), value, false}) }

// Remove deletes an entry; it need not be there.
func (b *Batch) Remove(l Log, at Pos) { b.add(op{logKey(l, at), nil, true}) }

func (b *Batch) add(o op) {
	b.ops = append(b.ops, o)
	b.size += o.size()
}

// fits reports whether each write is one that a store takes at all.
func (b *Batch) fits(most int) bool {
	return !slices.ContainsFunc(b.ops, func(o op) bool { return len(o.key) > MaxKey+1 || o.size() > most })
}

func (o *op) size() int { return len(o.key) + len(o.value) + 32 }

// Len is the number of writes.
func (b *Batch) Len() int { return len(b.ops) }

// Size is about what the batch takes of Limit, in bytes.
func (b *Batch) Size() int { return b.size }

// Reset empties the batch.
func (b *Batch) Reset() { b.ops, b.size = b.ops[:0], 0 }

// Next says how a scan goes on. The zero value means: with the next key.
type Next struct {
	stop bool
	seek []byte
}

// Stop ends a scan.
var Stop = Next{stop: true}

// SkipTo goes on with the first key that is not below key.
func SkipTo(key []byte) Next { return Next{seek: key} }

// Store is a durable store. Reads may run concurrently with each other and with
// one Commit; they see what is committed.
type Store interface {
	// Commit makes b durable, all or nothing; the caller sees to it that one
	// runs at a time. Any error but ErrTooBig is final: see ErrFailed.
	Commit(b *Batch) error
	// Limit is what one batch should hold: a larger one costs several fsyncs, and
	// is seen by concurrent reads in parts, from its first write to its last.
	Limit() (entries, bytes int)
	// Get returns a record's value, the caller's own, or ErrNotFound.
	Get(t Table, key []byte) ([]byte, error)
	// Scan calls fn for the records of t whose keys begin with prefix, in byte
	// order, from the first key ≥ from. Key and value are valid during the
	// call. It sees one state of the store.
	Scan(t Table, prefix, from []byte, fn func(key, value []byte) Next) error
	// Read calls fn for the entries of l after a place, in order: at most
	// maxEntries, and no further one once maxBytes were passed.
	Read(l Log, after Pos, maxEntries, maxBytes int, fn func(at Pos, value []byte) bool) error
	// Logs calls fn for every entry of every log of a kind.
	Logs(kind byte, fn func(id uint64, at Pos, value []byte) bool) error
	// Backup writes what was committed after version since (0 for all) and
	// returns the version to go on from.
	Backup(w io.Writer, since uint64) (uint64, error)
	// Close ends the store; nothing may be called after it.
	Close() error
}

// Keys: a log's entry is kind, id, place; a table's record is table, key. Kinds
// of logs are letters, so they are above every table.
func tableKey(t Table, key []byte) []byte { return append([]byte{byte(t)}, key...) }

func logKey(l Log, at Pos) []byte {
	k := binary.BigEndian.AppendUint64([]byte{l.Kind}, l.ID)
	return binary.BigEndian.AppendUint64(k, uint64(at))
}

func logPrefix(l Log) []byte { return binary.BigEndian.AppendUint64([]byte{l.Kind}, l.ID) }

// engine is the ordered byte map that a Store is made of.
type engine interface {
	// walk calls fn for keys with prefix from the first ≥ from; see Next, whose
	// seek is a whole key here.
	walk(prefix, from []byte, fn func(key, value []byte) Next) error
}

func scan(e engine, t Table, prefix, from []byte, fn func(key, value []byte) Next) error {
	p := tableKey(t, prefix)
	f := p
	if len(from) > 0 {
		f = tableKey(t, from)
	}
	return e.walk(p, f, func(key, value []byte) Next {
		n := fn(key[1:], value)
		if n.seek != nil {
			n.seek = tableKey(t, n.seek)
		}
		return n
	})
}

func read(e engine, l Log, after Pos, maxEntries, maxBytes int, fn func(at Pos, value []byte) bool) error {
	if maxEntries <= 0 || after == Pos(^uint64(0)) {
		return nil
	}
	return e.walk(logPrefix(l), logKey(l, after+1), func(key, value []byte) Next {
		maxEntries--
		maxBytes -= len(value)
		if !fn(Pos(binary.BigEndian.Uint64(key[9:])), value) || maxEntries <= 0 || maxBytes <= 0 {
			return Stop
		}
		return Next{}
	})
}

func logs(e engine, kind byte, fn func(id uint64, at Pos, value []byte) bool) error {
	return e.walk([]byte{kind}, []byte{kind}, func(key, value []byte) Next {
		if !fn(binary.BigEndian.Uint64(key[1:]), Pos(binary.BigEndian.Uint64(key[9:])), value) {
			return Stop
		}
		return Next{}
	})
}
