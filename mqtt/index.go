package mqtt

import (
	"strings"
	"sync/atomic"
)

// Index is the subscription index: topic filters, and under each the values of
// those who subscribed. It has one writer and any number of readers at once,
// which take no lock: its nodes are immutable, and a write replaces those on the
// way from the root. The zero value is empty and ready.
//
// A filter that nobody else's shares its beginning with is one small leaf,
// whatever its number of levels: most filters are some client's own.
type Index[K comparable, V any] struct {
	root atomic.Pointer[level[K, V]]
	n    atomic.Int64
}

// node is what stands under the name of one level: a leaf or a level. Immutable.
type node interface{ key() string }

// leaf is one entry, with all of its filter that follows.
type leaf[K comparable, V any] struct {
	filter string
	k      K
	v      V
	at     uint16 // where in filter the level begins that the leaf stands for
}

// level is one level that several entries share.
type level[K comparable, V any] struct {
	name     string // the filter's level
	filter   string // the whole filter, if entries is not empty
	entries  hamt[K, entry[K, V]]
	children hamt[string, node]
}

// entry is a value of one filter.
type entry[K comparable, V any] struct {
	k K
	v V
}

func (l *level[K, V]) key() string { return l.name }
func (e entry[K, V]) key() K       { return e.k }

func (l *leaf[K, V]) key() string {
	name, _, _ := strings.Cut(l.filter[l.at:], "/")
	return name
}

// after is what follows the level that the leaf stands for.
func (l *leaf[K, V]) after() (rest string, more bool) {
	_, rest, more = strings.Cut(l.filter[l.at:], "/")
	return rest, more
}

// Set puts v under (filter, k), and returns what stood there. The index keeps
// filter, a valid topic filter.
func (x *Index[K, V]) Set(filter string, k K, v V) (old V, had bool) {
	if old, had = x.Get(filter, k); !had {
		x.n.Add(1)
	}
	x.root.Store(x.top().with(&leaf[K, V]{filter: filter, k: k, v: v}, false))
	return old, had
}

// Fill is Set for an entry that is not there, in an index that nobody reads yet:
// it copies nothing and so takes a fraction of the time.
func (x *Index[K, V]) Fill(filter string, k K, v V) {
	x.n.Add(1)
	x.root.Store(x.top().with(&leaf[K, V]{filter: filter, k: k, v: v}, true))
}

func (x *Index[K, V]) top() *level[K, V] {
	if root := x.root.Load(); root != nil {
		return root
	}
	return &level[K, V]{}
}

// Delete removes (filter, k), and reports whether it was there.
func (x *Index[K, V]) Delete(filter string, k K) bool {
	if _, had := x.Get(filter, k); !had {
		return false
	}
	x.root.Store(x.root.Load().without(filter, true, k))
	x.n.Add(-1)
	return true
}

// Get returns the value of (filter, k).
func (x *Index[K, V]) Get(filter string, k K) (v V, ok bool) {
	l := x.root.Load()
	for rest, more := filter, true; l != nil; {
		if !more {
			e, ok := l.entries.get(k)
			return e.v, ok
		}
		var name string
		name, rest, more = strings.Cut(rest, "/")
		switch n, _ := l.children.get(name); n := n.(type) {
		case *leaf[K, V]:
			if n.k == k && n.filter == filter {
				return n.v, true
			}
			return v, false
		case *level[K, V]:
			l = n
		default:
			return v, false
		}
	}
	return v, false
}

// Len is the number of entries.
func (x *Index[K, V]) Len() int { return int(x.n.Load()) }

// Match calls fn for every entry whose filter matches topic, in no particular
// but always the same order. fn must not write to the index.
func (x *Index[K, V]) Match(topic string, fn func(filter string, k K, v V)) {
	if l := x.root.Load(); l != nil {
		l.match(topic, topic != "" && topic[0] == '$', fn)
	}
}

// with returns l with the entry of a leaf that belongs somewhere below it. If l is
// the writer's own, it is changed in place.
func (l *level[K, V]) with(e *leaf[K, V], own bool) *level[K, V] {
	if !own {
		c := *l
		l = &c
	}
	next := node(e)
	had, _ := l.children.get(e.key())
	switch had := had.(type) {
	case *level[K, V]:
		if next = had.add(e, own); own {
			return l
		}
	case *leaf[K, V]:
		if had.k != e.k || had.filter != e.filter {
			shared := &level[K, V]{name: strings.Clone(e.key())}
			was := *had // had itself is read, if only to find its place
			next = shared.add(&was, true).add(e, true)
		}
	}
	l.children = l.children.with(next, own)
	return l
}

// add returns l with the entry of a leaf that stands for the same level. The leaf is
// nobody else's yet: it moves down as far as it has to.
func (l *level[K, V]) add(e *leaf[K, V], own bool) *level[K, V] {
	rest, more := e.after()
	if more {
		e.at = uint16(len(e.filter) - len(rest))
		return l.with(e, own)
	}
	if !own {
		c := *l
		l = &c
	}
	l.filter = e.filter
	l.entries = l.entries.with(entry[K, V]{e.k, e.v}, own)
	return l
}

// without returns l without the entry of k under what is left of a filter; more
// is false if nothing is. It is nil if nothing is left of l.
func (l *level[K, V]) without(rest string, more bool, k K) *level[K, V] {
	c := *l
	if !more {
		c.entries = c.entries.without(k)
	} else {
		name, below, more := strings.Cut(rest, "/")
		n, _ := c.children.get(name)
		if n, ok := n.(*level[K, V]); ok {
			n = n.without(below, more, k)
			if left := n.shrunk(); left != nil {
				c.children = c.children.with(left, false)
			} else {
				c.children = c.children.without(name)
			}
		} else {
			c.children = c.children.without(name)
		}
	}
	if c.children.len() == 0 && c.entries.len() == 0 {
		return nil
	}
	return &c
}

// shrunk returns l as a leaf if it holds a single entry and no level; nil if l is.
func (l *level[K, V]) shrunk() (n node) {
	if l == nil {
		return nil
	}
	n = l
	switch {
	case l.children.len() == 0 && l.entries.len() == 1:
		l.entries.each(func(e entry[K, V]) {
			n = &leaf[K, V]{filter: l.filter, k: e.k, v: e.v, at: uint16(len(l.filter) - len(l.name))}
		})
	case l.children.len() == 1 && l.entries.len() == 0:
		l.children.each(func(child node) {
			if f, ok := child.(*leaf[K, V]); ok {
				up := *f
				up.at -= uint16(len(l.name) + 1)
				n = &up
			}
		})
	}
	return n
}

// match walks the children that match the first level of topic. noWild says
// that a wildcard may not match it [MQTT-4.7.2-1].
func (l *level[K, V]) match(topic string, noWild bool, fn func(string, K, V)) {
	if !noWild {
		l.wild(fn)
	}
	name, rest, more := strings.Cut(topic, "/")
	l.step(name, rest, more, fn)
	if !noWild {
		l.step("+", rest, more, fn)
	}
}

// step goes on below the child of a name; more is false at the topic's end.
func (l *level[K, V]) step(name, rest string, more bool, fn func(string, K, V)) {
	n, ok := l.children.get(name)
	if !ok {
		return
	}
	switch n := n.(type) {
	case *leaf[K, V]:
		if after, deeper := n.after(); deeper && (more && matchBelow(after, rest) || !more && after == "#") || !deeper && !more {
			fn(n.filter, n.k, n.v)
		}
	case *level[K, V]:
		if more {
			n.match(rest, false, fn)
			return
		}
		n.all(fn)
		n.wild(fn) // "a/#" matches "a", too
	}
}

// wild calls fn for what "#" matches.
func (l *level[K, V]) wild(fn func(string, K, V)) {
	switch n, _ := l.children.get("#"); n := n.(type) {
	case *leaf[K, V]:
		fn(n.filter, n.k, n.v)
	case *level[K, V]:
		n.all(fn)
	}
}

func (l *level[K, V]) all(fn func(string, K, V)) {
	l.entries.each(func(e entry[K, V]) { fn(l.filter, e.k, e.v) })
}
