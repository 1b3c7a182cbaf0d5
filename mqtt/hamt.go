package mqtt

import (
	"hash/maphash"
	"math/bits"
)

// hamt is an immutable map: with and without return a new one that shares most
// of its nodes with the old. The zero value is empty. Up to hamtFlat entries it
// is a plain slice.
type hamt[K comparable, V any] struct {
	flat []pair[K, V]
	root *branch[K, V]
	n    int
}

type pair[K comparable, V any] struct {
	k K
	v V
}

// branch is one node of the trie: for each of 32 hash digits either nothing, one
// pair, or a further branch; at the last depth, the pairs whose hashes collide.
type branch[K comparable, V any] struct {
	leaves  uint32 // digits that are pairs
	nodes   uint32 // digits that are branches
	pairs   []pair[K, V]
	below   []*branch[K, V]
	collide bool
}

const (
	hamtFlat  = 8
	hamtBits  = 5
	hamtDepth = 64 / hamtBits
)

var hamtSeed = maphash.MakeSeed()

func digit(h uint64, depth int) uint32 { return 1 << (h >> (hamtBits * depth) & 31) }

func (m hamt[K, V]) len() int { return m.n }

func (m hamt[K, V]) get(k K) (v V, ok bool) {
	if m.root == nil {
		for i := range m.flat {
			if m.flat[i].k == k {
				return m.flat[i].v, true
			}
		}
		return v, false
	}
	h := maphash.Comparable(hamtSeed, k)
	for b, d := m.root, 0; ; d++ {
		if b.collide {
			for i := range b.pairs {
				if b.pairs[i].k == k {
					return b.pairs[i].v, true
				}
			}
			return v, false
		}
		bit := digit(h, d)
		switch {
		case b.leaves&bit != 0:
			p := &b.pairs[bits.OnesCount32(b.leaves&(bit-1))]
			return p.v, p.k == k
		case b.nodes&bit != 0:
			b = b.below[bits.OnesCount32(b.nodes&(bit-1))]
		default:
			return v, false
		}
	}
}

func (m hamt[K, V]) each(fn func(K, V)) {
	for i := range m.flat {
		fn(m.flat[i].k, m.flat[i].v)
	}
	if m.root != nil {
		m.root.each(fn)
	}
}

func (b *branch[K, V]) each(fn func(K, V)) {
	for i := range b.pairs {
		fn(b.pairs[i].k, b.pairs[i].v)
	}
	for _, n := range b.below {
		n.each(fn)
	}
}

// with returns m with k set to v.
func (m hamt[K, V]) with(k K, v V) hamt[K, V] {
	if m.root != nil {
		root, added := m.root.with(maphash.Comparable(hamtSeed, k), 0, pair[K, V]{k, v})
		return hamt[K, V]{root: root, n: m.n + added}
	}
	for i := range m.flat {
		if m.flat[i].k == k {
			flat := append([]pair[K, V](nil), m.flat...)
			flat[i].v = v
			return hamt[K, V]{flat: flat, n: m.n}
		}
	}
	if m.n < hamtFlat {
		flat := make([]pair[K, V], m.n, m.n+1)
		copy(flat, m.flat)
		return hamt[K, V]{flat: append(flat, pair[K, V]{k, v}), n: m.n + 1}
	}
	root := &branch[K, V]{}
	for _, p := range m.flat {
		root, _ = root.with(maphash.Comparable(hamtSeed, p.k), 0, p)
	}
	root, _ = root.with(maphash.Comparable(hamtSeed, k), 0, pair[K, V]{k, v})
	return hamt[K, V]{root: root, n: m.n + 1}
}

func (b *branch[K, V]) with(h uint64, d int, p pair[K, V]) (*branch[K, V], int) {
	if b.collide || d > hamtDepth {
		return b.withCollision(p)
	}
	bit := digit(h, d)
	c := *b
	i, j := bits.OnesCount32(b.leaves&(bit-1)), bits.OnesCount32(b.nodes&(bit-1))
	switch {
	case b.nodes&bit != 0:
		n, added := b.below[j].with(h, d+1, p)
		c.below = replaced(b.below, j, n)
		return &c, added
	case b.leaves&bit == 0:
		c.leaves |= bit
		c.pairs = inserted(b.pairs, i, p)
		return &c, 1
	case b.pairs[i].k == p.k:
		c.pairs = replaced(b.pairs, i, p)
		return &c, 0
	}
	was := b.pairs[i]
	n, _ := (&branch[K, V]{}).with(maphash.Comparable(hamtSeed, was.k), d+1, was)
	n, _ = n.with(h, d+1, p)
	c.leaves, c.nodes = b.leaves&^bit, b.nodes|bit
	c.pairs, c.below = removed(b.pairs, i), inserted(b.below, j, n)
	return &c, 1
}

func (b *branch[K, V]) withCollision(p pair[K, V]) (*branch[K, V], int) {
	for i := range b.pairs {
		if b.pairs[i].k == p.k {
			return &branch[K, V]{collide: true, pairs: replaced(b.pairs, i, p)}, 0
		}
	}
	return &branch[K, V]{collide: true, pairs: inserted(b.pairs, len(b.pairs), p)}, 1
}

// without returns m without k.
func (m hamt[K, V]) without(k K) hamt[K, V] {
	if _, ok := m.get(k); !ok {
		return m
	}
	if m.root == nil {
		for i := range m.flat {
			if m.flat[i].k == k {
				return hamt[K, V]{flat: removed(m.flat, i), n: m.n - 1}
			}
		}
	}
	root := m.root.without(maphash.Comparable(hamtSeed, k), 0, k)
	if m.n-1 > hamtFlat/2 {
		return hamt[K, V]{root: root, n: m.n - 1}
	}
	flat := make([]pair[K, V], 0, m.n-1)
	if root != nil {
		root.each(func(k K, v V) { flat = append(flat, pair[K, V]{k, v}) })
	}
	return hamt[K, V]{flat: flat, n: m.n - 1}
}

// without returns b without k, which it holds; nil if nothing is left.
func (b *branch[K, V]) without(h uint64, d int, k K) *branch[K, V] {
	c := *b
	if b.collide {
		for i := range b.pairs {
			if b.pairs[i].k == k {
				c.pairs = removed(b.pairs, i)
			}
		}
	} else if bit := digit(h, d); b.leaves&bit != 0 {
		c.leaves &^= bit
		c.pairs = removed(b.pairs, bits.OnesCount32(b.leaves&(bit-1)))
	} else {
		j := bits.OnesCount32(b.nodes & (bit - 1))
		if n := b.below[j].without(h, d+1, k); n != nil {
			c.below = replaced(b.below, j, n)
		} else {
			c.nodes &^= bit
			c.below = removed(b.below, j)
		}
	}
	if len(c.pairs) == 0 && len(c.below) == 0 {
		return nil
	}
	return &c
}

func replaced[T any](s []T, i int, v T) []T {
	c := append([]T(nil), s...)
	c[i] = v
	return c
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
