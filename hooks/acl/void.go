package acl

import "fmt"

// Void names what allows grant in the topics of users and nobody gets by it, one a
// line as file:line: text. It is no error, since the tables of hooks/trees decide there.
func (a *ACL) Void() (lines []string) {
	for i := range a.entries {
		e := &a.entries[i]
		if e.kind != "allow" {
			continue
		}
		for _, p := range e.write {
			if inTrees(p.levels[0]) && !p.own() {
				lines = append(lines, fmt.Sprintf("%s:%d: write: %s lets nobody write there in another's name; who reports for others is a gateway: {user: …, for: …, may: [location]}", a.name, e.line, p.text))
			}
		}
		for _, p := range e.read {
			if len(p.levels) == 3 && p.levels[0] == "users" && p.levels[2] == "inbox" && !p.own() {
				lines = append(lines, fmt.Sprintf("%s:%d: read: %s shows nobody another's inbox: its events are on no topic, and reach its owner's devices alone", a.name, e.line, p.text))
			}
		}
	}
	return lines
}

// own reports whether the second level is who asks.
func (p *pattern) own() bool { return len(p.levels) > 1 && p.levels[1] == "%u" }
