package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/acl"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/hooks/trees"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/rules"
)

// hookFiles are the files that the hooks are made of; empty is none. They can be
// read again while a broker runs.
type hookFiles struct {
	rules     []string
	users     string
	acl       string
	anonymous bool          // lets clients without credentials in beside the users
	keep      time.Duration // of fixes; see georules.Hook
	fixes     int
	trackers  int
	all       int

	// what load has made of them
	people *users.Live // nil in open mode
	engine *georules.Hook
	access *trees.Hook
}

func (s *settings) hookFiles() hookFiles {
	return hookFiles{rules: s.Rules, users: s.Users, acl: s.ACL, anonymous: s.AllowAnonymous, keep: s.keep, fixes: s.Locations.Fixes,
		trackers: s.Locations.Trackers, all: s.Locations.AllTrackers}
}

// contents is what stands in the files.
type contents struct {
	set    *rules.Set
	users  *users.File // nil in open mode
	policy trees.Policy
}

// read reads all files, or names what is wrong in one.
func (f *hookFiles) read() (c contents, err error) {
	c.set = &rules.Set{}
	named, err := rulesFiles(f.rules)
	if err != nil {
		return c, err
	}
	if len(named) > 0 {
		if c.set, err = rules.Load(named...); err != nil {
			return c, err
		}
	}
	c.policy.People = rules.NewRoster(nil)
	if f.users != "" {
		if c.users, err = users.Load(f.users); err != nil {
			return c, err
		}
		c.policy = trees.Policy{People: c.users.People(), Shares: c.users.Shares, Known: true}
	}
	if f.acl != "" {
		entries, err := acl.Load(f.acl)
		if err != nil {
			return c, err
		}
		c.policy.Entries = entries
	}
	return c, nil
}

// near are the people of the rules: in open mode everybody, since all positions are
// shared.
func (c *contents) near() rules.People {
	if c.users == nil {
		return rules.Everybody{}
	}
	return c.policy.People
}

// warn logs whom the rules and the users file name and the latter has not, and which rules nobody can raise.
func (c *contents) warn() {
	if c.users == nil {
		return
	}
	for _, s := range c.users.Strangers() {
		slog.Warn("the users file names what it has not", "text", s)
	}
	for _, s := range c.set.Strangers(c.policy.People) {
		slog.Warn("a rule names somebody whom the users file has not", "rule", s.Error())
	}
	for _, f := range c.set.Unconsented(c.policy.People) {
		slog.Warn("a rule is never raised", "rule", f.Error())
	}
}

// load makes the hooks: who somebody is, what he may, rules and chat.
func (f *hookFiles) load() (all []any, err error) {
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	c.warn()
	people := c.policy.People
	if c.users != nil {
		f.people = users.NewLive(c.users)
		people = f.people
		all = append(all, f.people)
		if f.anonymous {
			all = append(all, users.Anonymous{})
		}
	}
	open := c.users == nil
	talk := chat.New(people, open)
	f.engine = georules.New(c.set, c.near())
	f.engine.Keep, f.engine.Fixes = f.keep, f.fixes
	f.engine.Trackers, f.engine.All = f.trackers, f.all
	f.access = trees.New(open, c.policy, f.engine, talk)
	f.engine.Gateway, f.engine.Source = f.access.Gateway, f.access.Source
	return append(all, f.access, f.engine, talk), nil
}

// apply lets b follow what was read from now on. Who is not in the users file any
// more, or has another secret, is disconnected, and subscriptions that are refused now
// end.
func (f *hookFiles) apply(c contents, b *broker.Broker) {
	var stays func(*hooks.Identity) bool
	if c.users != nil {
		old := f.people.File()
		stays = func(id *hooks.Identity) bool { return id.User == "" || c.users.SignsInAs(old, id.User) }
		f.people.Set(c.users)
		f.engine.ReplacePeople(c.policy.People)
	}
	f.engine.Replace(c.set)
	b.Refilter()
	f.access.Set(c.policy)
	b.Recheck(stays)
}

// rulesFiles are the files of names, in order; a folder stands for the *.yaml and
// *.yml in it, by name.
func rulesFiles(names []string) (files []string, err error) {
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("rules: %s", noSuch(err))
		}
		if !info.IsDir() {
			files = append(files, name)
			continue
		}
		found, err := rulesIn(name)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

func rulesIn(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && e.Name()[0] != '.' && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("rules: there is no *.yaml in the folder %s", dir)
	}
	return files, nil
}
