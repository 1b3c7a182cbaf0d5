package mqtt

import (
	"hash/maphash"
	"math/bits"
)

// hamt is an immutable set of elements by their keys: with and without return a
// new one that shares most of its nodes with the old. The zero value is empty. Up
// to hamtFlat elements it is a plain slice.
type hamt[K comparable, E keyed[K]] struct {
	flat []E
	root *branch[K, E]
	n    int
}

// keyed is an element that knows its key, so that the set need not hold it.
type keyed[K comparable] interface{ key() K }

// branch is one node of the trie: for each of 32 hash digits either nothing, one
// element, or a further branch; at the last depth, the elements whose hashes
// collide.
type branch[K comparable, E keyed[K]] struct {
	leaves  uint32 // digits that are elements
	nodes   uint32 // digits that are branches
	elems   []E
	below   []*branch[K, E]
	collide bool
}

const (
	hamtFlat  = 8
	hamtBits  = 5
	hamtDepth = 64 / hamtBits
)

var hamtSeed = maphash.MakeSeed()

func digit(h uint64, depth int) uint32 { return 1 << (h >> (hamtBits * depth) & 31) }

func (m hamt[K, E]) len() int { return m.n }

func (m hamt[K, E]) get(k K) (e E, ok bool) {
	if m.root == nil {
		for i := range m.flat {
			if m.flat[i].key() == k {
				return m.flat[i], true
			}
		}
		return e, false
	}
	h := maphash.Comparable(hamtSeed, k)
	for b, d := m.root, 0; ; d++ {
		if b.collide {
			for i := range b.elems {
				if b.elems[i].key() == k {
					return b.elems[i], true
				}
			}
			return e, false
		}
		bit := digit(h, d)
		switch {
		case b.leaves&bit != 0:
			if at := b.elems[bits.OnesCount32(b.leaves&(bit-1))]; at.key() == k {
				return at, true
			}
			return e, false
		case b.nodes&bit != 0:
			b = b.below[bits.OnesCount32(b.nodes&(bit-1))]
		default:
			return e, false
		}
	}
}

func (m hamt[K, E]) each(fn func(E)) {
	for i := range m.flat {
		fn(m.flat[i])
	}
	if m.root != nil {
		m.root.each(fn)
	}
}

func (b *branch[K, E]) each(fn func(E)) {
	for i := range b.elems {
		fn(b.elems[i])
	}
	for _, n := range b.below {
		n.each(fn)
	}
}

// with returns m with e in it, in place of the element that has its key. If m is
// the caller's own, which nobody else reads, its nodes are changed in place.
func (m hamt[K, E]) with(e E, own bool) hamt[K, E] {
	k := e.key()
	if m.root != nil {
		root, added := m.root.with(maphash.Comparable(hamtSeed, k), 0, e, own)
		return hamt[K, E]{root: root, n: m.n + added}
	}
	for i := range m.flat {
		if m.flat[i].key() == k {
			return hamt[K, E]{flat: replaced(m.flat, i, e, own), n: m.n}
		}
	}
	if m.n < hamtFlat {
		return hamt[K, E]{flat: inserted(m.flat, m.n, e), n: m.n + 1}
	}
	root := &branch[K, E]{}
	for _, f := range m.flat {
		root, _ = root.with(maphash.Comparable(hamtSeed, f.key()), 0, f, true)
	}
	root, _ = root.with(maphash.Comparable(hamtSeed, k), 0, e, true)
	return hamt[K, E]{root: root, n: m.n + 1}
}

func (b *branch[K, E]) with(h uint64, d int, e E, own bool) (*branch[K, E], int) {
	if b.collide || d > hamtDepth {
		return b.withCollision(e)
	}
	bit := digit(h, d)
	c := b
	if !own {
		c = &branch[K, E]{}
		*c = *b
	}
	i, j := bits.OnesCount32(b.leaves&(bit-1)), bits.OnesCount32(b.nodes&(bit-1))
	switch {
	case b.nodes&bit != 0:
		n, added := b.below[j].with(h, d+1, e, own)
		c.below = replaced(b.below, j, n, own)
		return c, added
	case b.leaves&bit == 0:
		c.leaves |= bit
		c.elems = inserted(b.elems, i, e)
		return c, 1
	case b.elems[i].key() == e.key():
		c.elems = replaced(b.elems, i, e, own)
		return c, 0
	}
	was := b.elems[i]
	n, _ := (&branch[K, E]{}).with(maphash.Comparable(hamtSeed, was.key()), d+1, was, true)
	n, _ = n.with(h, d+1, e, true)
	c.leaves, c.nodes = b.leaves&^bit, b.nodes|bit
	c.elems, c.below = removed(b.elems, i), inserted(b.below, j, n)
	return c, 1
}

func (b *branch[K, E]) withCollision(e E) (*branch[K, E], int) {
	for i := range b.elems {
		if b.elems[i].key() == e.key() {
			return &branch[K, E]{collide: true, elems: replaced(b.elems, i, e, false)}, 0
		}
	}
	return &branch[K, E]{collide: true, elems: inserted(b.elems, len(b.elems), e)}, 1
}

// without returns m without k.
func (m hamt[K, E]) without(k K) hamt[K, E] {
	if _, ok := m.get(k); !ok {
		return m
	}
	if m.root == nil {
		for i := range m.flat {
			if m.flat[i].key() == k {
				return hamt[K, E]{flat: removed(m.flat, i), n: m.n - 1}
			}
		}
	}
	root := m.root.without(maphash.Comparable(hamtSeed, k), 0, k)
	if m.n-1 > hamtFlat/2 {
		return hamt[K, E]{root: root, n: m.n - 1}
	}
	flat := make([]E, 0, m.n-1)
	if root != nil {
		root.each(func(e E) { flat = append(flat, e) })
	}
	return hamt[K, E]{flat: flat, n: m.n - 1}
}

// without returns b without k, which it holds; nil if nothing is left.
func (b *branch[K, E]) without(h uint64, d int, k K) *branch[K, E] {
	c := *b
	if b.collide {
		for i := range b.elems {
			if b.elems[i].key() == k {
				c.elems = removed(b.elems, i)
			}
		}
	} else if bit := digit(h, d); b.leaves&bit != 0 {
		c.leaves &^= bit
		c.elems = removed(b.elems, bits.OnesCount32(b.leaves&(bit-1)))
	} else {
		j := bits.OnesCount32(b.nodes & (bit - 1))
		if n := b.below[j].without(h, d+1, k); n != nil {
			c.below = replaced(b.below, j, n, false)
		} else {
			c.nodes &^= bit
			c.below = removed(b.below, j)
		}
	}
	if len(c.elems) == 0 && len(c.below) == 0 {
		return nil
	}
	return &c
}

// replaced returns s with v at i: s itself if it may be changed, else a copy.
func replaced[T any](s []T, i int, v T, own bool) []T {
	if !own {
		s = append([]T(nil), s...)
	}
	s[i] = v
	return s
}

func inserted[T any](s []T, i int, v T) []T {
	c := make([]T, 0, len(s)+1)
	return append(append(append(c, s[:i]...), v), s[i:]...)
}

func removed[T any](s []T, i int) []T {
	if len(s) == 1 {
		return nil
	}
	c := make([]T, 0, len(s)-1)
	return append(append(c, s[:i]...), s[i+1:]...)
}
