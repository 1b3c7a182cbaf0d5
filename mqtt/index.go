package mqtt

import (
	"strings"
	"sync/atomic"
)

// Index is the subscription index: topic filters, and under each the values of
// those who subscribed. It has one writer and any number of readers at once,
// which take no lock: its nodes are immutable, and a write replaces those on the
// way from the root. The zero value is empty and ready.
type Index[K comparable, V any] struct {
	root atomic.Pointer[node[K, V]]
	n    atomic.Int64
}

// node is one level of filters. Immutable.
type node[K comparable, V any] struct {
	name     string // the filter's level
	filter   string // the whole filter, if entries is not empty
	entries  hamt[K, V]
	children hamt[string, *node[K, V]]
}

// Set puts v under (filter, k), and returns what stood there.
func (x *Index[K, V]) Set(filter string, k K, v V) (old V, had bool) {
	old, had = x.Get(filter, k)
	x.root.Store(x.root.Load().set(filter, filter, k, &v))
	if !had {
		x.n.Add(1)
	}
	return old, had
}

// Delete removes (filter, k), and reports whether it was there.
func (x *Index[K, V]) Delete(filter string, k K) bool {
	if _, had := x.Get(filter, k); !had {
		return false
	}
	x.root.Store(x.root.Load().set(filter, filter, k, nil))
	x.n.Add(-1)
	return true
}

// Get returns the value of (filter, k).
func (x *Index[K, V]) Get(filter string, k K) (v V, ok bool) {
	n := x.root.Load()
	for rest, more := filter, true; more && n != nil; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		n, _ = n.children.get(level)
	}
	if n == nil {
		return v, false
	}
	return n.entries.get(k)
}

// Len is the number of entries.
func (x *Index[K, V]) Len() int { return int(x.n.Load()) }

// Match calls fn for every entry whose filter matches topic, in no particular
// but always the same order. fn must not write to the index.
func (x *Index[K, V]) Match(topic string, fn func(filter string, k K, v V)) {
	if n := x.root.Load(); n != nil {
		n.match(topic, topic != "" && topic[0] == '$', fn)
	}
}

// set returns n with (rest of filter, k) set to *v, or deleted if v is nil; nil
// if nothing is left of it.
func (n *node[K, V]) set(filter, rest string, k K, v *V) *node[K, V] {
	c := node[K, V]{}
	if n != nil {
		c = *n
	}
	level, below, more := strings.Cut(rest, "/")
	child, _ := c.children.get(level)
	var next *node[K, V]
	if more {
		next = child.set(filter, below, k, v)
	} else {
		next = child.setEntry(filter, k, v)
	}
	if next == nil {
		c.children = c.children.without(level)
	} else {
		if child == nil {
			next.name = strings.Clone(level)
		}
		c.children = c.children.with(next.name, next)
	}
	if c.children.len() == 0 && c.entries.len() == 0 {
		return nil
	}
	return &c
}

func (n *node[K, V]) setEntry(filter string, k K, v *V) *node[K, V] {
	c := node[K, V]{}
	if n != nil {
		c = *n
	}
	if v == nil {
		c.entries = c.entries.without(k)
	} else {
		if c.entries.len() == 0 {
			c.filter = filter
		}
		c.entries = c.entries.with(k, *v)
	}
	if c.children.len() == 0 && c.entries.len() == 0 {
		return nil
	}
	return &c
}

// match walks the children that match the first level of topic. noWild says
// that a wildcard may not match it [MQTT-4.7.2-1].
func (n *node[K, V]) match(topic string, noWild bool, fn func(string, K, V)) {
	if !noWild {
		if c, ok := n.children.get("#"); ok {
			c.all(fn)
		}
	}
	level, rest, more := strings.Cut(topic, "/")
	if c, ok := n.children.get(level); ok {
		c.step(rest, more, fn)
	}
	if noWild {
		return
	}
	if c, ok := n.children.get("+"); ok {
		c.step(rest, more, fn)
	}
}

func (n *node[K, V]) step(rest string, more bool, fn func(string, K, V)) {
	if more {
		n.match(rest, false, fn)
		return
	}
	n.all(fn)
	if c, ok := n.children.get("#"); ok { // "a/#" matches "a", too
		c.all(fn)
	}
}

func (n *node[K, V]) all(fn func(string, K, V)) {
	n.entries.each(func(k K, v V) { fn(n.filter, k, v) })
}
