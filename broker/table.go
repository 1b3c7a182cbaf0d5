package broker

import (
	"hash/maphash"
	"math/bits"
)

// sessionTable finds sessions by their keys. It takes about 13 bytes a session, where a
// map takes 45 to 90, and grows in parts, so that a growth holds the core for no
// more than a fraction of a millisecond. The zero value is empty.
type sessionTable struct {
	parts [1024]tablePart
	n     int
}

// tablePart is open addressing with linear probing: a session stands at its home, or
// in one of the taken slots that follow, around the end.
type tablePart struct {
	slots []*session
	n     int
}

var sessionSeed = maphash.MakeSeed()

func (t *sessionTable) part(k sessionKey) (p *tablePart, h uint64) {
	h = maphash.Comparable(sessionSeed, k)
	return &t.parts[h%uint64(len(t.parts))], h
}

// home is where a session with that hash would best stand.
func (p *tablePart) home(h uint64) int {
	at, _ := bits.Mul64(h, uint64(len(p.slots)))
	return int(at)
}

// find returns the slot of a key, or the free one where it would stand.
func (p *tablePart) find(k sessionKey, h uint64) int {
	i := p.home(h)
	for p.slots[i] != nil && p.slots[i].key != k {
		i = (i + 1) % len(p.slots)
	}
	return i
}

// len is the number of sessions.
func (t *sessionTable) len() int { return t.n }

// get returns the session of that key, or nil.
func (t *sessionTable) get(k sessionKey) *session {
	p, h := t.part(k)
	if p.n == 0 {
		return nil
	}
	return p.slots[p.find(k, h)]
}

// put adds a session whose key is not there.
func (t *sessionTable) put(s *session) {
	p, h := t.part(s.key)
	if p.n >= len(p.slots)*3/4 {
		old := p.slots
		p.slots = make([]*session, len(old)+len(old)/2+4)
		for _, s := range old {
			if s != nil {
				_, h := t.part(s.key)
				p.slots[p.find(s.key, h)] = s
			}
		}
	}
	p.slots[p.find(s.key, h)] = s
	p.n++
	t.n++
}

// remove takes a session out; those behind it that it kept from their homes move
// up.
func (t *sessionTable) remove(k sessionKey) {
	p, h := t.part(k)
	if p.n == 0 {
		return
	}
	hole := p.find(k, h)
	if p.slots[hole] == nil {
		return
	}
	n := len(p.slots)
	for i := (hole + 1) % n; p.slots[i] != nil; i = (i + 1) % n {
		_, h := t.part(p.slots[i].key)
		if away := (i - p.home(h) + n) % n; away >= (i-hole+n)%n {
			p.slots[hole], hole = p.slots[i], i
		}
	}
	p.slots[hole] = nil
	p.n--
	t.n--
	if p.n == 0 {
		p.slots = nil
	}
}
