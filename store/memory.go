package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// Memory is the twin of the store on disk: the same contract, and knobs by which
// a test makes it late, refusing, failing or forgetful.
type Memory struct {
	mu      sync.RWMutex
	values  *btree.Map[string, []byte]
	failed  error
	next    error         // what the next Commit fails with
	gate    chan struct{} // if set, a Commit takes one from it first
	late    chan struct{} // if set, a Commit takes one from it last
	synced  *btree.Map[string, []byte]
	forgets bool
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{values: new(btree.Map[string, []byte])} }

// Hold makes every Commit wait until it can receive from gate; a closed gate
// lets all through.
func (m *Memory) Hold(gate chan struct{}) { m.mu.Lock(); m.gate = gate; m.mu.Unlock() }

// HoldAnswers makes every Commit wait, once all is there to be read, until it can receive
// from gate; a closed gate lets all through.
func (m *Memory) HoldAnswers(gate chan struct{}) { m.mu.Lock(); m.late = gate; m.mu.Unlock() }

// FailNext lets the next Commit fail with err, as a failed fsync does.
func (m *Memory) FailNext(err error) { m.mu.Lock(); m.next = err; m.mu.Unlock() }

// Forget makes commits from now on pretend: they are visible, but Crash loses
// them, as a disk does that was not synced.
func (m *Memory) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgets, m.synced = true, m.values.Copy()
}

// Crash returns what a restart finds: all that was committed, less what Forget
// made it lose.
func (m *Memory) Crash() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.forgets {
		return &Memory{values: m.synced.Copy()}
	}
	return &Memory{values: m.values.Copy()}
}

// Limit is as that of a small store on disk.
func (m *Memory) Limit() (entries, bytes int) { return 16384, 1 << 20 }

// Commit applies b.
func (m *Memory) Commit(b *Batch) error {
	if _, most := m.Limit(); !b.fits(most) {
		return ErrTooBig
	}
	m.mu.RLock()
	gate, late := m.gate, m.late
	m.mu.RUnlock()
	if gate != nil {
		<-gate
	}
	err := m.apply(b)
	if late != nil {
		<-late
	}
	return err
}

func (m *Memory) apply(b *Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return m.failed
	}
	if m.next != nil {
		m.failed = errors.Join(ErrFailed, m.next)
		return m.next
	}
	for _, o := range b.ops {
		if o.del {
			m.values.Delete(string(o.key))
		} else {
			m.values.Set(string(o.key), bytes.Clone(o.value))
		}
	}
	return nil
}

// Get returns a record's value.
func (m *Memory) Get(t Table, key []byte) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v, ok := m.values.Get(string(tableKey(t, key)))
	if !ok {
		return nil, ErrNotFound
	}
	return bytes.Clone(v), nil
}

// walk works on a copy, which shares its nodes, so that fn may take its time.
func (m *Memory) walk(prefix, from []byte, fn func(key, value []byte) Next) error {
	m.mu.Lock()
	it := m.values.Copy().Iter()
	m.mu.Unlock()
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	for ok := it.Seek(string(from)); ok && strings.HasPrefix(it.Key(), string(prefix)); {
		next := fn([]byte(it.Key()), it.Value())
		switch {
		case next.stop:
			return nil
		case next.seek != nil && string(next.seek) > it.Key():
			ok = it.Seek(string(next.seek))
		default:
			ok = it.Next()
		}
	}
	return nil
}

// Scan walks a table.
func (m *Memory) Scan(t Table, prefix, from []byte, fn func(key, value []byte) Next) error {
	return scan(m, t, prefix, from, fn)
}

// Read reads a log.
func (m *Memory) Read(l Log, after Pos, maxEntries, maxBytes int, fn func(Pos, []byte) bool) error {
	return read(m, l, after, maxEntries, maxBytes, fn)
}

// Logs walks all logs of a kind.
func (m *Memory) Logs(kind byte, fn func(uint64, Pos, []byte) bool) error { return logs(m, kind, fn) }

// Backup writes every key and value, each with its length; since is not looked
// at.
func (m *Memory) Backup(w io.Writer, _ uint64) (uint64, error) {
	return 0, m.walk(nil, nil, func(key, value []byte) Next {
		rec := append(binary.AppendUvarint(nil, uint64(len(key))), key...)
		rec = append(binary.AppendUvarint(rec, uint64(len(value))), value...)
		if _, err := w.Write(rec); err != nil {
			return Stop
		}
		return Next{}
	})
}

// Close does nothing.
func (m *Memory) Close() error { return nil }
