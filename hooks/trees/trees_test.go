package trees_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/acl"
	"github.com/geocast/geocast/hooks/trees"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/mqtt"
)

// taker is an Applier that takes what its filters match.
type taker []string

func (taker) Name() string                                             { return "taker" }
func (f taker) Filters() []string                                      { return f }
func (taker) Restore(hooks.Reader, int64) error                        { return nil }
func (taker) Apply(hooks.Tx, *hooks.Publish) (hooks.Verdict, error)    { return hooks.Consume, nil }
func (taker) Tick(hooks.Tx) int64                                      { return 0 }
func (taker) Gate(context.Context, *hooks.Publish, hooks.Reader) error { return nil }

var everything = taker{"users/+/#", "groups/+/#", "owntracks/+/#"}

const house = `
users:
  ann: {contacts: [bob, eve], groups: [climb, work]}
  bob: {contacts: [ann]}
  cat: {groups: [climb]}
  dan: {groups: [work], role: backend}
  eve: {}
  root: {role: admin}
  lora: {}
  50%: {}
groups:
  climb: {share: location}
`

const file = `
acl:
  - deny:    {user: eve, read: "users/ann/location", write: "users/+/chat/#"}
  - allow:   {role: backend, read: ["users/+/location", "owntracks/#"], write: "users/ann/location"}
  - gateway: {user: lora, for: "truck-*", may: [location]}
  - allow:   {user: "*", read: "plant/#", write: "plant/%u"}
  - deny:    {all: true, read: "#", write: "#"}
`

func policy(t *testing.T, people, entries string) (p trees.Policy) {
	t.Helper()
	f, err := users.Parse("users.yaml", []byte(people))
	if err != nil {
		t.Fatal(err)
	}
	p = trees.Policy{People: f.People(), Shares: f.Shares}
	if entries != "" {
		a, err := acl.Parse("acl.yaml", []byte(entries))
		if err != nil {
			t.Fatal(err)
		}
		p.Entries = a
	}
	return p
}

// check compares an answer with what a row wants: "" for yes, else a part of the
// refusal's text.
func check(t *testing.T, err error, reason mqtt.Reason, want string) {
	t.Helper()
	no, _ := errors.AsType[*hooks.Refusal](err)
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (no == nil || no.Reason != reason || !strings.Contains(no.Text, want)):
		t.Errorf("got %#v, want %v and %q", err, reason, want)
	}
}

func TestPublishes(t *testing.T) {
	h := trees.New(false, policy(t, house, file), everything)
	for _, row := range []struct{ user, topic, want string }{
		{"ann", "users/bob/chat", ""}, {"ann", "users/bob/chat/7f3ac2e1", ""}, {"ann", "users/ann/chat", ""}, {"ann", "groups/climb/chat", ""}, {"ann", "groups/climb/chat/7f3ac2e1", ""},
		{"ann", "users/bob/act", ""}, {"ann", "groups/climb/act/7f3ac2e1", ""}, {"ann", "users/bob/typing", ""}, {"ann", "groups/climb/typing", ""},
		{"ann", "users/ann/location", ""}, {"ann", "users/ann/location/watch", ""}, {"ann", "users/ann/state", ""}, {"ann", "users/ann/read/u/bob", ""}, {"ann", "users/ann/read/g/climb", ""},
		{"ann", "users/ann/call/history", ""}, {"ann", "owntracks/ann/phone", ""}, {"ann", "owntracks/ann/phone/event", ""}, {"50%", "users/50%25/location", ""},
		{"ann", "users/bob/location", "publish your own location to users/ann/location[/{tracker}]"}, {"ann", "users/bob/location/x", "users/ann/location"},
		{"ann", "users/ann/location/a/b", "publish to users/ann/location[/{tracker}]"}, {"ann", "users/ann/location/", "publish to users/ann/location[/{tracker}]"},
		{"ann", "users/bob/state", "users/ann/state"}, {"ann", "users/bob/call/history", "users/ann/call/{method}"}, {"ann", "users/ann/call", "users/ann/call/{method}"},
		{"ann", "users/bob/read/u/ann", "users/ann/read/u/{peer}"}, {"ann", "users/ann/read/x/bob", "users/ann/read/u/{peer}"}, {"ann", "users/ann/read", "users/ann/read/u/{peer}"},
		{"ann", "users/bob/inbox", "users/bob/chat"}, {"ann", "users/ann/inbox", "written by the server"}, {"ann", "users/bob/presence", "written by the server"}, {"ann", "users/bob/live", "written by the server"},
		{"ann", "users/bob/reply/x", "written by the server"}, {"ann", "users/ann/lease/x", "written by the server"},
		{"ann", "users/bob/chta", `did you mean "chat"?`}, {"ann", "users/bob/zzz", "known are chat, act,"}, {"ann", "users/bob/chat/a/b", "publish to users/bob/chat[/{cid}]"},
		{"ann", "users", "say whose and what"}, {"ann", "users/bob", "say whose and what"}, {"ann", "users//chat", "say whose and what"}, {"ann", "users/bob/", "nothing is published to users/{name}/"},
		{"ann", "groups/climb/location", "known are chat, act or typing"}, {"ann", "groups/climb", "groups/{name}/chat"}, {"ann", "groups/climb/inbox", "known are chat"},
		{"ann", "owntracks/bob/phone", "publish your own reports to owntracks/ann/phone"}, {"ann", "owntracks/ann", "owntracks/ann/{device}"}, {"ann", "owntracks/ann/phone/cmd", "orders to a device (cmd) are not passed on; publish to owntracks/ann/{device}[/event]"},
		{"ann", "owntracks/ann/a/b/c", "owntracks/ann/{device}"}, {"ann", "owntracks/bob/phone/cmd", "owntracks/ann/{device}"},
		{"50%", "users/50%/location", "users/50%25/location"}, {"ANN", "users/ann/location", "users/ANN/location"},
		{"lora", "users/truck-7/location", ""}, {"lora", "owntracks/truck-7/gps", ""}, {"lora", "users/truck-7/location/gps", ""}, {"lora", "users/van/location", "users/lora/location"},
		{"lora", "users/truck-7/state", "users/lora/state"}, {"ann", "users/truck-7/location", "users/ann/location"},
		{"dan", "users/ann/location", "users/dan/location"}, // no entry lets anybody write in another's name
	} {
		t.Run(row.user+" "+row.topic, func(t *testing.T) {
			check(t, h.Authorize(&hooks.Request{Identity: &hooks.Identity{User: row.user, Client: "c"}, Topic: row.topic}), mqtt.TopicNameInvalid, row.want)
		})
	}
	t.Run("a deny of the file", func(t *testing.T) {
		check(t, h.Authorize(&hooks.Request{Identity: &hooks.Identity{User: "eve"}, Topic: "users/bob/chat/7f3ac2e1"}), mqtt.NotAuthorized, "you may not publish")
	})
	for _, topic := range []string{"users/ann/location", "users/bob/chat", "groups/climb/chat", "owntracks/ann/phone", "users/nobody/location", "users//location"} {
		t.Run("nobody "+topic, func(t *testing.T) {
			check(t, h.Authorize(&hooks.Request{Identity: &hooks.Identity{Client: "c"}, Topic: topic}), mqtt.NotAuthorized, "user name")
		})
	}
}

func TestWills(t *testing.T) {
	h := trees.New(false, policy(t, house, ""), everything)
	for _, row := range []struct{ topic, payload, want string }{
		{"users/ann/state", "away", ""}, {"owntracks/ann/phone", `{"_type":"lwt","tst":1790000000}`, ""}, {"plant/x", "gone", ""},
		{"users/bob/state", "away", "users/ann/state"}, {"owntracks/bob/phone", `{"_type":"lwt","tst":1}`, "owntracks/ann/{device}"},
		{"owntracks/ann/phone", `{"_type":"location","lat":1,"lon":2,"tst":1}`, `{"_type":"lwt"`}, {"owntracks/ann/phone", `{"_type":"lwt","lat":1,"lon":2}`, "lwt"},
		{"owntracks/ann/phone", `lwt`, "lwt"}, {"owntracks/ann/phone", ``, "lwt"}, {"owntracks/ann/phone/event", `{"_type":"lwt"}`, "owntracks/ann/{device}"},
		{"users/ann/location", `{"lat":1,"lon":2}`, "users/ann/state"}, {"users/bob/chat", "x", "users/ann/state"}, {"users/ann/inbox", "x", "users/ann/state"}, {"groups/climb/chat", "x", "users/ann/state"},
	} {
		t.Run(row.topic+" "+row.payload, func(t *testing.T) {
			check(t, h.Authorize(&hooks.Request{Identity: &hooks.Identity{User: "ann", Client: "c"}, Topic: row.topic, Payload: []byte(row.payload), Will: true}), mqtt.TopicNameInvalid, row.want)
		})
	}
}

func TestSubscriptions(t *testing.T) {
	h := trees.New(false, policy(t, house, file), everything)
	for _, row := range []struct{ user, filter, want string }{
		{"ann", "users/ann/inbox", ""}, {"ann", "users/ann/live", ""}, {"ann", "users/ann/reply", ""}, {"ann", "users/ann/reply/#", ""}, {"ann", "users/ann/reply/7", ""}, {"ann", "users/ann/#", ""},
		{"ann", "users/ann/lease/watch", ""}, {"ann", "users/ann/lease/+", ""}, {"ann", "users/ann/location", ""}, {"ann", "users/bob/location", ""}, {"ann", "users/bob/location/watch", ""},
		{"ann", "users/+/location", ""}, {"ann", "users/+/location/+", ""}, {"ann", "users/+/location/#", ""}, {"ann", "users/+/presence", ""}, {"ann", "users/bob/presence", ""},
		{"ann", "owntracks/+/+", ""}, {"ann", "owntracks/+/+/event", ""}, {"ann", "owntracks/ann/phone/cmd", ""}, {"ann", "owntracks/#", ""}, {"50%", "users/50%25/inbox", ""},
		{"ann", "users/bob/inbox", "subscribe to your own: users/ann/inbox"}, {"ann", "users/+/inbox", "users/ann/inbox"}, {"ann", "users/bob/#", "users/ann/#"}, {"ann", "users/#", "users/ann/#"},
		{"ann", "users/+/#", "users/ann/#"}, {"ann", "users/+/+", "users/ann/#"}, {"ann", "users/ann/+", "users/ann/#"}, {"ann", "users/+", "users/ann/#"}, {"ann", "users", "users/ann/#"},
		{"ann", "users/bob/reply", "users/ann/reply"}, {"ann", "users/bob/live", "users/ann/live"}, {"ann", "users/bob/lease/x", "users/ann/lease/{tracker}"}, {"ann", "users/ann/lease", "users/ann/lease/{tracker}"},
		{"ann", "users/ann/chat", "users/ann/inbox"}, {"ann", "users/+/chat/#", "users/ann/inbox"}, {"ann", "users/bob/presence/x", "users/{user}/presence"}, {"ann", "users/bob/location/a/b", "users/ann/inbox"},
		{"ann", "groups/climb/chat", "users/ann/inbox"}, {"ann", "groups/#", "users/ann/inbox"}, {"50%", "users/50%/inbox", "users/50%25/inbox"},
		{"dan", "users/+/location", ""}, {"eve", "users/+/location", "you may not subscribe"}, {"eve", "users/bob/location", ""}, {"eve", "users/ann/location", "you may not subscribe"},
		{"ann", "plant/#", ""}, {"ann", "#", "you may not subscribe"}, {"ann", "$SYS/#", "$SYS is for role admin"}, {"root", "$SYS/#", ""},
	} {
		t.Run(row.user+" "+row.filter, func(t *testing.T) {
			check(t, h.Authorize(&hooks.Request{Identity: &hooks.Identity{User: row.user, Client: "c"}, Action: hooks.Read, Topic: row.filter}), mqtt.NotAuthorized, row.want)
		})
	}
	for _, row := range []struct{ user, filter, want string }{
		{"ann", "users/ann/inbox", "$share in users/ needs a grant"}, {"ann", "users/+/location", "$share in users/ needs a grant"}, {"ann", "owntracks/+/+", "$share in owntracks/"},
		{"dan", "users/+/location", ""}, {"dan", "users/+/presence", "$share"}, {"ann", "plant/x", ""},
	} {
		t.Run("$share "+row.user+" "+row.filter, func(t *testing.T) {
			check(t, h.Authorize(&hooks.Request{Identity: &hooks.Identity{User: row.user, Client: "c"}, Action: hooks.Read, Topic: row.filter, Shared: true}), mqtt.NotAuthorized, row.want)
		})
	}
	for _, filter := range []string{"users/ann/inbox", "users/+/location", "owntracks/+/+", "groups/climb/chat", "users//inbox"} {
		t.Run("nobody "+filter, func(t *testing.T) {
			check(t, h.Authorize(&hooks.Request{Identity: &hooks.Identity{Client: "c"}, Action: hooks.Read, Topic: filter}), mqtt.NotAuthorized, "user name")
		})
	}
}

func TestWhoSeesWhom(t *testing.T) {
	for _, row := range []struct {
		entries, user, topic string
		open, yes            bool
	}{
		{user: "ann", topic: "users/ann/location", yes: true}, {user: "ann", topic: "users/ann/inbox", yes: true}, {user: "50%", topic: "users/50%25/live", yes: true},
		{user: "bob", topic: "users/ann/location", yes: true}, {user: "bob", topic: "owntracks/ann/phone", yes: true}, {user: "bob", topic: "users/ann/presence", yes: true}, // mutual contacts
		{user: "eve", topic: "users/ann/location"}, {user: "ann", topic: "users/eve/location"}, // on one side only
		{user: "cat", topic: "users/ann/location/watch", yes: true}, // a group that shares
		{user: "dan", topic: "users/ann/location"},                  // a group that does not
		{user: "bob", topic: "users/ann/inbox"}, {user: "bob", topic: "users/ann/live"}, {user: "bob", topic: "users/ann/reply/1"}, {user: "bob", topic: "users/ann/lease/x"}, {user: "bob", topic: "users/ann/chat"},
		{user: "ann", topic: "groups/ann/chat"}, {user: "cat", topic: "groups/climb/chat"}, {user: "", topic: "users//location"}, {user: "", topic: "users/ann/location"},
		{user: "zoe", topic: "users/ann/location", open: true, yes: true}, {user: "zoe", topic: "users/ann/inbox", open: true}, {user: "", topic: "users/ann/location", open: true}, {user: "zoe", topic: "owntracks/ann/x", open: true, yes: true},
		{entries: file, user: "dan", topic: "users/bob/location", yes: true}, {entries: file, user: "dan", topic: "users/bob/presence"}, {entries: file, user: "dan", topic: "users/dan/inbox", yes: true},
		{entries: `acl: [{deny: {user: bob, read: "users/#"}}]`, user: "bob", topic: "users/ann/location"}, {entries: `acl: [{deny: {user: bob, read: "#"}}]`, user: "bob", topic: "users/ann/location", yes: true},
	} {
		t.Run(row.user+" "+row.topic, func(t *testing.T) {
			h := trees.New(row.open, policy(t, house, row.entries), everything)
			if got := h.MaySee(row.user, row.topic); got != row.yes {
				t.Errorf("got %v", got)
			}
		})
	}
}

// A filter that begins with a wildcard shows the trees to whom an entry with trees: true
// says so, and to nobody else: not who owns, shares or is granted something by name.
func TestWhoSeesTheTreesByAWildcard(t *testing.T) {
	const entries = `acl: [{allow: {user: dan, read: "users/#"}}, {allow: {user: cat, read: "+/+/location", trees: true}}, {allow: {user: "*", read: "#"}}, {allow: {all: true, read: "+", trees: true}}]`
	for _, row := range []struct {
		user, filter  string
		entries, open bool
		yes           bool
	}{
		{user: "cat", filter: "+/+/location", entries: true, yes: true}, {user: "cat", filter: "+/ann/location", entries: true, yes: true}, {user: "cat", filter: "#", entries: true},
		{user: "ann", filter: "#", entries: true}, {user: "dan", filter: "#", entries: true}, {user: "zoe", filter: "+/+/location", entries: true, open: true},
		{user: "ann", filter: "#"}, {user: "ann", filter: "#", open: true}, {user: "", filter: "+", entries: true},
	} {
		t.Run(row.user+" "+row.filter, func(t *testing.T) {
			text := ""
			if row.entries {
				text = entries
			}
			h := trees.New(row.open, policy(t, house, text), everything)
			if got := h.SeesWide(row.user, row.filter); got != row.yes {
				t.Errorf("got %v", got)
			}
		})
	}
	h := trees.New(false, policy(t, house, entries), everything)
	for user, want := range map[string]string{"cat": "acl.yaml:1: allow: {user: cat, read: +/+/location, trees: true}; it shows users/, groups/, owntracks/, too, by acl.yaml:1: allow: {user: cat",
		"ann": "acl.yaml:1: allow: {user: *, read: #}; it does not show users/, groups/, owntracks/"} {
		if yes, why := h.Explain(&hooks.Request{Identity: &hooks.Identity{User: user}, Action: hooks.Read, Topic: "+/+/location"}); !yes || !strings.HasPrefix(why, want) {
			t.Errorf("%s: %t by %s", user, yes, why)
		}
	}
}

// Without an access file all plain topics are open to who is let in, but for $SYS.
func TestPlainTopics(t *testing.T) {
	for _, row := range []struct {
		name, user, topic string
		action            hooks.Action
		open              bool
		entries, want     string
	}{
		{name: "signed in", user: "ann", topic: "sensors/#", action: hooks.Read}, {name: "everything", user: "ann", topic: "#", action: hooks.Read}, {name: "publish", user: "ann", topic: "sensors/x"},
		{name: "nobody", topic: "sensors/x"}, {name: "$SYS", user: "ann", topic: "$SYS/#", action: hooks.Read, want: "role admin"}, {name: "$SYS by admin", user: "root", topic: "$SYS/#", action: hooks.Read},
		{name: "$SYS in open mode", topic: "$SYS/#", action: hooks.Read, open: true},
		{name: "$SYS by an entry", user: "ann", topic: "$SYS/#", action: hooks.Read, entries: `acl: [{allow: {user: ann, read: $SYS/#}}]`},
		{name: "$SYS by admin, denied", user: "root", topic: "$SYS/#", action: hooks.Read, entries: `acl: [{deny: {role: admin, read: $SYS/#}}]`, want: "you may not"},
		{name: "by no entry", user: "ann", topic: "sensors/x", entries: `acl: []`, want: "you may not use sensors/x"},
		{name: "open, by no entry", topic: "sensors/x", open: true, entries: `acl: []`, want: "you may not use sensors/x"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := trees.New(row.open, policy(t, house, row.entries), everything)
			check(t, h.Authorize(&hooks.Request{Identity: &hooks.Identity{User: row.user, Client: "c"}, Action: row.action, Topic: row.topic}), mqtt.NotAuthorized, row.want)
		})
	}
}

// A tree without a hook is no tree, and what no hook takes is not passed on.
func TestTreesExistWithTheirHooks(t *testing.T) {
	ann := &hooks.Identity{User: "ann", Client: "c"}
	none := trees.New(false, policy(t, house, ""))
	if got := none.Trees(); len(got) != 0 {
		t.Errorf("trees without hooks: %v", got)
	}
	check(t, none.Authorize(&hooks.Request{Identity: ann, Topic: "users/bob/inbox"}), 0, "")
	some := trees.New(false, policy(t, house, ""), taker{"users/+/location", "owntracks/+/+"})
	if got := strings.Join(some.Trees(), " "); got != "users owntracks" {
		t.Errorf("trees: %s", got)
	}
	check(t, some.Authorize(&hooks.Request{Identity: ann, Topic: "groups/climb/chat"}), 0, "")
	check(t, some.Authorize(&hooks.Request{Identity: ann, Topic: "users/ann/location"}), 0, "")
	check(t, some.Authorize(&hooks.Request{Identity: ann, Topic: "users/bob/chat"}), mqtt.TopicNameInvalid, "users/bob/chat is not taken yet; today users/ann/location")
	check(t, some.Authorize(&hooks.Request{Identity: ann, Topic: "users/ann/state", Payload: []byte("away"), Will: true}), mqtt.TopicNameInvalid, `in users/ a will goes as {"_type":"lwt","tst":…} to owntracks/ann/{device}`)
	check(t, some.Authorize(&hooks.Request{Identity: ann, Topic: "users/ann/location", Will: true}), mqtt.TopicNameInvalid, `in users/ a will goes as {"_type":"lwt"`)
	check(t, some.Authorize(&hooks.Request{Identity: ann, Topic: "owntracks/ann/phone", Payload: []byte(`{"_type":"lwt","tst":1}`), Will: true}), 0, "")
	check(t, some.Authorize(&hooks.Request{Identity: ann, Topic: "owntracks/ann/phone/waypoints"}), mqtt.TopicNameInvalid, "owntracks/ann/phone/waypoints is not taken yet; today owntracks/ann/{device}[/event]")
	served := trees.New(false, policy(t, house, ""), taker{"users/+/location", "users/+/location/+", "users/+/chat", "users/+/chat/+", "groups/+/chat", "owntracks/+/+"})
	check(t, served.Authorize(&hooks.Request{Identity: ann, Topic: "users/bob/typing"}), mqtt.TopicNameInvalid, "users/bob/typing is not taken yet; today users/{peer}/chat[/{cid}] or users/ann/location[/{tracker}]")
	check(t, served.Authorize(&hooks.Request{Identity: ann, Topic: "groups/climb/act"}), mqtt.TopicNameInvalid, "groups/climb/act is not taken yet; today groups/{group}/chat[/{cid}]")
}

// A will that is sent later is asked about with a name only: role and groups come
// from the people, and from those of now.
func TestRolesAreLookedUp(t *testing.T) {
	const nightly = `acl: [{allow: {role: backend, write: "log/#"}}]`
	h := trees.New(false, policy(t, house, nightly), everything)
	dan := &hooks.Identity{User: "dan", Client: "c"}
	will := &hooks.Request{Identity: dan, Topic: "log/dan", Will: true}
	check(t, h.Authorize(will), 0, "")
	h.Set(policy(t, "users: {dan: {role: retired}}", nightly))
	check(t, h.Authorize(will), mqtt.NotAuthorized, "you may not")
	dan.Role = "backend" // what the connection was told when it signed in
	check(t, h.Authorize(will), mqtt.NotAuthorized, "you may not")
}

func TestExplain(t *testing.T) {
	h := trees.New(false, policy(t, house, file), everything)
	plain := trees.New(false, policy(t, house, ""), everything)
	for _, row := range []struct {
		h           *trees.Hook
		user, topic string
		action      hooks.Action
		yes         bool
		want        string
	}{
		{h, "eve", "users/+/location", hooks.Read, false, "acl.yaml:3: deny: {user: eve, read: users/ann/location, write: users/+/chat/#}: you may not"},
		{h, "dan", "users/+/location", hooks.Read, true, "acl.yaml:4: allow: {role: backend, read: [users/+/location, owntracks/#]"},
		{h, "dan", "users/ann/location", hooks.Write, false, "the table of topics in users/, groups/ and owntracks/: publish your own location"},
		{h, "ann", "users/ann/inbox", hooks.Read, true, "the table of topics"}, {h, "ann", "x", hooks.Write, false, "acl.yaml:7: deny: {all: true"},
		{plain, "ann", "x", hooks.Write, true, "there is no access file"}, {plain, "ann", "$SYS/x", hooks.Read, false, "$SYS is for role admin"},
	} {
		yes, why := row.h.Explain(&hooks.Request{Identity: &hooks.Identity{User: row.user, Client: "c"}, Action: row.action, Topic: row.topic})
		if yes != row.yes || !strings.HasPrefix(why, row.want) {
			t.Errorf("%s %s: %v, %s", row.user, row.topic, yes, why)
		}
	}
}

// Who is taken out of the users file may nothing any more, connected or not.
func TestWhoIsGoneMayNothing(t *testing.T) {
	p := policy(t, house, file)
	p.Known = true
	h := trees.New(false, p, everything)
	bob := &hooks.Identity{User: "bob", Client: "c", Role: "admin", Verified: true}
	asked := []*hooks.Request{
		{Identity: bob, Topic: "plant/bob"}, {Identity: bob, Topic: "users/bob/location"}, {Identity: bob, Action: hooks.Read, Topic: "users/bob/inbox"},
		{Identity: bob, Action: hooks.Read, Topic: "plant/x"}, {Identity: bob, Topic: "users/bob/state", Will: true},
	}
	for _, r := range asked {
		check(t, h.Authorize(r), 0, "")
	}
	p = policy(t, "users: {ann: {contacts: [bob]}}", file)
	p.Known = true
	h.Set(p)
	for _, r := range append(asked, &hooks.Request{Identity: bob, Action: hooks.Read, Topic: "$SYS/#"}) {
		check(t, h.Authorize(r), mqtt.NotAuthorized, "user bob is not known any more")
	}
	if h.MaySee("bob", "users/ann/location") || h.MaySee("bob", "users/bob/inbox") {
		t.Error("bob is still sent something")
	}
	check(t, h.Authorize(&hooks.Request{Identity: &hooks.Identity{Client: "c"}, Topic: "x"}), mqtt.NotAuthorized, "you may not")
}

func BenchmarkAuthorize(b *testing.B) {
	f, err := users.Parse("users.yaml", []byte(house))
	if err != nil {
		b.Fatal(err)
	}
	entries, err := acl.Parse("acl.yaml", []byte(file))
	if err != nil {
		b.Fatal(err)
	}
	ann := &hooks.Identity{User: "ann", Client: "c"}
	for _, row := range []struct {
		name    string
		entries trees.Entries
		topic   string
	}{{"plain", nil, "plant/ann"}, {"plain by an entry", entries, "plant/ann"}, {"own position", nil, "users/ann/location"}} {
		b.Run(row.name, func(b *testing.B) {
			h := trees.New(false, trees.Policy{People: f.People(), Shares: f.Shares, Known: true, Entries: row.entries}, everything)
			b.ReportAllocs()
			for b.Loop() {
				if h.Authorize(&hooks.Request{Identity: ann, Topic: row.topic}) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}

// Who may report for whom by a source's topic: the user itself, its gateway, and in
// open mode everybody.
func TestSource(t *testing.T) {
	for _, row := range []struct {
		name, from, who string
		open, want      bool
	}{
		{"for itself", "ann", "ann", false, true},
		{"for another", "ann", "truck-7", false, false},
		{"a gateway for its own", "lora", "truck-7", false, true},
		{"a gateway for another", "lora", "ann", false, false},
		{"nobody", "", "ann", false, false},
		{"for another in open mode", "ann", "truck-7", true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := trees.New(row.open, policy(t, house, file), everything)
			if got := h.Source(&hooks.Identity{User: row.from, Client: "c"}, row.who); got != row.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
