package rules

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/geocast/geocast/geo"
)

// A crowdIndex finds the rules that may mean a person, so that no other is asked.
type crowdIndex struct {
	all   []*Rule // they mean everybody
	user  map[string][]*Rule
	group map[string][]*Rule
	role  map[string][]*Rule
	tag   map[string][]*Rule
}

func newCrowdIndex() *crowdIndex {
	return &crowdIndex{user: map[string][]*Rule{}, group: map[string][]*Rule{}, role: map[string][]*Rule{}, tag: map[string][]*Rule{}}
}

// pairIndex finds the enabled near rules that a person may be a side of.
func pairIndex(rules []*Rule) crowdIndex {
	x := *newCrowdIndex()
	for _, r := range rules {
		if r.Situation == Near && r.Enabled {
			x.add(r, r.who)
			x.add(r, r.near.of)
		}
	}
	return x
}

// add enters r under what a person must have to be in c.
func (x *crowdIndex) add(r *Rule, c crowd) {
	if len(c) == 0 {
		x.all = append(x.all, r)
	}
	for i := range c {
		switch s := &c[i]; {
		case len(s.users) > 0:
			for _, u := range s.users {
				x.user[u] = append(x.user[u], r)
			}
		case len(s.groups) > 0:
			x.group[s.groups[0]] = append(x.group[s.groups[0]], r)
		case s.role != "":
			x.role[s.role] = append(x.role[s.role], r)
		case s.tag != "":
			x.tag[s.tag] = append(x.tag[s.tag], r)
		default:
			x.all = append(x.all, r)
		}
	}
}

// find appends the rules that may mean p, in the order of the set.
func (x *crowdIndex) find(rules []*Rule, p *Person) []*Rule {
	rules = append(rules, x.all...)
	rules = append(rules, x.user[p.Name]...)
	for _, g := range p.Groups {
		rules = append(rules, x.group[g]...)
	}
	if p.Role != "" {
		rules = append(rules, x.role[p.Role]...)
	}
	for _, t := range p.Tags {
		rules = append(rules, x.tag[t]...)
	}
	slices.SortFunc(rules, func(a, b *Rule) int { return cmp.Compare(a.index, b.index) })
	return slices.Compact(rules)
}

// nearByKey returns the enabled near rules by what their meetings rest on.
func nearByKey(rules []*Rule) map[uint64]*Rule {
	near := map[uint64]*Rule{}
	for _, r := range rules {
		if r.Situation == Near && r.Enabled {
			near[r.key] = r
		}
	}
	return near
}

// zoneRules are the enabled rules of a zone, by situation.
type zoneRules [Near]ruleList

// A ruleList is in the order of the set. A long one is found by whom its rules mean.
type ruleList struct {
	rules []*Rule
	by    *crowdIndex // nil for a short one
}

// fewRules are asked one by one.
const fewRules = 8

// index makes a list ready.
func (l *ruleList) index() {
	if len(l.rules) <= fewRules {
		return
	}
	l.by = newCrowdIndex()
	for _, r := range l.rules {
		l.by.add(r, r.who)
	}
}

// classify gives zones with the same rules the same list of them.
func (s *Set) classify(of [][]*Rule) {
	s.class = make([]uint32, len(of))
	known := map[string]uint32{}
	var key []byte
	for z, rules := range of {
		key = key[:0]
		for _, r := range rules {
			key = binary.AppendUvarint(key, uint64(r.index))
		}
		class, ok := known[string(key)]
		if !ok {
			class = uint32(len(s.rulesOf))
			known[string(key)] = class
			var by zoneRules
			for _, r := range rules {
				by[r.Situation].rules = append(by[r.Situation].rules, r)
			}
			for i := range by {
				by[i].index()
			}
			s.rulesOf = append(s.rulesOf, by)
		}
		s.class[z] = class
	}
}

// rulesAt are the rules of zone z for a situation that may mean p. room is used if it is needed.
func (s *Set) rulesAt(room []*Rule, z int, situation Situation, p *Person) []*Rule {
	l := &s.rulesOf[s.class[z]][situation]
	if l.by == nil {
		return l.rules
	}
	return l.by.find(room[:0], p)
}

// containing appends the zones that hold p, rising.
func (s *Set) containing(zones []int, p geo.Position) []int {
	s.index.Containing(p, func(z int) bool {
		zones = append(zones, z)
		return true
	})
	slices.Sort(zones)
	return zones
}
