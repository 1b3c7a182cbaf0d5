package rules

import (
	"maps"
	"slices"
)

// A Roster is a fixed list of people, for tests and replays and for what a users file declares. It is immutable and safe for
// concurrent use. The zero value knows nobody.
type Roster struct {
	people map[string]Person
	group  map[string][]string
	role   map[string][]string
	tag    map[string][]string
}

var _ People = (*Roster)(nil)

// NewRoster returns a roster of people. Of two persons with the same name the last one holds.
func NewRoster(people []Person) *Roster {
	r := &Roster{people: map[string]Person{}, group: map[string][]string{}, role: map[string][]string{}, tag: map[string][]string{}}
	for _, p := range people {
		r.people[p.Name] = p
	}
	for name, p := range r.people {
		for _, g := range p.Groups {
			r.group[g] = append(r.group[g], name)
		}
		for _, t := range p.Tags {
			r.tag[t] = append(r.tag[t], name)
		}
		if p.Role != "" {
			r.role[p.Role] = append(r.role[p.Role], name)
		}
	}
	for _, lists := range []map[string][]string{r.group, r.role, r.tag} {
		for what, names := range lists {
			slices.Sort(names)
			lists[what] = slices.Compact(names)
		}
	}
	return r
}

// User implements [People].
func (r *Roster) User(name string) (Person, bool) {
	p, ok := r.people[name]
	return p, ok
}

// Group implements [People].
func (r *Roster) Group(name string) []string { return r.group[name] }

// Role implements [People].
func (r *Roster) Role(name string) []string { return r.role[name] }

// Tag implements [People].
func (r *Roster) Tag(name string) []string { return r.tag[name] }

// words are the names of users, or the groups, roles or tags that somebody has, sorted.
func (r *Roster) words(kind string) []string {
	switch kind {
	case "group":
		return slices.Sorted(maps.Keys(r.group))
	case "role":
		return slices.Sorted(maps.Keys(r.role))
	case "tag":
		return slices.Sorted(maps.Keys(r.tag))
	}
	return slices.Sorted(maps.Keys(r.people))
}
