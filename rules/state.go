package rules

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/mqtt"
)

// A StateRecord is a piece of the engine's state as it is stored: in a table, under Key. A nil Value deletes the key. The bytes
// begin with their kind and version; nothing but the engine reads them.
type StateRecord struct {
	Key   []byte
	Value []byte
}

// Keys hold numbers and no names: a tracker has its number from its first fix on, a rule is a hash of what its meetings rest on.
const (
	trackerRecord = 'd'
	pairRecord    = 'm'
	recordVersion = 1
)

// record returns t as it is stored.
func (t *tracker) record() StateRecord {
	v := make([]byte, 0, 56+len(t.key.who)+len(t.key.name)+8*len(t.keys))
	v = append(v, trackerRecord, recordVersion)
	v = appendNames(v, t.key.who, t.key.name)
	v = binary.AppendVarint(v, t.tst)
	v = binary.AppendVarint(v, t.seen)
	for _, f := range [...]float64{t.at.Lat, t.at.Lon, t.acc} {
		v = binary.BigEndian.AppendUint64(v, math.Float64bits(f))
	}
	v = binary.AppendUvarint(v, uint64(len(t.zones)))
	for _, key := range t.keys {
		v = binary.BigEndian.AppendUint64(v, key)
	}
	return StateRecord{Key: t.recordKey(), Value: v}
}

func (t *tracker) recordKey() []byte {
	return binary.BigEndian.AppendUint64([]byte{trackerRecord}, t.id)
}

// record returns p as it is stored.
func (p *pair) record() StateRecord {
	return StateRecord{Key: p.recordKey(), Value: binary.AppendVarint([]byte{pairRecord, recordVersion}, p.since)}
}

func (p *pair) recordKey() []byte {
	k := binary.BigEndian.AppendUint64([]byte{pairRecord}, p.key)
	k = binary.BigEndian.AppendUint64(k, p.a.id)
	return binary.BigEndian.AppendUint64(k, p.b.id)
}

func appendNames(k []byte, names ...string) []byte {
	for _, n := range names {
		k = binary.AppendUvarint(k, uint64(len(n)))
		k = append(k, n...)
	}
	return k
}

// Restored is what Restore could not use.
type Restored struct {
	// Damaged are the keys of records that are not readable. The engine goes on without them.
	Damaged [][]byte
	// Gone are records to be deleted, with nil values: those of rules that are no more or have changed.
	Gone []StateRecord
}

// Restore takes back what Step, Tick and Replace returned: the last value of each key, in any order. It is called once, before the
// first Step. State of zones and rules that are no more or have changed is dropped. The error is mqtt.ErrNewer for a record of a
// later version; the engine is not to be used then.
func (e *Engine) Restore(records []StateRecord) (rest Restored, err error) {
	var trackers []*tracker
	for _, r := range records {
		if len(r.Key) == 0 || r.Key[0] != trackerRecord || r.Value == nil {
			continue
		}
		t, err := e.readTracker(r)
		if errors.Is(err, mqtt.ErrNewer) {
			return rest, err
		}
		if err != nil {
			rest.Damaged = append(rest.Damaged, r.Key)
			continue
		}
		trackers = append(trackers, t)
	}
	slices.SortFunc(trackers, func(a, b *tracker) int { return cmp.Or(cmp.Compare(a.seen, b.seen), cmp.Compare(a.id, b.id)) })
	byID := make(map[uint64]*tracker, len(trackers))
	for _, t := range trackers {
		if e.trackers[t.key] != nil {
			rest.Gone = append(rest.Gone, StateRecord{Key: t.recordKey()})
			continue
		}
		e.add(t)
		e.touch(t)
		byID[t.id] = t
	}
	err = e.restorePairs(records, byID, &rest)
	return rest, err
}

func (e *Engine) restorePairs(records []StateRecord, byID map[uint64]*tracker, rest *Restored) error {
	for _, r := range records {
		if len(r.Key) == 0 || r.Key[0] != pairRecord || r.Value == nil {
			continue
		}
		k, v := cursor{b: r.Key[1:]}, cursor{b: r.Value}
		rule := e.set.nearByKey[k.uint64()]
		a, b := byID[k.uint64()], byID[k.uint64()]
		v.head(pairRecord)
		since := v.varint()
		switch {
		case v.newer:
			return newer(r.Key)
		case k.bad || v.bad:
			rest.Damaged = append(rest.Damaged, r.Key)
		case rule != nil && a != nil && b != nil && a != b:
			e.link(&pair{key: rule.key, apart: rule.near.apart, a: a, b: b, since: since})
		default:
			rest.Gone = append(rest.Gone, StateRecord{Key: r.Key})
		}
	}
	return nil
}

func (e *Engine) readTracker(r StateRecord) (*tracker, error) {
	k, v := cursor{b: r.Key[1:]}, cursor{b: r.Value}
	v.head(trackerRecord)
	t := &tracker{id: k.uint64(), key: trackerKey{v.name(), v.name()}}
	t.tst, t.seen = v.varint(), v.varint()
	t.at = geo.Position{Lat: math.Float64frombits(v.uint64()), Lon: math.Float64frombits(v.uint64())}
	t.acc = math.Float64frombits(v.uint64())
	for n := v.uvarint(); n > 0 && !v.bad; n-- {
		if z, ok := e.set.zoneByKey[v.uint64()]; ok {
			t.zones = append(t.zones, z)
		}
	}
	if v.newer {
		return nil, newer(r.Key)
	}
	if k.bad || v.bad || !t.at.Valid() {
		return nil, errRecord
	}
	slices.Sort(t.zones)
	t.enter(e.set, slices.Compact(t.zones))
	return t, nil
}

// A cursor reads a record; bad is set once and for all by what can't be read.
type cursor struct {
	b   []byte
	bad bool
	// newer is set by head for a later version.
	newer bool
}

var errRecord = errors.New("rules: a record is not readable")

func newer(key []byte) error { return fmt.Errorf("rules: record %x: %w", key, mqtt.ErrNewer) }

// head checks kind and version.
func (c *cursor) head(kind byte) {
	h := c.take(2)
	c.newer = !c.bad && h[0] == kind && h[1] > recordVersion
	c.bad = c.bad || h[0] != kind || h[1] != recordVersion
}

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.b) {
		c.bad = true
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) uint64() uint64 {
	if b := c.take(8); !c.bad {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.take(n)
	return v
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.take(n)
	return v
}

func (c *cursor) name() string {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad = true
	}
	if c.bad {
		return ""
	}
	return string(c.take(int(n)))
}

// pairKey is a hash of what the meetings of r rest on: with another text or audience they stay, with another distance they don't.
func (r *Rule) pairKey() uint64 {
	b := appendNames(nil, r.ID)
	b = strconv.AppendFloat(b, r.near.within, 'g', -1, 64)
	b = append(b, ' ')
	b = strconv.AppendFloat(b, r.near.apart, 'g', -1, 64)
	for _, c := range []crowd{r.who, r.near.of} {
		b = binary.AppendUvarint(b, uint64(len(c)))
		for _, s := range c {
			for _, names := range [][]string{s.users, s.groups, {s.role}, {s.tag}} {
				b = binary.AppendUvarint(b, uint64(len(names)))
				b = appendNames(b, names...)
			}
		}
	}
	return hash64(b)
}

func hash64(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}
