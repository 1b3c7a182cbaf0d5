package store

import (
	"encoding/binary"
	"errors"
)

// A batch beyond Limit is more than one of Badger's transactions takes. It is written
// down in parts first, then marked as whole, and only then applied: a crash finds the
// mark, and applies all of it again, or no mark, and forgets the parts.
var (
	keyPart  = []byte{0x01, 'p'} // and the number of the part
	keyWhole = []byte{0x01, 'w'}
)

var errPart = errors.New("store: a part of a large batch is malformed")

func partKey(n int) []byte {
	return binary.BigEndian.AppendUint32(keyPart[:len(keyPart):len(keyPart)], uint32(n))
}

// commitLarge is write for a batch of any size.
func (d *disk) commitLarge(ops []op) error {
	parts := d.parts(ops)
	for n, part := range parts {
		if err := d.write([]op{{key: partKey(n), value: encodeOps(part)}}); err != nil {
			return err
		}
	}
	if err := d.write([]op{{key: keyWhole, value: []byte{1}}}); err != nil {
		return err
	}
	for _, part := range parts {
		if err := d.write(part); err != nil {
			return err
		}
	}
	return d.forgetParts()
}

// parts cuts writes into such as one transaction takes with room to spare.
func (d *disk) parts(ops []op) (parts [][]op) {
	from, size := 0, 0
	for i := range ops {
		if n := ops[i].size(); i > from && (size+n > d.bytes/4 || i-from >= d.entries/4) {
			parts = append(parts, ops[from:i:i])
			from, size = i, 0
		}
		size += ops[i].size()
	}
	return append(parts, ops[from:])
}

// finishLarge applies a large batch that a crash has interrupted, if it was whole.
func (d *disk) finishLarge() error {
	switch _, err := d.get(keyWhole); {
	case errors.Is(err, ErrNotFound):
		return d.forgetParts()
	case err != nil:
		return err
	}
	for n := 0; ; n++ {
		v, err := d.get(partKey(n))
		if errors.Is(err, ErrNotFound) {
			return d.forgetParts()
		}
		if err != nil {
			return err
		}
		ops, err := decodeOps(v)
		if err != nil {
			return err
		}
		if err := d.write(ops); err != nil {
			return err
		}
	}
}

// forgetParts removes the mark, then the parts: never a part of what has a mark.
func (d *disk) forgetParts() error {
	var gone []op
	err := d.walk(keyPart, nil, func(key, _ []byte) Next {
		gone = append(gone, op{key: append([]byte(nil), key...), del: true})
		return Next{}
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	if err := d.write([]op{{key: keyWhole, del: true}}); err != nil {
		return err
	}
	for len(gone) > 0 {
		n := min(len(gone), d.entries)
		if err := d.write(gone[:n]); err != nil {
			return err
		}
		gone = gone[n:]
	}
	return nil
}

// encodeOps is the stored form of writes: each a key with its length, then 0 for a
// delete or a value with its length and 1 more.
func encodeOps(ops []op) (b []byte) {
	for _, o := range ops {
		b = append(binary.AppendUvarint(b, uint64(len(o.key))), o.key...)
		if o.del {
			b = append(b, 0)
			continue
		}
		b = append(binary.AppendUvarint(b, uint64(len(o.value))+1), o.value...)
	}
	return b
}

func decodeOps(b []byte) (ops []op, err error) {
	for len(b) > 0 {
		var o op
		if o.key, b, err = cutPart(b, 0); err != nil {
			return nil, err
		}
		if len(b) > 0 && b[0] == 0 {
			o.del, b = true, b[1:]
		} else if o.value, b, err = cutPart(b, 1); err != nil {
			return nil, err
		}
		ops = append(ops, o)
	}
	return ops, nil
}

// cutPart reads what has its length, and more, before it.
func cutPart(b []byte, more uint64) (v, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n < more || n-more > uint64(len(b)-k) {
		return nil, nil, errPart
	}
	b, n = b[k:], n-more
	return b[:n:n], b[n:], nil
}
