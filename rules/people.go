package rules

import "slices"

// A Person is a user as the rules see it, at the moment a fix is stepped.
type Person struct {
	Name     string
	Role     string         // empty: none
	Groups   []string       // in any order
	Tags     []string       // in any order
	Attrs    map[string]any // string, float64 or bool; `who.attr.x` in a condition
	Contacts []string       // whom this user has as a contact; consent needs it from both sides
	Open     bool           // has everybody as a contact
}

// People answers who is who. The engine calls it inside Step, on the goroutine of its caller; answers must not change during a
// Step, and are neither kept nor changed by the engine. Lists of members are sorted by byte order, which is part of the contract:
// the order of an engine's output rests on it.
type People interface {
	// User returns the user of that name; false if it is not known, and then the person has a name only.
	User(name string) (Person, bool)
	// Group, Role and Tag return the names of the users with it, sorted; nil if there are none.
	Group(name string) []string
	Role(name string) []string
	Tag(name string) []string
}

// anyone is the user called name as far as people knows it.
func anyone(people People, name string) Person {
	p, _ := people.User(name)
	p.Name = name
	return p
}

// mutual reports whether a and b have each other as contacts.
func mutual(a, b *Person) bool {
	return a.has(b) && b.has(a)
}

// has reports whether p has o as a contact.
func (p *Person) has(o *Person) bool { return p.Open || slices.Contains(p.Contacts, o.Name) }

// acquainted reports whether a and b have a group or the role in common.
func acquainted(a, b *Person) bool {
	if a.Role != "" && a.Role == b.Role {
		return true
	}
	for _, g := range a.Groups {
		if slices.Contains(b.Groups, g) {
			return true
		}
	}
	return false
}

// Everybody is the people where nobody is declared: any name is a user without group, role and tag, and all have each other as
// contacts, since in open mode all positions are shared.
type Everybody struct{}

var _ People = Everybody{}

// User implements [People].
func (Everybody) User(name string) (Person, bool) { return Person{Name: name, Open: true}, true }

// Group implements [People]: nobody is in one.
func (Everybody) Group(string) []string { return nil }

// Role implements [People]: nobody has one.
func (Everybody) Role(string) []string { return nil }

// Tag implements [People]: nobody has one.
func (Everybody) Tag(string) []string { return nil }
