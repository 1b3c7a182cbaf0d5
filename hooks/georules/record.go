package georules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/mqtt"
)

// The hook's records. Keys hold numbers and no names; values begin with their kind
// and version, and later versions only append fields.
//
//	e…               the engine's own
//	t id             a tracker: who it is, its newest fix, which fixes are kept
//	f id n           a fix: the n-th of its tracker, by arrival
const (
	engineRecord  = 'e'
	trackerRecord = 't'
	fixRecord     = 'f'
	recordVersion = 1
)

// errRecord is told of a record that can't be read.
var errRecord = errors.New("georules: a record is not readable")

func trackerKey(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{trackerRecord}, id) }

// fixesKey is the prefix of all fixes of a tracker.
func fixesKey(id uint64) []byte { return binary.BigEndian.AppendUint64([]byte{fixRecord}, id) }

func fixKey(id, n uint64) []byte { return binary.BigEndian.AppendUint64(fixesKey(id), n) }

// record returns t as it is stored.
func (t *tracker) record() []byte {
	v := append(make([]byte, 0, 64), trackerRecord, recordVersion)
	v = appendText(appendText(v, t.who), t.name)
	v = binary.AppendVarint(binary.AppendVarint(v, t.at), t.seen)
	v = binary.AppendUvarint(binary.AppendUvarint(v, t.first), t.next)
	v = binary.AppendUvarint(v, uint64(len(t.spans)))
	for _, s := range t.spans {
		v = binary.AppendVarint(binary.AppendUvarint(v, s.first), s.since)
	}
	if t.retired {
		v = append(v, 1)
	}
	return v
}

// readTracker is the inverse of record.
func readTracker(key, value []byte) (*tracker, error) {
	r := reader{b: value}
	r.head(trackerRecord)
	t := &tracker{who: r.text(), name: r.text()}
	t.at, t.seen = r.varint(), r.varint()
	t.first, t.next = r.uvarint(), r.uvarint()
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		t.spans = append(t.spans, span{first: r.uvarint(), since: r.varint()})
	}
	t.retired = len(r.b) > 0 && r.byte() == 1
	if err := r.err(key); err != nil {
		return nil, err
	}
	if len(key) != 9 || t.first > t.next || len(t.spans) == 0 && t.first < t.next {
		return nil, errRecord
	}
	t.id = binary.BigEndian.Uint64(key[1:])
	return t, nil
}

// hasAcc and the bits of geo.Has say which numbers a stored fix carries.
const hasAcc = 1 << 7

// appendFix returns a fix as it is stored: names and arrival stand in the tracker's
// record and here, all numbers exactly.
func appendFix(v []byte, f *geo.Fix, via string) []byte {
	has := byte(f.Has)
	if f.Acc > 0 {
		has |= hasAcc
	}
	v = append(v, fixRecord, recordVersion, has)
	v = binary.AppendVarint(binary.AppendVarint(v, f.Recv), f.Recv-f.Tst)
	v = appendFloat(appendFloat(v, f.Lat), f.Lon)
	for _, m := range optional(f) {
		if has&m.has != 0 {
			v = appendFloat(v, *m.value)
		}
	}
	return appendText(appendText(appendText(v, f.Event), f.ID), via)
}

// readFix is the inverse of appendFix, without the names of the tracker.
func readFix(value []byte) (f geo.Fix, err error) {
	r := reader{b: value}
	r.head(fixRecord)
	has := r.byte()
	f.Recv = r.varint()
	f.Tst = f.Recv - r.varint()
	f.Lat, f.Lon = r.float(), r.float()
	f.Has = geo.Has(has &^ hasAcc)
	for _, m := range optional(&f) {
		if has&m.has != 0 {
			*m.value = r.float()
		}
	}
	f.Event, f.ID = r.text(), r.text()
	r.text() // via
	if r.bad {
		return f, errRecord
	}
	return f, nil
}

type measurement struct {
	has   byte
	value *float64
}

func optional(f *geo.Fix) [5]measurement {
	return [5]measurement{{hasAcc, &f.Acc}, {byte(geo.HasAlt), &f.Alt}, {byte(geo.HasVel), &f.Vel},
		{byte(geo.HasCog), &f.Cog}, {byte(geo.HasBatt), &f.Batt}}
}

func appendText(v []byte, s string) []byte {
	return append(binary.AppendUvarint(v, uint64(len(s))), s...)
}

func appendFloat(v []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(v, math.Float64bits(f))
}

// reader reads a record; bad is set once and for all by what can't be read.
type reader struct {
	b   []byte
	bad bool
	// newer is set by head for a later version.
	newer bool
}

// head checks kind and version.
func (r *reader) head(kind byte) {
	k, v := r.byte(), r.byte()
	r.newer = !r.bad && k == kind && v > recordVersion
	r.bad = r.bad || k != kind || v != recordVersion
}

// err is what keeps a record from being read.
func (r *reader) err(key []byte) error {
	switch {
	case r.newer:
		return fmt.Errorf("georules: record %x: %w", key, mqtt.ErrNewer)
	case r.bad:
		return errRecord
	}
	return nil
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); !r.bad {
		return b[0]
	}
	return 0
}

func (r *reader) float() float64 {
	if b := r.take(8); !r.bad {
		return math.Float64frombits(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (r *reader) text() string { return string(r.take(r.uvarint())) }

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	r.bad = r.bad || n <= 0
	r.take(uint64(max(n, 0)))
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.bad = r.bad || n <= 0
	r.take(uint64(max(n, 0)))
	return v
}
