package rules

import (
	"slices"

	"github.com/geocast/geocast/strictyaml"
)

// A mention is a group, role or tag that a rule names, or a user whom it tells.
type mention struct {
	file         string
	line, column int
	kind, name   string
}

// Strangers returns whom the rules name and people has not: users who would be told, and groups, roles and tags that nobody has, as
// faults with their places. Whose fixes a rule is about may be unknown: devices of a source need not be users. It is nil if all are
// known.
func (s *Set) Strangers(people People) Faults {
	var strangers Faults
	for _, m := range s.mentions {
		if text := m.unknown(people); text != "" {
			strangers = append(strangers, Fault{File: m.file, Line: m.line, Column: m.column, Text: text})
		}
	}
	return strangers
}

// unknown says what people has not, empty for nothing.
func (m *mention) unknown(people People) string {
	known := true
	switch m.kind {
	case "user":
		_, known = people.User(m.name)
	case "group":
		known = len(people.Group(m.name)) > 0
	case "role":
		known = len(people.Role(m.name)) > 0
	case "tag":
		known = len(people.Tag(m.name)) > 0
	}
	switch {
	case known:
		return ""
	case m.kind == "user":
		return "user \"" + m.name + "\" is not known" + m.hint(people)
	}
	return "nobody has the " + m.kind + " \"" + m.name + "\"" + m.hint(people)
}

// hint is what may have been meant, where all people are known by name.
func (m *mention) hint(people People) string {
	r, ok := people.(*Roster)
	if !ok {
		return ""
	}
	if hint := strictyaml.DidYouMean(m.name, r.words(m.kind)); hint != "" {
		return hint
	}
	for _, kind := range []string{"user", "group", "role", "tag"} {
		if slices.Contains(r.words(kind), m.name) {
			return "; it is a " + kind + ": write {" + kind + ": " + m.name + "}"
		}
	}
	return ""
}
