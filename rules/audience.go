package rules

import (
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/strictyaml"
)

// A selector picks people by who they are; each field that is set must match. The zero value is everybody.
type selector struct {
	users  []string
	groups []string
	role   string
	tag    string
}

// A crowd is the union of its selectors; an empty one is everybody.
type crowd []selector

// A target is one item of `to`.
type target struct {
	self   bool
	who    selector // together with within: those of them
	within float64  // metres; 0: at any distance
	zone   bool     // within is measured from the event's zone, not from its subject
	maxAge time.Duration
}

var (
	selectorWords = []string{"user", "users", "group", "role", "tag"}
	targetWords   = []string{"user", "users", "group", "role", "tag", "within", "of", "max_age"}
	targetLater   = []string{"nearest", "among", "friends", "both", "inside", "except", "subscribers", "owners"}
)

// matches reports whether p is picked.
func (s *selector) matches(p *Person) bool {
	if len(s.users) > 0 && !slices.Contains(s.users, p.Name) {
		return false
	}
	for _, g := range s.groups {
		if !slices.Contains(p.Groups, g) {
			return false
		}
	}
	return (s.role == "" || s.role == p.Role) && (s.tag == "" || slices.Contains(p.Tags, s.tag))
}

// members returns the names that s picks; everybody can't be listed and is nobody here.
func (s *selector) members(people People) []string {
	var names []string
	switch {
	case len(s.users) > 0:
		names = s.users
	case len(s.groups) > 0:
		names = people.Group(s.groups[0])
	case s.role != "":
		names = people.Role(s.role)
	case s.tag != "":
		names = people.Tag(s.tag)
	}
	if s.single() {
		return names
	}
	var picked []string
	for _, name := range names {
		if p := anyone(people, name); s.matches(&p) {
			picked = append(picked, name)
		}
	}
	return picked
}

// single reports whether one field alone decides.
func (s *selector) single() bool {
	n := len(s.groups)
	for _, set := range []bool{len(s.users) > 0, s.role != "", s.tag != ""} {
		if set {
			n++
		}
	}
	return n == 1
}

// matches reports whether p is in the crowd.
func (c crowd) matches(p *Person) bool {
	for i := range c {
		if c[i].matches(p) {
			return true
		}
	}
	return len(c) == 0
}

// crowd reads `who` or `of`: a selector or a list of them.
func (d *document) crowd(n ast.Node, what string) crowd {
	var c crowd
	items := list(n)
	for _, item := range items {
		entries, ok := d.mapping(item, what)
		if !ok {
			continue
		}
		var s selector
		for _, e := range entries {
			if !d.selectorField(&s, e, what) {
				d.unknown(e, what, selectorWords, targetLater)
			}
		}
		if len(entries) == 0 {
			d.fault(item, "%s is empty; leave it out to mean everybody", what)
		}
		c = append(c, s)
	}
	if len(items) == 0 {
		d.fault(n, "%s is empty; leave it out to mean everybody", what)
	}
	return c
}

// selectorField sets what e says in who, of or to; false if e is no word of a selector.
func (d *document) selectorField(s *selector, e entry, in string) bool {
	switch e.key {
	case "user":
		s.users = append(s.users, d.named(e.value, "user", in)...)
	case "users":
		items, _ := d.sequence(e.value, "users")
		for _, item := range items {
			s.users = append(s.users, d.named(item, "user", in)...)
		}
		slices.Sort(s.users)
		s.users = slices.Compact(s.users)
	case "group":
		s.groups = append(s.groups, d.named(e.value, "group", in)...)
	case "role":
		s.role = strings.Join(d.named(e.value, "role", in), "")
	case "tag":
		s.tag = strings.Join(d.named(e.value, "tag", in), "")
	default:
		return false
	}
	return true
}

// named returns n as a name of a user, group, role or tag, as name128 does, and notes where it stands.
func (d *document) named(n ast.Node, kind, in string) []string {
	names := d.name128(n, "a "+kind)
	if len(names) > 0 && (kind != "user" || in == "to") {
		line, column := strictyaml.Place(n)
		d.mentions = append(d.mentions, mention{d.name, line, column, kind, names[0]})
	}
	return names
}

// name128 returns n as a name of 1–128 bytes, as a list of one, or nothing with a fault.
func (d *document) name128(n ast.Node, what string) []string {
	name, ok := d.text(n, what)
	if !ok {
		return nil
	}
	if !geo.ValidName(name) {
		d.fault(n, "%q can't be %s: names have 1 to 128 bytes, no space, / + # or control character, and don't begin with $", name, what)
		return nil
	}
	return []string{name}
}

// targets reads `to`.
func (d *document) targets(n ast.Node, situation Situation) []target {
	var targets []target
	for _, item := range list(n) {
		if word, ok := scalar(item); ok {
			if word == "self" {
				targets = append(targets, target{self: true})
			} else {
				d.fault(item, "%q is no audience; write self, {user: %s}, {group: %s}, {role: %s} or {tag: %s}", word, word, word, word, word)
			}
			continue
		}
		if entries, ok := d.mapping(item, "to"); ok {
			targets = append(targets, d.target(item, entries, situation))
		}
	}
	if len(targets) == 0 && len(d.faults) == 0 {
		d.fault(n, "to is empty; name an audience")
	}
	return targets
}

func (d *document) target(n ast.Node, entries []entry, situation Situation) target {
	var t target
	of := false
	for _, e := range entries {
		switch e.key {
		case "within":
			t.within = d.length(e.value, "within")
		case "of":
			of = true
			t.zone = d.origin(e.value, situation)
		case "max_age":
			t.maxAge = d.period(e.value, "max_age")
		default:
			if !d.selectorField(&t.who, e, "to") {
				d.unknown(e, "to", targetWords, targetLater)
			}
		}
	}
	switch {
	case len(entries) == 0:
		d.fault(n, "to holds an empty audience")
	case t.within == 0 && (of || t.maxAge > 0) && !has(entries, "within"):
		d.fault(n, "of and max_age belong to within: {within: 5km, of: subject}")
	case has(entries, "within") && !of:
		d.fault(n, "within needs of: {within: 5km, of: subject} or {within: 5km, of: zone}")
	}
	return t
}

// origin reads what a distance is measured from; true for the zone.
func (d *document) origin(n ast.Node, situation Situation) (zone bool) {
	word, _ := d.text(n, "of")
	switch word {
	case "", "subject":
		return false
	case "zone":
		if situation == Near {
			d.fault(n, "a near rule has no zone; write of: subject")
		}
		return true
	}
	d.fault(n, "%q is neither subject nor zone%s; of: zone is the zone of the event", word, strictyaml.DidYouMean(word, []string{"subject", "zone"}))
	return false
}

func has(entries []entry, key string) bool {
	return slices.ContainsFunc(entries, func(e entry) bool { return e.key == key })
}

// length reads a length in metres; 0 with a fault.
func (d *document) length(n ast.Node, what string) float64 {
	s, ok := d.text(n, what)
	if !ok {
		return 0
	}
	metres, err := parseLength(s)
	if err != nil {
		d.fault(n, "%s: %v", what, err)
	}
	return metres
}

// period reads a duration; 0 with a fault.
func (d *document) period(n ast.Node, what string) time.Duration {
	s, ok := d.text(n, what)
	if !ok {
		return 0
	}
	p, err := parsePeriod(s)
	if err != nil {
		d.fault(n, "%s: %v", what, err)
	}
	return p
}
