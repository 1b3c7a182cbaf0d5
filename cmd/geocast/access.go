package main

import (
	"github.com/geocast/geocast/hooks/acl"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/hooks/trees"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/rules"
)

// hookFiles are the files that the hooks are made of; empty is none.
type hookFiles struct {
	rules     []string
	users     string
	acl       string
	anonymous bool // lets clients without credentials in beside the users
}

// load makes the hooks: who somebody is, what he may, rules and chat.
func (f *hookFiles) load() ([]any, error) {
	set := &rules.Set{}
	if len(f.rules) > 0 {
		var err error
		if set, err = rules.Load(f.rules...); err != nil {
			return nil, err
		}
	}
	policy, authenticators, err := f.policy()
	if err != nil {
		return nil, err
	}
	open := f.users == ""
	geo := georules.New(set, policy.People)
	talk := chat.New(policy.People, open)
	access := trees.New(open, policy, geo, talk)
	geo.Gateway = access.Gateway
	return append(authenticators, access, geo, talk), nil
}

// policy reads the users and the access file.
func (f *hookFiles) policy() (p trees.Policy, authenticators []any, err error) {
	p.People = rules.NewRoster(nil)
	if f.users != "" {
		file, err := users.Load(f.users)
		if err != nil {
			return p, nil, err
		}
		p.People, p.Shares, p.Known = file.People(), file.Shares, true
		authenticators = append(authenticators, file)
		if f.anonymous {
			authenticators = append(authenticators, users.Anonymous{})
		}
	}
	if f.acl != "" {
		entries, err := acl.Load(f.acl)
		if err != nil {
			return p, nil, err
		}
		p.Entries = entries
	}
	return p, authenticators, nil
}
