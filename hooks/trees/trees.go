// Package trees knows what the topics of users are for: which publishes users/,
// groups/ and owntracks/ take from whom, which filters may be subscribed there, and
// who sees whose position. A [Hook] is the hooks.Authorizer of `geocast serve`; it
// asks an access file, too, if there is one.
//
// The two tables are those of docs/access.md. What is in none is refused, with the
// nearest right topic in words.
package trees

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// Entries are an access file as the trees ask it; *acl.ACL is one. Its methods must
// be safe for concurrent use and must not block.
type Entries interface {
	// Decide says what the file says about a request: nothing (decided is
	// false), yes, or no (an error). tree asks whether the topic, or a filter that
	// begins with a wildcard, reaches into a tree: an entry whose own filter begins
	// with one does not speak then, if it does not say that it is for trees, too.
	Decide(r *hooks.Request, tree bool) (decided bool, err error)
	// Explain names the entry that decides, empty for none.
	Explain(r *hooks.Request, tree bool) string
	// Gateway reports whether id may report the position of user.
	Gateway(id *hooks.Identity, user string) bool
}

// Policy is who is who and who may what. It must not be changed once it is given
// to a Hook; its parts are asked by many goroutines at once.
type Policy struct {
	// People are the known users, their contacts, groups and roles; nil is
	// nobody. What it says of a user holds before what an Identity says.
	People rules.People
	// Shares reports whether members of a group see each other's positions; nil
	// is no group.
	Shares func(group string) bool
	// Known says that People are all there are: a user who is not among them,
	// since the users file was read again without him, may nothing any more.
	Known bool
	// Entries is the access file. nil leaves all plain topics to everybody.
	Entries Entries
}

// Hook is the trees as an Authorizer and a Tree. Make one with New.
type Hook struct {
	open   bool
	trees  []string
	others []hooks.Applier
	policy atomic.Pointer[Policy]
	// filters are those of the others.
	filters atomic.Pointer[[]string]
}

var (
	_ hooks.Prompt   = (*Hook)(nil)
	_ hooks.WideTree = (*Hook)(nil)
)

// New returns a Hook. A tree exists if one of the others is an Applier with a
// filter in it, and takes what such a filter matches; else its topics are plain
// ones. In open mode, when nobody signs in, all positions are shared and all may
// read $SYS.
func New(open bool, p Policy, others ...any) *Hook {
	h := &Hook{open: open}
	for _, x := range others {
		if a, ok := x.(hooks.Applier); ok {
			h.others = append(h.others, a)
		}
	}
	h.Set(p)
	for _, tree := range []string{"users", "groups", "owntracks"} {
		if slices.ContainsFunc(*h.filters.Load(), func(f string) bool { return strings.HasPrefix(f, tree+"/") }) {
			h.trees = append(h.trees, tree)
		}
	}
	return h
}

// Set replaces the policy, and reads the filters of the others anew. Requests that
// are being answered keep the old ones. It is safe for concurrent use.
func (h *Hook) Set(p Policy) {
	var filters []string
	for _, a := range h.others {
		filters = append(filters, a.Filters()...)
	}
	h.filters.Store(&filters)
	if p.People == nil {
		p.People = &rules.Roster{}
	}
	if p.Shares == nil {
		p.Shares = func(string) bool { return false }
	}
	if p.Entries == nil {
		p.Entries = noFile
	}
	h.policy.Store(&p)
}

// noEntries stands for no access file: who is let in may use all plain topics.
type noEntries struct{}

var noFile Entries = noEntries{}

func (noEntries) Decide(_ *hooks.Request, tree bool) (bool, error) { return !tree, nil }
func (noEntries) Explain(*hooks.Request, bool) string              { return "" }
func (noEntries) Gateway(*hooks.Identity, string) bool             { return false }

// Trees are the trees that exist.
func (h *Hook) Trees() []string { return h.trees }

// owns reports whether a topic or filter is in one of the trees.
func (h *Hook) owns(first string) bool { return slices.Contains(h.trees, first) }

// Authorize holds the tables for the trees, and the access file for all else.
func (h *Hook) Authorize(r *hooks.Request) error {
	_, err := h.decide(h.policy.Load(), r)
	return err
}

// Prompt says that Authorize waits for nothing: it is a hooks.Prompt. So must be the
// Policy's functions and Entries.
func (h *Hook) Prompt() {}

// What decides a request.
const (
	byEntry   = ""
	byTable   = "the table of topics in users/, groups/ and owntracks/"
	bySystem  = "$SYS is for role admin, and for all in open mode"
	byDefault = "no entry of the access file speaks about it"
	byUsers   = "the users file"
	byNothing = "there is no access file: plain topics are open"
)

// Explain says whether a request is allowed, and what decides: a line of the access
// file, a table or a default.
func (h *Hook) Explain(r *hooks.Request) (allowed bool, why string) {
	p := h.policy.Load()
	by, err := h.decide(p, r)
	if by == byEntry {
		asked := *r
		asked.Identity = p.identity(r.Identity)
		by = p.Entries.Explain(&asked, h.owns(first(r.Topic)))
	}
	if no, ok := errors.AsType[*hooks.Refusal](err); ok {
		by += ": " + no.Text
	}
	if err == nil && r.Action == hooks.Read && len(h.trees) > 0 && wild(r.Topic) {
		by += h.reach(p, r)
	}
	return err == nil, by
}

// reach says whether a filter that begins with a wildcard shows the trees.
func (h *Hook) reach(p *Policy, r *hooks.Request) string {
	those := strings.Join(h.trees, "/, ") + "/"
	if r.Identity.User == "" || !p.wide(r.Identity, r.Topic) {
		return "; it does not show " + those
	}
	asked := *r
	asked.Identity = p.identity(r.Identity)
	return "; it shows " + those + ", too, by " + p.Entries.Explain(&asked, true)
}

// wild reports whether the first level of a filter is a wildcard.
func wild(filter string) bool {
	return strings.HasPrefix(filter, "#") || strings.HasPrefix(filter, "+")
}

// decide is Authorize that says by what.
func (h *Hook) decide(p *Policy, r *hooks.Request) (by string, err error) {
	tree := h.owns(first(r.Topic))
	if p.gone(r.Identity.User) {
		return byUsers, refuse(mqtt.NotAuthorized, "user %s is not known any more", r.Identity.User)
	}
	if !tree && p.Entries == noFile && r.Action == hooks.Write {
		return byNothing, nil // the short way of most publishes
	}
	asked := *r
	asked.Identity = p.identity(r.Identity)
	decided, err := p.Entries.Decide(&asked, tree)
	switch {
	case tree && decided && (err != nil || r.Action == hooks.Read):
		return byEntry, err
	case tree && r.Action == hooks.Read:
		return byTable, h.read(&asked)
	case tree: // no entry lets anybody write in another's name
		return byTable, h.write(p, &asked)
	case decided && p.Entries != noFile:
		return byEntry, err
	case r.Action == hooks.Read && first(r.Topic) == "$SYS":
		return bySystem, h.readSystem(&asked)
	case decided:
		return byNothing, nil
	}
	return byDefault, refuse(mqtt.NotAuthorized, "you may not use %s", r.Topic)
}

// readSystem lets administrators see the server's own topics.
func (h *Hook) readSystem(r *hooks.Request) error {
	if h.open || r.Identity.Role == "admin" {
		return nil
	}
	return refuse(mqtt.NotAuthorized, "$SYS is for role admin")
}

// gone reports whether a user must be known and is not.
func (p *Policy) gone(user string) bool {
	if user == "" || !p.Known {
		return false
	}
	_, ok := p.People.User(user)
	return !ok
}

// identity is id with the role, groups and tags that the people know of it now: a
// will that is sent later is asked about with a name only.
func (p *Policy) identity(id *hooks.Identity) *hooks.Identity {
	who, ok := p.People.User(id.User)
	if !ok || id.User == "" {
		return id
	}
	known := *id
	known.Role, known.Groups, known.Tags = who.Role, who.Groups, who.Tags
	return &known
}

func first(topic string) string {
	level, _, _ := strings.Cut(topic, "/")
	return level
}

func refuse(r mqtt.Reason, format string, args ...any) error {
	return &hooks.Refusal{Reason: r, Text: fmt.Sprintf(format, args...)}
}
