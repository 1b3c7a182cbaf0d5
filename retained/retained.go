// Package retained is what stays on a topic, matched by filter: the stored form
// of a retained message, a cursor that replays those of one filter in pages, and
// a count of what is there. It does no I/O; the table is given by the caller.
package retained

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"strings"

	"github.com/geocast/geocast/mqtt"
)

// Scanner walks records in the byte order of their topics.
type Scanner interface {
	// ScanRetained calls fn from the first topic ≥ from that has prefix; fn
	// returns the topic to seek to (nil: the next one), and whether to go on.
	ScanRetained(prefix, from []byte, fn func(topic, record []byte) (seek []byte, more bool)) error
}

// The stored form: 'R', version 1, the stamp, the message.
const (
	recordKind    = 'R'
	recordVersion = 1
)

// ErrRecord is returned for a record that is malformed.
var ErrRecord = errors.New("retained: malformed record")

// AppendRecord appends the stored form of a retained message. stamp is its place
// among all changes of retained messages and all replays, as the caller counts: it
// never falls, and rises between a replay's AsOf and a change after it.
func AppendRecord(dst []byte, stamp uint64, m *mqtt.Message) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, recordKind, recordVersion), stamp)
	return m.Append(dst)
}

// DecodeRecord is the inverse of AppendRecord. The message aliases b.
func DecodeRecord(b []byte) (stamp uint64, m *mqtt.Message, err error) {
	if len(b) < 10 || b[0] != recordKind {
		return 0, nil, ErrRecord
	}
	m, rest, err := mqtt.DecodeMessage(b[10:])
	if err != nil || len(rest) != 0 {
		return 0, nil, ErrRecord
	}
	return binary.BigEndian.Uint64(b[2:]), m, nil
}

// Replay is a cursor over the retained messages that one filter matches, in topic
// order, as of a stamp: what changed after it is left out, since it was
// delivered live. The zero value matches nothing.
type Replay struct {
	Filter string
	// AsOf is the stamp of the last change that counts.
	AsOf uint64
	// After is the last topic that was looked at.
	After string
	// Again means that After itself is to be looked at once more.
	Again bool
	// Done is true at the end.
	Done bool
}

// seekBudget bounds the records that one page looks at, matching or not.
const seekBudget = 4096

// Next calls fn for the next page: at most maxMessages, and no further one once
// maxBytes of payload were passed. now is the core's time (Unix ms), by which
// messages expire. It may find nothing and yet not be Done: its work is bounded.
func (r *Replay) Next(s Scanner, now int64, maxMessages, maxBytes int, fn func(*mqtt.Message)) error {
	prefix := literal(r.Filter)
	var from []byte
	if r.After != "" {
		if from = []byte(r.After); !r.Again {
			from = append(from, 0)
		}
	}
	r.Again = false
	budget, ended := seekBudget, true
	var bad error
	err := s.ScanRetained([]byte(prefix), from, func(topic, record []byte) ([]byte, bool) {
		t := string(topic)
		r.After = t
		budget--
		var seek []byte
		if mqtt.Match(r.Filter, t) {
			stamp, m, err := DecodeRecord(append([]byte(nil), record...))
			if err != nil {
				bad = err
				return nil, false
			}
			if stamp <= r.AsOf && (m.Expires == 0 || m.Expires > now) {
				fn(m)
				maxMessages--
				maxBytes -= len(m.Payload)
			}
		} else {
			seek = skip(r.Filter, t)
		}
		ended = maxMessages > 0 && maxBytes > 0 && budget > 0
		return seek, ended
	})
	r.Done = ended || err != nil || bad != nil
	return errors.Join(err, bad)
}

// Sweep is a cursor over all retained messages that finds those which have expired.
// The zero value is at the beginning.
type Sweep struct {
	// After is the last topic that was looked at.
	After string
	// Earliest is the earliest expiry (Unix ms) of what was looked at and stays,
	// 0 for none.
	Earliest int64
	// Done is true at the end.
	Done bool
}

// sweepMost bounds what one page finds.
const sweepMost = 256

// Next calls fn for the topics of the next page whose messages have expired at now,
// the core's time (Unix ms): 256 at most, of 4,096 records at most.
func (w *Sweep) Next(s Scanner, now int64, fn func(topic string)) error {
	var from []byte
	if w.After != "" {
		from = append([]byte(w.After), 0)
	}
	budget := seekBudget
	err := s.ScanRetained(nil, from, func(topic, record []byte) ([]byte, bool) {
		w.After = string(topic)
		budget--
		switch _, m, err := DecodeRecord(record); {
		case err != nil || m.Expires == 0:
		case m.Expires <= now:
			budget -= seekBudget / sweepMost
			fn(w.After)
		default:
			w.Expect(m.Expires)
		}
		return nil, budget > 0
	})
	w.Done = err == nil && budget > 0
	return err
}

// Expect notes that a message expires at that time (Unix ms), 0 for never.
func (w *Sweep) Expect(expires int64) {
	if expires != 0 && (w.Earliest == 0 || expires < w.Earliest) {
		w.Earliest = expires
	}
}

// literal is the part of a filter that every match begins with.
func literal(filter string) string {
	i := strings.IndexAny(filter, "+#")
	if i < 0 {
		return filter
	}
	if filter[i] == '#' && i > 0 {
		return filter[:i-1] // "a/#" matches "a", too
	}
	return filter[:i]
}

// skip returns the lowest topic above t that the filter may match, where a whole
// subtree can be left out: t differs from the filter at a level, so everything
// below that level does.
func skip(filter, t string) []byte {
	at := 0
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		level, _, tmore := strings.Cut(t[at:], "/")
		if f != "+" && f != level || !fmore {
			if !tmore {
				return nil
			}
			// Past all of "…/level/": '0' is the byte after '/'.
			return []byte(t[:at+len(level)] + "0")
		}
		if !tmore {
			return nil
		}
		filter, at = frest, at+len(level)+1
	}
}

// Topics counts what is retained without holding it, by a hash of each topic. The
// zero value is empty. It is for one goroutine.
type Topics struct {
	sizes map[uint64]uint32
	bytes int64
}

var seed = maphash.MakeSeed()

// Set notes that topic holds a record of size bytes.
func (t *Topics) Set(topic string, size int) {
	t.Delete(topic)
	if t.sizes == nil {
		t.sizes = make(map[uint64]uint32)
	}
	t.sizes[maphash.String(seed, topic)] = uint32(size)
	t.bytes += int64(size)
}

// Delete notes that topic holds nothing.
func (t *Topics) Delete(topic string) {
	h := maphash.String(seed, topic)
	t.bytes -= int64(t.sizes[h])
	delete(t.sizes, h)
}

// Len is the number of topics that hold something.
func (t *Topics) Len() int { return len(t.sizes) }

// Bytes is the size of all records.
func (t *Topics) Bytes() int64 { return t.bytes }

// Size is the size of what topic holds, 0 for nothing.
func (t *Topics) Size(topic string) int { return int(t.sizes[maphash.String(seed, topic)]) }

// Has reports whether topic holds something.
func (t *Topics) Has(topic string) bool {
	_, ok := t.sizes[maphash.String(seed, topic)]
	return ok
}
