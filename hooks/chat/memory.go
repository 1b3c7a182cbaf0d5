package chat

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/geocast/geocast/chat"
	"github.com/geocast/geocast/hooks"
)

// The hook's records. Values begin with their kind and version, and later versions
// only append fields.
//
//	l                where numbering is
//	d user 0 cid     what was sent under a client's own id, and when
//	o n              the n-th such memory, by age: its time and its key
const (
	numberingKey = "l"
	memoryKey    = 'd'
	orderKey     = 'o'
)

// remembered is how long a client's own id of a message is known, in ms: 7 days.
const remembered = 7 * 24 * 3600 * 1000

// forgotten is how many old memories one message takes away at most. It adds one: so
// they never are more than the busiest seven days made, and become fewer. Without
// messages a sweep takes sweepMost away every sweepEvery ms, or at once if there are more.
const (
	forgotten  = 8
	sweepMost  = 256
	sweepEvery = 60_000
)

// numbering is how far the hook has counted. The core owns it.
type numbering struct {
	last        uint64 // the last CSeq given
	first, next uint64 // the memories that there are, from the oldest to before next
}

func (n *numbering) record() []byte {
	rec := binary.BigEndian.AppendUint64([]byte{'N', 1}, n.last)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(rec, n.first), n.next)
}

// recordVersion is that of all the hook's records.
const recordVersion = 1

// readable reports whether a record is of a kind, and of a version that is known.
func readable(rec []byte, kind byte, least int) bool {
	return len(rec) >= least && rec[0] == kind && rec[1] == recordVersion
}

// renumber finds the memories that there are, where the record of numbering is lost. The
// numbers of conversations go on with the time.
func renumber(r hooks.Reader) (n numbering, err error) {
	err = r.Scan([]byte{orderKey}, func(key, _ []byte) bool {
		if len(key) != len(place(0)) {
			return true
		}
		at := binary.BigEndian.Uint64(key[1:])
		if n.next == 0 {
			n.first = at
		}
		n.next = at + 1
		return true
	})
	return n, err
}

func readNumbering(rec []byte) (n numbering, ok bool) {
	if !readable(rec, 'N', 26) {
		return n, false
	}
	return numbering{binary.BigEndian.Uint64(rec[2:]), binary.BigEndian.Uint64(rec[10:]), binary.BigEndian.Uint64(rec[18:])}, true
}

// keyOf is the key of a user's memory of one cid.
func keyOf(user, cid string) []byte { return []byte(string(memoryKey) + user + "\x00" + cid) }

// fingerprint tells a retry from another message under the same cid.
func fingerprint(to chat.Address, body []byte) uint64 {
	h := sha256.New()
	fmt.Fprintf(h, "%v %q ", to.Group, to.Name)
	h.Write(body)
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// memory is what is kept of a client's own id: kind, version, when, fingerprint.
func memory(at int64, sum uint64) []byte {
	rec := binary.BigEndian.AppendUint64([]byte{'D', 1}, uint64(at))
	return binary.BigEndian.AppendUint64(rec, sum)
}

// recall reads memory; ok is false for what is older than it is kept, or nothing.
func recall(rec []byte, now int64) (sum uint64, ok bool) {
	if !readable(rec, 'D', 18) || old(rec, now) {
		return 0, false
	}
	return binary.BigEndian.Uint64(rec[10:]), true
}

// old reports whether a memory, or its place in the order, is over.
func old(rec []byte, now int64) bool {
	return now-int64(binary.BigEndian.Uint64(rec[2:])) >= remembered
}

func place(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{orderKey}, n) }

// over is a place in the order whose time is over.
type over struct {
	n    uint64
	key  []byte // of the memory; nil if the place is damaged
	seen []byte // what was stored there
}

// overdue reads the oldest memories, from the n-th on, that are to be forgotten.
func overdue(r hooks.Reader, n uint64, now int64) (all []over, err error) {
	for ; len(all) < forgotten; n++ {
		rec, ok, err := r.Get(place(n))
		if err != nil || !ok || !readable(rec, 'O', 10) || !old(rec, now) {
			return all, err
		}
		o := over{n: n, key: rec[10:]}
		if o.seen, _, err = r.Get(o.key); err != nil {
			return all, err
		}
		all = append(all, o)
	}
	return all, nil
}

// allOverdue is overdue for a sweep, which also finds places that are damaged, and goes
// on behind such as are missing.
func allOverdue(r hooks.Reader, now int64) (all []over, err error) {
	scanErr := r.Scan([]byte{orderKey}, func(key, rec []byte) bool {
		if len(key) != len(place(0)) {
			return true
		}
		o := over{n: binary.BigEndian.Uint64(key[1:])}
		if readable(rec, 'O', 10) {
			if !old(rec, now) {
				return false
			}
			o.key = bytes.Clone(rec[10:])
			if o.seen, _, err = r.Get(o.key); err != nil {
				return false
			}
		}
		all = append(all, o)
		return len(all) < sweepMost
	})
	return all, cmp.Or(scanErr, err)
}

// remember writes a memory and its place in the order.
func (n *numbering) remember(tx hooks.Tx, key []byte, sum uint64) {
	tx.Put(key, memory(tx.Now(), sum))
	tx.Put(place(n.next), append(binary.BigEndian.AppendUint64([]byte{'O', 1}, uint64(tx.Now())), key...))
	n.next++
}

// forget takes away what a Gate found to be over, but for what was taken away since.
func (n *numbering) forget(tx hooks.Tx, all []over) {
	for _, o := range all {
		if o.n == n.first {
			n.drop(tx, o)
		}
	}
}

// drop takes one memory away, but not what a cid stands for that was used again.
func (n *numbering) drop(tx hooks.Tx, o over) {
	tx.Delete(place(o.n))
	n.first = o.n + 1
	if o.key == nil {
		return
	}
	rec := o.seen
	if v, ok := tx.Get(o.key); ok {
		rec = v
	}
	if _, fresh := recall(rec, tx.Now()); !fresh {
		tx.Delete(o.key)
	}
}
