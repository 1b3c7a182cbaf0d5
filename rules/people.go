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
	return slices.Contains(a.Contacts, b.Name) && slices.Contains(b.Contacts, a.Name)
}

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
