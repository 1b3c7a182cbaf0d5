package store

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// A crash at any write of a large batch leaves all of it or nothing.
func TestALargeBatchIsWholeAfterACrash(t *testing.T) {
	var b Batch
	b.Put(0x30, []byte("there"), nil)
	for i := range 30 {
		b.Put(0x30, fmt.Appendf(nil, "%d", i), bytes.Repeat([]byte("x"), 100<<10))
	}
	b.Delete(0x30, []byte("there"))
	for _, row := range []struct {
		name  string
		steps int // of: the parts are there, the mark is, half is applied
		want  bool
	}{{"some parts", 0, false}, {"all parts, no mark", 1, false}, {"marked", 2, true}, {"half applied", 3, true}} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			s, _, err := Open(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			d := s.(*disk)
			parts := d.parts(b.ops)
			if len(parts) < 3 {
				t.Fatalf("%d parts are no large batch", len(parts))
			}
			written := parts
			if row.steps == 0 {
				written = parts[:2]
			}
			for n, p := range written {
				err = errors.Join(err, d.write([]op{{key: partKey(n), value: encodeOps(p)}}))
			}
			if row.steps >= 2 {
				err = errors.Join(err, d.write([]op{{key: keyWhole, value: []byte{1}}}))
			}
			if row.steps == 3 {
				err = errors.Join(err, d.write(parts[0]))
			}
			if err = errors.Join(err, setState(dir, ""), d.db.Close()); err != nil {
				t.Fatal(err)
			}
			s, _, err = Open(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close() //nolint:errcheck // a test
			n := 0
			if err := s.Scan(0x30, nil, nil, func([]byte, []byte) Next { n++; return Next{} }); err != nil || (n == 30) != row.want || n != 0 && n != 30 {
				t.Errorf("%d of 30 writes are there, %v; want all: %v", n, err, row.want)
			}
			left := 0
			if err := s.(*disk).walk(keyPart, nil, func([]byte, []byte) Next { left++; return Next{} }); err != nil || left > 0 {
				t.Errorf("%d parts are left, %v", left, err)
			}
			if _, err := s.(*disk).get(keyWhole); !errors.Is(err, ErrNotFound) {
				t.Errorf("the mark is left: %v", err)
			}
		})
	}
}

func FuzzDecodeOps(f *testing.F) {
	f.Add(encodeOps([]op{{key: []byte("k"), value: []byte("v")}, {key: []byte("gone"), del: true}, {key: nil, value: nil}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		ops, err := decodeOps(b)
		if err != nil {
			return
		}
		again, err := decodeOps(encodeOps(ops))
		if err != nil || len(again) != len(ops) {
			t.Fatalf("does not encode to itself: %v", err)
		}
	})
}

// A store of a later format is refused, and stays as it is.
func TestANewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.(*disk).write([]op{{key: keyFormat, value: []byte{format + 1}}}), s.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s, _, err = Open(dir, Options{}); !errors.Is(err, ErrNewerFormat) {
			t.Fatalf("got %v, %v", s, err)
		}
	}
}
