// Package acl is the access file: who may read and write which topics. An [ACL] is
// a hooks.Authorizer; `geocast serve` asks it through hooks/trees, which knows
// what the topics of users are for.
//
//	version: 1
//	acl:
//	  - deny:    {group: guests, read: "plant/secret/#"}
//	  - allow:   {user: "*", read: ["plant/#", "news/+"], write: "plant/%u/#"}
//	  - allow:   {role: backend, read: "users/+/location"}
//	  - allow:   {role: archive, read: "#", trees: true}
//	  - gateway: {user: lora, for: "truck-*", may: [location]}
//
// The first entry that speaks about a request decides it; if none does, the
// answer is no. A subscription asks for all topics of its filter at once: an allow
// speaks if one of its filters covers the asked one, a deny if one has a topic in
// common with it.
package acl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/regular"
	"github.com/geocast/geocast/strictyaml"
)

// ACL is an access file as it was read. It is immutable and safe for concurrent
// use.
type ACL struct {
	name    string
	entries []entry
}

var _ hooks.Prompt = (*ACL)(nil)

// entry is one allow, deny or gateway.
type entry struct {
	line  int
	kind  string // allow, deny, gateway
	who   who
	read  []pattern
	write []pattern
	as    []string // gateway: the users that it may write for, with *
	why   mqtt.Reason
	exact bool // deny: the very filters, not what overlaps them
	trees bool // allow: filters that begin with a wildcard reach into the trees
}

// who says whom an entry is about: all that is given must be so, of each list one.
type who struct {
	all, anonymous              bool
	user, group, role, clientID []string
}

// contents is the file as YAML.
type contents struct {
	Version int    `yaml:"version"`
	ACL     []item `yaml:"acl"`
}

type item struct {
	Allow   *access  `yaml:"allow"`
	Deny    *access  `yaml:"deny"`
	Gateway *gateway `yaml:"gateway"`
}

type access struct {
	User      strictyaml.Texts `yaml:"user"`
	Group     strictyaml.Texts `yaml:"group"`
	Role      strictyaml.Texts `yaml:"role"`
	Client    strictyaml.Texts `yaml:"client"`
	All       bool             `yaml:"all"`
	Anonymous bool             `yaml:"anonymous"`
	Read      strictyaml.Texts `yaml:"read"`
	Write     strictyaml.Texts `yaml:"write"`
	// Reason is what a deny tells: not_authorized, or unspecified, which does
	// not say that it is about rights.
	Reason string `yaml:"reason"`
	// Exact makes a deny refuse the very filters that it names, and not those
	// that have topics in common with them, such as #.
	Exact bool `yaml:"exact"`
	// Trees lets filters of an allow that begin with a wildcard reach the topics of
	// users, too, which #, meant for plain topics, must not do by accident.
	Trees bool `yaml:"trees"`
}

type gateway struct {
	User   strictyaml.Texts `yaml:"user"`
	Group  strictyaml.Texts `yaml:"group"`
	Role   strictyaml.Texts `yaml:"role"`
	Client strictyaml.Texts `yaml:"client"`
	For    strictyaml.Texts `yaml:"for"`
	May    strictyaml.Texts `yaml:"may"`
}

// Load reads an access file. Its errors are *strictyaml.Fault and name file, line
// and column, or what the system says.
func Load(name string) (*ACL, error) {
	text, err := regular.Read(name)
	if err != nil {
		return nil, fmt.Errorf("acl: %w", err)
	}
	return Parse(name, text)
}

// Parse reads the text of an access file; name is for errors and explanations.
func Parse(name string, text []byte) (*ACL, error) {
	doc, err := strictyaml.Parse(name, text)
	if err != nil {
		return nil, err
	}
	var c contents
	if err := doc.Decode(&c); err != nil {
		return nil, err
	}
	if c.Version > 1 {
		return nil, doc.Fault([]any{"version", ""}, "this geocast reads version 1")
	}
	a := &ACL{name: name}
	for i := range c.ACL {
		e, w := c.ACL[i].entry()
		if w != nil {
			return nil, doc.Fault(append([]any{"acl", i}, w.path...), "%s", w.text)
		}
		e.line = doc.Fault([]any{"acl", i}, "").Line
		a.entries = append(a.entries, e)
	}
	return a, nil
}

// Len is the number of entries.
func (a *ACL) Len() int { return len(a.entries) }

// wrong is what is wrong in an entry, and where.
type wrong struct {
	path []any
	text string
}

func (it *item) entry() (e entry, w *wrong) {
	given := 0
	for _, yes := range []bool{it.Allow != nil, it.Deny != nil, it.Gateway != nil} {
		if yes {
			given++
		}
	}
	switch {
	case given != 1:
		return e, &wrong{nil, "an entry is one of allow, deny and gateway, with who and what in braces: allow: {user: ann, read: \"news/#\"}"}
	case it.Allow != nil:
		e, w = it.Allow.entry("allow")
	case it.Deny != nil:
		e, w = it.Deny.entry("deny")
	default:
		e, w = it.Gateway.entry()
	}
	if w != nil {
		w.path = append([]any{e.kind}, w.path...)
	}
	return e, w
}

func (x *access) entry(kind string) (e entry, w *wrong) {
	e = entry{kind: kind, who: who{x.All, x.Anonymous, x.User, x.Group, x.Role, x.Client}}
	if w := e.who.check(); w != nil {
		return e, w
	}
	if e.why, w = x.reason(kind); w != nil {
		return e, w
	}
	if e.exact = x.Exact; x.Exact && kind == "allow" {
		return e, &wrong{[]any{"exact"}, "only a deny can be exact"}
	}
	if len(x.Read)+len(x.Write) == 0 {
		return e, &wrong{nil, "say what: read, write, or both, with a topic filter or a list of them"}
	}
	if e.read, w = patterns("read", x.Read); w != nil {
		return e, w
	}
	if e.write, w = patterns("write", x.Write); w != nil {
		return e, w
	}
	if w := x.checkTrees(kind, e.read); w != nil {
		return e, w
	}
	e.trees = x.Trees
	return e, nil
}

// checkTrees looks at what an entry grants in the topics of users.
func (x *access) checkTrees(kind string, read []pattern) *wrong {
	switch {
	case kind != "allow" && !x.Trees:
		return nil
	case kind != "allow":
		return &wrong{[]any{"trees"}, "only an allow has trees; a deny of what users share names it: read: \"users/#\""}
	case x.Trees && x.Anonymous:
		return &wrong{[]any{"trees"}, "who has no user name is shown nothing of users' topics"}
	case x.Trees && !slices.ContainsFunc(read, func(p pattern) bool { return p.levels.wild() }):
		return &wrong{[]any{"trees"}, "trees is for filters to read that begin with a wildcard, such as #; others reach users' topics by their names"}
	}
	for i, p := range read {
		if (inTrees(p.levels[0]) || x.Trees && p.levels.wild()) && (p.client || len(x.Client) > 0) {
			return &wrong{[]any{"read", i}, "what users share is granted to users, groups and roles, not to client ids"}
		}
	}
	return nil
}

// reason is the code that a refusal bears.
func (x *access) reason(kind string) (mqtt.Reason, *wrong) {
	switch {
	case x.Reason != "" && kind == "allow":
		return 0, &wrong{[]any{"reason"}, "only a deny has a reason"}
	case x.Reason == "" || x.Reason == "not_authorized":
		return mqtt.NotAuthorized, nil
	case x.Reason == "unspecified":
		return mqtt.UnspecifiedError, nil
	}
	return 0, &wrong{[]any{"reason", ""}, fmt.Sprintf("reason %q is not known; not_authorized or unspecified", x.Reason)}
}

// inTrees reports whether the first level of a filter is one of users' topics.
func inTrees(level string) bool { return level == "users" || level == "groups" || level == "owntracks" }

func patterns(key string, texts []string) (ps []pattern, w *wrong) {
	for i, text := range texts {
		p, err := parsePattern(text)
		if err != nil {
			return nil, &wrong{[]any{key, i}, err.Error()}
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func (x *gateway) entry() (e entry, w *wrong) {
	e = entry{kind: "gateway", who: who{false, false, x.User, x.Group, x.Role, x.Client}, as: x.For}
	if w := e.who.check(); w != nil {
		return e, w
	}
	if len(x.For) == 0 || slices.Contains(x.For, "") {
		return e, &wrong{[]any{"for"}, `say for whom the gateway may report: for: "truck-*"`}
	}
	if len(x.May) == 0 {
		return e, &wrong{[]any{"may"}, "say what the gateway may: may: [location]"}
	}
	for i, m := range x.May {
		if m != "location" {
			return e, &wrong{[]any{"may", i}, fmt.Sprintf("%q: a gateway may report location, nothing else", m)}
		}
	}
	return e, nil
}

// check looks for who is nobody or contradicts itself.
func (w *who) check() *wrong {
	named := len(w.user) + len(w.group) + len(w.role)
	switch {
	case w.all && (w.anonymous || named > 0):
		return &wrong{[]any{"all"}, "all is everybody; leave user, group, role and anonymous away"}
	case w.anonymous && named > 0:
		return &wrong{[]any{"anonymous"}, "an anonymous client has no user, group or role; make two entries"}
	case !w.all && !w.anonymous && named+len(w.clientID) == 0:
		return &wrong{nil, "say who: user, group, role, client, anonymous: true or all: true"}
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{"user", w.user}, {"group", w.group}, {"role", w.role}, {"client", w.clientID}} {
		if i := slices.Index(list.names, ""); i >= 0 {
			return &wrong{[]any{list.key, i}, list.key + " is empty; * is any"}
		}
	}
	return nil
}

// is reports whether an entry is about id.
func (w *who) is(id *hooks.Identity) bool {
	like := func(patterns []string, values ...string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(values, func(v string) bool {
			return v != "" && slices.ContainsFunc(patterns, func(p string) bool { return glob(p, v) })
		})
	}
	return (!w.anonymous || id.User == "") &&
		like(w.user, id.User) && like(w.role, id.Role) && like(w.group, id.Groups...) && like(w.clientID, id.Client)
}

// Authorize allows what an entry allows, and refuses everything else.
func (a *ACL) Authorize(r *hooks.Request) error {
	if decided, err := a.Decide(r, false); decided {
		return err
	}
	return refusal(r)
}

// Prompt says that Authorize waits for nothing: it is a hooks.Prompt.
func (a *ACL) Prompt() {}

// Decide says what the file says about a request: nothing (decided is false), yes,
// or no (a *hooks.Refusal). tree says that the topic is in a tree of a hook, or that
// the question is whether a filter reaches into one: what begins with a wildcard does
// not, as on the wire, but in an entry with trees: true.
func (a *ACL) Decide(r *hooks.Request, tree bool) (decided bool, err error) {
	e := a.find(r, tree)
	switch {
	case e == nil:
		return false, nil
	case e.kind == "allow":
		return true, nil
	case e.why != mqtt.NotAuthorized:
		return true, &hooks.Refusal{Reason: e.why}
	}
	return true, refusal(r)
}

// Explain returns the entry that decides a request, as file:line: and its text in
// short; empty if none does.
func (a *ACL) Explain(r *hooks.Request, tree bool) string {
	if e := a.find(r, tree); e != nil {
		return fmt.Sprintf("%s:%d: %s", a.name, e.line, e)
	}
	return ""
}

// find returns the first entry that speaks about a request.
func (a *ACL) find(r *hooks.Request, tree bool) *entry {
	asked := split(r.Topic)
	for i := range a.entries {
		e := &a.entries[i]
		if e.kind != "gateway" && e.who.is(r.Identity) && e.speaks(r, asked, tree) {
			return e
		}
	}
	return nil
}

// speaks reports whether an allow covers what is asked, or a deny touches it.
func (e *entry) speaks(r *hooks.Request, asked filter, tree bool) bool {
	patterns := e.write
	if r.Action == hooks.Read {
		patterns = e.read
	}
	for i := range patterns {
		f, ok := patterns[i].of(r.Identity)
		if !ok || tree && f.wild() && !e.trees {
			continue
		}
		switch {
		case e.kind == "allow" && f.covers(asked), e.kind == "deny" && e.exact && slices.Equal(f, asked),
			e.kind == "deny" && !e.exact && f.overlaps(asked):
			return true
		}
	}
	return false
}

// Gateway reports whether id may report the position of user.
func (a *ACL) Gateway(id *hooks.Identity, user string) bool {
	return slices.ContainsFunc(a.entries, func(e entry) bool {
		return e.kind == "gateway" && e.who.is(id) && slices.ContainsFunc(e.as, func(p string) bool { return glob(p, user) })
	})
}

// refusal is the no that a client hears.
func refusal(r *hooks.Request) error {
	what := "publish to"
	if r.Action == hooks.Read {
		what = "subscribe to"
	}
	return &hooks.Refusal{Reason: mqtt.NotAuthorized, Text: fmt.Sprintf("you may not %s %s", what, r.Topic)}
}

// String is the entry as it stands in the file, in short.
func (e *entry) String() string {
	var parts []string
	add := func(key string, values []string) {
		if len(values) == 1 {
			parts = append(parts, key+": "+values[0])
		} else if len(values) > 1 {
			parts = append(parts, key+": ["+strings.Join(values, ", ")+"]")
		}
	}
	if e.who.all {
		parts = append(parts, "all: true")
	}
	if e.who.anonymous {
		parts = append(parts, "anonymous: true")
	}
	add("user", e.who.user)
	add("group", e.who.group)
	add("role", e.who.role)
	add("client", e.who.clientID)
	add("read", texts(e.read))
	add("write", texts(e.write))
	if e.trees {
		parts = append(parts, "trees: true")
	}
	add("for", e.as)
	return e.kind + ": {" + strings.Join(parts, ", ") + "}"
}

func texts(ps []pattern) (ts []string) {
	for _, p := range ps {
		ts = append(ts, p.text)
	}
	return ts
}
