package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/acl"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/hooks/trees"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

type aclCmd struct {
	Check   aclCheckCmd   `cmd:"" help:"Say what is wrong with an access file."`
	Explain aclExplainCmd `cmd:"" help:"Say whether somebody may read or write a topic, and which line decides."`
}

type aclCheckCmd struct {
	File string `arg:"" type:"existingfile" help:"Access file." placeholder:"FILE"`
}

// Help shows an example.
func (aclCheckCmd) Help() string {
	return `Example: geocast acl check acl.yaml

What is granted in the topics of users and nobody gets by it is told, too, and is no error.`
}

// Run checks the file.
func (c *aclCheckCmd) Run() error {
	a, err := acl.Load(c.File)
	if err != nil {
		return usageError{err}
	}
	for _, line := range a.Void() {
		fmt.Fprintln(os.Stderr, line)
	}
	if a.Len() == 1 {
		fmt.Println("ok: 1 entry")
		return nil
	}
	fmt.Printf("ok: %d entries\n", a.Len())
	return nil
}

type aclExplainCmd struct {
	ACL    string `help:"Access file." type:"existingfile" placeholder:"FILE"`
	Users  string `help:"Users file; without it, open mode." type:"existingfile" placeholder:"FILE"`
	User   string `help:"Who asks; nobody if left out, as an anonymous client (in open mode: whom the client id names)." short:"u" placeholder:"NAME"`
	Client string `help:"The client id." short:"i" default:"client" placeholder:"ID"`
	Will   bool   `help:"Ask about a will."`
	JSON   bool   `help:"One JSON object."`
	Action string `arg:"" enum:"read,write" help:"read (subscribe) or write (publish)."`
	Topic  string `arg:"" help:"Topic filter or topic."`
}

// Help shows examples.
func (aclExplainCmd) Help() string {
	return `Examples:
  geocast acl explain --acl acl.yaml --users users.yaml --user ann read 'users/+/location'
  geocast acl explain --acl acl.yaml --user ann --client watch write plant/ann/temp

It prints allowed or refused and what decides: the line of the access file, or the table of topics in docs/access.md.
The exit code is 0 for allowed and 1 for refused. A subscription in users/ that is allowed still shows the positions of
those only who share them, and a message to a group is taken from its members only.`
}

// Run asks as the broker would.
func (c *aclExplainCmd) Run() error {
	allowed, why, err := c.explain()
	if err != nil {
		return usageError{err}
	}
	word := map[bool]string{true: "allowed", false: "refused"}[allowed]
	if c.JSON {
		err = json.NewEncoder(os.Stdout).Encode(struct {
			Allowed bool   `json:"allowed"`
			Why     string `json:"why"`
		}{allowed, why})
	} else {
		_, err = fmt.Printf("%s by %s\n", word, why)
	}
	if err == nil && !allowed {
		return quietError{fmt.Errorf("refused")}
	}
	return err
}

// explain asks as the broker does for a client that is in.
func (c *aclExplainCmd) explain() (allowed bool, why string, err error) {
	r, err := c.request()
	if err != nil {
		return false, "", err
	}
	if c.Users == "" && c.User == "" {
		r.Identity.User = c.Client // in open mode a client without a user name is who its client id says
	}
	files := hookFiles{users: c.Users, acl: c.ACL}
	read, err := files.read()
	if err != nil {
		return false, "", err
	}
	policy := read.policy
	if _, known := policy.People.User(c.User); c.Users != "" && c.User != "" && !known {
		return false, "", fmt.Errorf("%s knows no user %q", c.Users, c.User)
	}
	access := trees.New(c.Users == "", policy, georules.New(&rules.Set{}, policy.People), chat.New(policy.People, false))
	allowed, why = access.Explain(r)
	return allowed, why, nil
}

// request is what the broker would ask for the flags.
func (c *aclExplainCmd) request() (*hooks.Request, error) {
	r := &hooks.Request{Identity: &hooks.Identity{User: c.User, Client: c.Client}, Topic: c.Topic, Will: c.Will}
	if c.Will {
		r.Payload = []byte(`{"_type":"lwt"}`) // the one that is taken where the payload matters
	}
	if c.Action == "write" {
		if !mqtt.ValidTopicName([]byte(c.Topic)) {
			return nil, fmt.Errorf("%q is no topic to publish to: it has a wildcard, or is empty", c.Topic)
		}
		return r, nil
	}
	r.Action = hooks.Read
	if err := mqtt.ValidFilter(c.Topic); err != nil {
		return nil, err
	}
	_, rest, shared, err := mqtt.ParseShared(c.Topic)
	if shared {
		r.Topic, r.Shared = rest, true
	}
	return r, err
}
