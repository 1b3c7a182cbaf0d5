package trees

import (
	"slices"
	"strings"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/rules"
)

// MaySee reports whether user may be sent what is published on a topic in a tree:
// what is the user's own, what its owner shares, and what an entry of the access
// file grants; a deny there holds before what others share.
func (h *Hook) MaySee(user, topic string) bool {
	if user == "" {
		return false
	}
	tree, rest, _ := strings.Cut(topic, "/")
	level, rest, _ := strings.Cut(rest, "/")
	owner := hooks.DecodeName(level)
	p := h.policy.Load()
	switch {
	case p.gone(user):
		return false
	case tree != "groups" && owner == user:
		return true
	}
	r := hooks.Request{Identity: p.identity(&hooks.Identity{User: user}), Action: hooks.Read, Topic: topic}
	if decided, err := p.Entries.Decide(&r, true); decided {
		return err == nil
	}
	return shared(tree, first(rest)) && (h.open || p.shares(owner, user))
}

// SeesWide reports whether a filter that begins with a wildcard shows user the trees:
// only an entry of the access file with trees: true does that.
func (h *Hook) SeesWide(user, filter string) bool {
	p := h.policy.Load()
	return user != "" && !p.gone(user) && p.wide(&hooks.Identity{User: user}, filter)
}

// wide reports whether an entry lets such a filter reach into the trees.
func (p *Policy) wide(id *hooks.Identity, filter string) bool {
	r := hooks.Request{Identity: p.identity(id), Action: hooks.Read, Topic: filter}
	decided, err := p.Entries.Decide(&r, true)
	return decided && err == nil
}

// shared reports whether a topic is of the kind that people share.
func shared(tree, kind string) bool {
	return tree == "owntracks" && kind != "" || tree == "users" && (kind == "location" || kind == "presence")
}

// shares reports whether owner's position is readable by user: as mutual contacts,
// or by a group of both whose members share it.
func (p *Policy) shares(owner, user string) bool {
	a, known := p.People.User(owner)
	b, knows := p.People.User(user)
	if !known || !knows {
		return false
	}
	return contacts(&a, &b) || slices.ContainsFunc(a.Groups, func(g string) bool {
		return p.Shares(g) && slices.Contains(b.Groups, g)
	})
}

func contacts(a, b *rules.Person) bool {
	return slices.Contains(a.Contacts, b.Name) && slices.Contains(b.Contacts, a.Name)
}

// Source is Gateway for what comes by the topic of a source. In open mode everybody
// may report for everybody there, since nobody is known by name.
func (h *Hook) Source(from *hooks.Identity, who string) bool { return h.open || h.Gateway(from, who) }

// Gateway reports whether from may report the position of who: its own, or one that
// a gateway entry of the access file names.
func (h *Hook) Gateway(from *hooks.Identity, who string) bool {
	if from.User == "" || from.User == who {
		return from.User != ""
	}
	p := h.policy.Load()
	return !p.gone(from.User) && p.Entries.Gateway(p.identity(from), who)
}
