package acl_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/acl"
	"github.com/geocast/geocast/mqtt"
)

func parse(t interface {
	Helper()
	Fatal(...any)
}, text string) *acl.ACL {
	t.Helper()
	a, err := acl.Parse("acl.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const plant = `
version: 1
acl:
  - deny:  {group: guests, read: "plant/secret/#"}
  - allow: {role: admin, read: ["#", "$SYS/#"], write: "#"}
  - deny:  {user: [mallory, "bad-*"], read: "#", write: "#"}
  - allow: {user: "*", read: ["plant/#", "news/+"], write: ["plant/%u/#", "dev/%c/up"]}
  - allow: {client: "sensor-*", write: "raw/%c"}
  - allow: {anonymous: true, read: news/today}
  - allow: {role: backend, group: night, read: "users/+/location"}
  - allow: {all: true, write: ping}
  - gateway: {user: lora, for: ["truck-*", van], may: [location]}
`

// people of the rows, by their user names; nobody is anonymous.
var people = map[string]hooks.Identity{
	"ann":     {User: "ann", Client: "a1"},
	"root":    {User: "root", Client: "r1", Role: "admin"},
	"gus":     {User: "gus", Client: "g1", Groups: []string{"day", "guests"}},
	"mallory": {User: "mallory", Client: "m1"}, "bad-7": {User: "bad-7", Client: "b"},
	"nobody": {Client: "n1"}, "sensor": {Client: "sensor-4"},
	"back": {User: "back", Client: "b1", Role: "backend", Groups: []string{"night"}}, "day": {User: "day", Client: "d1", Role: "backend"},
	"wild": {User: "+", Client: "#"}, "deep": {User: "a/b", Client: "x/../y"}, "percent": {User: "%2B", Client: "p"}, "dollar": {User: "$SYS", Client: "d"},
}

func TestWhoMayWhat(t *testing.T) {
	a := parse(t, plant)
	for _, row := range []struct {
		who, action, topic string
		yes                bool
		line               int // of the entry that decides; 0 for none
	}{
		{"ann", "write", "plant/ann/temp", true, 7}, {"ann", "write", "plant/ann", true, 7}, {"ann", "write", "plant/bob/temp", false, 0},
		{"ann", "write", "plant", false, 0}, {"ann", "write", "dev/a1/up", true, 7}, {"ann", "write", "dev/a2/up", false, 0},
		{"ann", "read", "plant/#", true, 7}, {"ann", "read", "plant", true, 7}, {"ann", "read", "plant/+/temp", true, 7}, {"ann", "read", "plant/secret/x", true, 7},
		{"ann", "read", "#", false, 0}, {"ann", "read", "+/#", false, 0}, {"ann", "read", "+", false, 0}, {"ann", "read", "news/+", true, 7},
		{"ann", "read", "news/#", false, 0}, {"ann", "read", "news", false, 0}, {"ann", "read", "news/a/b", false, 0}, {"ann", "read", "plants", false, 0},
		{"ann", "read", "$SYS/#", false, 0}, {"ann", "write", "raw/a1", false, 0}, {"ann", "write", "ping", true, 11}, {"ann", "read", "ping", false, 0},
		{"gus", "read", "plant/#", false, 4}, {"gus", "read", "plant/+/x", false, 4}, {"gus", "read", "plant/secret", false, 4}, {"gus", "read", "+/secret/+", false, 4},
		{"gus", "read", "plant/open/#", true, 7}, {"gus", "read", "#", false, 4}, {"gus", "write", "plant/gus/x", true, 7}, {"gus", "read", "+/open", false, 0},
		{"root", "read", "#", true, 5}, {"root", "read", "+/#", true, 5}, {"root", "read", "$SYS/broker/uptime", true, 5}, {"root", "write", "any/thing", true, 5}, {"root", "write", "$SYS/x", false, 0},
		{"mallory", "read", "plant/x", false, 6}, {"mallory", "write", "ping", false, 6}, {"bad-7", "write", "ping", false, 6},
		{"nobody", "read", "news/today", true, 9}, {"nobody", "read", "news/+", false, 0}, {"nobody", "write", "plant//x", false, 0}, {"nobody", "write", "ping", true, 11},
		{"sensor", "write", "raw/sensor-4", true, 8}, {"sensor", "write", "raw/sensor-5", false, 0}, {"ann", "read", "news/today", true, 7},
		{"back", "read", "users/+/location", true, 10}, {"back", "read", "users/ann/location", true, 10}, {"back", "read", "users/+/+", false, 0}, {"day", "read", "users/+/location", false, 0},
		{"wild", "write", "plant/+", false, 0}, {"wild", "write", "plant/ann/x", false, 0}, {"wild", "write", "plant/%2B/x", true, 7}, {"wild", "write", "dev/%23/up", true, 7}, {"wild", "write", "dev/x/up", false, 0},
		{"deep", "write", "plant/a/b", false, 0}, {"deep", "write", "plant/a%2Fb/x", true, 7}, {"percent", "write", "plant/%2B/x", false, 0}, {"percent", "write", "plant/%252B/x", true, 7},
	} {
		t.Run(strings.Join([]string{row.who, row.action, row.topic}, " "), func(t *testing.T) {
			id := people[row.who]
			r := &hooks.Request{Identity: &id, Topic: row.topic}
			if row.action == "read" {
				r.Action = hooks.Read
			}
			err := a.Authorize(r)
			if (err == nil) != row.yes {
				t.Errorf("got %v", err)
			}
			var no *hooks.Refusal
			if err != nil && (!errors.As(err, &no) || no.Reason != mqtt.NotAuthorized || !strings.Contains(no.Text, row.topic)) {
				t.Errorf("the refusal is %#v", err)
			}
			why := a.Explain(r, false)
			if want := fmt.Sprintf("acl.yaml:%d: ", row.line); row.line > 0 && !strings.HasPrefix(why, want) || row.line == 0 && why != "" {
				t.Errorf("decided by %q, want line %d", why, row.line)
			}
		})
	}
}

func TestGateways(t *testing.T) {
	a := parse(t, plant)
	for _, row := range []struct {
		who, user string
		yes       bool
	}{{"lora", "truck-7", true}, {"lora", "truck-", true}, {"lora", "van", true}, {"lora", "vans", false}, {"lora", "ann", false}, {"ann", "truck-7", false}, {"", "truck-7", false}} {
		if got := a.Gateway(&hooks.Identity{User: row.who, Client: "g"}, row.user); got != row.yes {
			t.Errorf("%s for %s: %v", row.who, row.user, got)
		}
	}
}

// An entry for all topics says nothing about those that wildcards don't reach.
func TestWildcardsDoNotReachIntoTrees(t *testing.T) {
	a := parse(t, `acl: [{deny: {user: eve, read: users/ann/location}}, {allow: {role: backend, read: users/#}}, {deny: {all: true, read: "#", write: "+/#"}}]`)
	ask := func(id hooks.Identity, topic string) (bool, bool) {
		decided, err := a.Decide(&hooks.Request{Identity: &id, Action: hooks.Read, Topic: topic}, true)
		return decided, err == nil
	}
	if decided, _ := ask(hooks.Identity{User: "ann"}, "users/ann/inbox"); decided {
		t.Error("deny # has spoken about users/ann/inbox")
	}
	if decided, yes := ask(hooks.Identity{User: "eve"}, "users/+/location"); !decided || yes {
		t.Error("a deny that is meant for the tree has not spoken")
	}
	if decided, yes := ask(hooks.Identity{User: "b", Role: "backend"}, "users/+/location"); !decided || !yes {
		t.Error("a grant into the tree has not spoken")
	}
}

// What an entry for plain topics does not do by accident, trees: true says.
func TestTreesTrueReachesIntoTrees(t *testing.T) {
	a := parse(t, `acl: [{deny: {group: cut, read: users/ann/location}}, {allow: {role: backend, read: "+/+/location", trees: true}}, {allow: {role: plain, read: "#"}}, {allow: {role: archive, read: ["#", x], trees: true}}]`)
	for _, row := range []struct {
		role, topic  string
		decided, yes bool
	}{
		{"archive", "#", true, true}, {"archive", "+/+/location", true, true}, {"archive", "users/+/location", true, true}, {"archive", "owntracks/ann/x", true, true},
		{"backend", "+/+/location", true, true}, {"backend", "+/ann/location", true, true}, {"backend", "users/ann/location", true, true}, {"backend", "users/ann/location/x", false, false}, {"backend", "#", false, false},
		{"plain", "#", false, false}, {"plain", "users/ann/location", false, false}, {"cut", "#", true, false}, {"", "#", false, false},
	} {
		t.Run(row.role+" "+row.topic, func(t *testing.T) {
			id := hooks.Identity{User: "u", Role: row.role, Groups: []string{row.role}}
			decided, err := a.Decide(&hooks.Request{Identity: &id, Action: hooks.Read, Topic: row.topic}, true)
			if decided != row.decided || (err == nil && decided) != row.yes {
				t.Errorf("%t, %v", decided, err)
			}
		})
	}
}

func TestFaultsNameTheirPlace(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"a list at the top", `- allow: {all: true, read: x}`, `acl.yaml:1:1: this file is a list; wanted is a mapping with the keys version or acl`},
		{"a misspelt key", "acl:\n  - alow: {all: true, read: x}", `acl.yaml:2:5: unknown key "alow" in acl; did you mean "allow"?`},
		{"a misspelt key inside", "acl:\n  - allow: {all: true, reed: x}", `acl.yaml:2:24: unknown key "reed" in allow; did you mean "read"?`},
		{"nobody", "acl:\n  - allow: {read: x}", `acl.yaml:2:5: say who: user, group, role, client, anonymous: true or all: true`},
		{"nothing", "acl:\n  - allow: {user: ann}", `acl.yaml:2:5: say what: read, write, or both`},
		{"two in one", "acl:\n  - allow: {user: ann, read: x}\n    deny: {user: bob, read: x}", `acl.yaml:2:5: an entry is one of allow, deny and gateway`},
		{"an empty entry", "acl:\n  - allow: {user: ann, read: x}\n  -", `acl.yaml:3:5: an item of acl is empty`},
		{"all and a user", "acl:\n  - deny: {all: true, user: ann, read: x}", `acl.yaml:2:12: all is everybody`},
		{"anonymous with a role", "acl:\n  - deny: {anonymous: true, role: x, read: x}", `acl.yaml:2:12: an anonymous client has no user`},
		{"an empty user", "acl:\n  - deny: {user: [ann, ''], read: x}", `acl.yaml:2:24: user is empty; * is any`},
		{"a filter that is none", "acl:\n  - allow:\n      user: ann\n      read: [a, b/#/c]", `acl.yaml:4:17: "b/#/c": + and # stand alone`},
		{"one filter that is none", "acl:\n  - allow: {user: ann, write: a+}", `acl.yaml:2:31: "a+": + and # stand alone`},
		{"a wrong placeholder", "acl:\n  - allow: {user: ann, write: a/%i}", `acl.yaml:2:31: in a filter, % begins %u`},
		{"a shared subscription", "acl:\n  - allow: {user: ann, read: $share/g/a}", `acl.yaml:2:30: a shared subscription is allowed by its filter`},
		{"trees without a wildcard", "acl:\n  - allow: {user: ann, read: users/#, trees: true}", `acl.yaml:2:39: trees is for filters to read that begin with a wildcard, such as #`},
		{"trees to write", "acl:\n  - allow: {user: ann, write: \"#\", trees: true}", `acl.yaml:2:36: trees is for filters to read`},
		{"trees of a deny", "acl:\n  - deny: {user: ann, read: \"#\", trees: true}", `acl.yaml:2:34: only an allow has trees; a deny of what users share names it: read: "users/#"`},
		{"trees for nobody", "acl:\n  - allow: {anonymous: true, read: \"#\", trees: true}", `acl.yaml:2:41: who has no user name is shown nothing`},
		{"trees by client id", "acl:\n  - allow: {client: dash, read: \"#\", trees: true}", `acl.yaml:2:33: what users share is granted to users, groups and roles`},
		{"trees by client id in a filter", "acl:\n  - allow: {user: ann, read: [a, \"+/%c\"], trees: true}", `acl.yaml:2:34: what users share is granted to users, groups and roles`},
		{"a grant by client id", "acl:\n  - allow: {client: dash, read: users/+/location}", `acl.yaml:2:33: what users share is granted to users, groups and roles`},
		{"a gateway for nobody", "acl:\n  - gateway: {user: g, may: [location]}", `acl.yaml:2:5: say for whom the gateway may report`},
		{"a gateway for chat", "acl:\n  - gateway: {user: g, for: a, may: [location, chat]}", `acl.yaml:2:48: "chat": a gateway may report location`},
		{"a number for a flag", "acl:\n  - allow: {all: 1, read: x}", `acl.yaml:2:18: all is a number; true or false is wanted here`},
		{"a mapping for a filter", "acl:\n  - allow: {user: a, read: {x: y}}", `acl.yaml:2:28: read is a mapping; a text is wanted here`},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := acl.Parse("acl.yaml", []byte(row.text))
			if err == nil || !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}

// worlds are all topics of one to four levels over a small alphabet: with one more
// letter and one more level than the filters have, what is true here is true
// everywhere.
var worlds = func() (topics []string) {
	level := []string{"a", "b", "z", "$a"}
	topics = slices.Clone(level)
	for last := topics; len(strings.Split(last[0], "/")) < 4; {
		var next []string
		for _, t := range last {
			for _, l := range level[:3] {
				next = append(next, t+"/"+l)
			}
		}
		topics, last = append(topics, next...), next
	}
	return topics
}()

func filters() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "+", "+"}), 0, 3).Draw(t, "levels")
		if len(levels) > 0 && rapid.IntRange(0, 5).Draw(t, "hidden") == 0 {
			levels[0] = "$a"
		}
		if len(levels) == 0 || rapid.Bool().Draw(t, "multi") && len(levels) < 3 {
			levels = append(levels, "#")
		}
		return strings.Join(levels, "/")
	})
}

// One allow says yes exactly when its filter matches all topics of the asked one,
// one deny says no exactly when they have one in common.
func TestFiltersAgreeWithBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given, asked := filters().Draw(t, "given"), filters().Draw(t, "asked")
		covers, overlaps := true, false
		for _, topic := range worlds {
			if mqtt.Match(asked, topic) {
				covers = covers && mqtt.Match(given, topic)
				overlaps = overlaps || mqtt.Match(given, topic)
			}
		}
		r := &hooks.Request{Identity: &hooks.Identity{User: "u"}, Action: hooks.Read, Topic: asked}
		if yes, _ := parse(t, fmt.Sprintf("acl: [{allow: {all: true, read: %q}}]", given)).Decide(r, false); yes != covers {
			t.Fatalf("%s covers %s: got %v, want %v", given, asked, yes, covers)
		}
		if no, _ := parse(t, fmt.Sprintf("acl: [{deny: {all: true, read: %q}}]", given)).Decide(r, false); no != overlaps {
			t.Fatalf("%s overlaps %s: got %v, want %v", given, asked, no, overlaps)
		}
	})
}

// What a subscription is granted, each topic of it is granted, too: no filter is a
// way around a deny.
func TestAGrantHoldsForEachTopic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		text.WriteString("acl:\n")
		for range rapid.IntRange(1, 4).Draw(t, "entries") {
			kind := rapid.SampledFrom([]string{"allow", "allow", "deny"}).Draw(t, "kind")
			fmt.Fprintf(&text, "  - %s: {all: true, read: [%q, %q]}\n", kind, filters().Draw(t, "f"), filters().Draw(t, "g"))
		}
		a := parse(t, text.String())
		asked := filters().Draw(t, "asked")
		ask := func(topic string) bool {
			return a.Authorize(&hooks.Request{Identity: &hooks.Identity{}, Action: hooks.Read, Topic: topic}) == nil
		}
		if !ask(asked) {
			return
		}
		for _, topic := range worlds {
			if mqtt.Match(asked, topic) && !ask(topic) {
				t.Fatalf("%s is granted, %s is not:\n%s", asked, topic, text.String())
			}
		}
	})
}

// A user's name, whatever it is, gives access to one level of topics: its own.
func TestNamesBringInNothing(t *testing.T) {
	a := parse(t, `acl: [{allow: {all: true, read: "home/%u", write: "%c/x"}}]`)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.StringMatching(`[/+#$%a]{0,5}`)).Draw(t, "name")
		topic := filters().Draw(t, "topic")
		id := &hooks.Identity{User: name, Client: name}
		if a.Authorize(&hooks.Request{Identity: id, Action: hooks.Read, Topic: "home/" + topic}) == nil && hooks.EncodeName(name) != topic {
			t.Fatalf("%q reads home/%s", name, topic)
		}
		if a.Authorize(&hooks.Request{Identity: id, Action: hooks.Write, Topic: topic}) == nil && hooks.EncodeName(name)+"/x" != topic {
			t.Fatalf("%q writes %s", name, topic)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(plant))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = acl.Parse("acl.yaml", text) })
}

func BenchmarkAuthorize(b *testing.B) {
	a := parse(b, plant)
	id := people["ann"]
	r := &hooks.Request{Identity: &id, Topic: "plant/ann/temp"}
	b.ReportAllocs()
	for b.Loop() {
		if a.Authorize(r) != nil {
			b.Fatal("refused")
		}
	}
}

func TestADenyMayBeExactAndSayLess(t *testing.T) {
	a, err := acl.Parse("acl.yaml", []byte(`
acl:
  - deny:  {all: true, read: "a/b", exact: true, reason: unspecified}
  - deny:  {all: true, read: "c/d"}
  - allow: {all: true, read: "#"}
`))
	if err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]mqtt.Reason{"a/b": mqtt.UnspecifiedError, "a/+": 0, "a/#": 0, "c/+": mqtt.NotAuthorized, "c/d": mqtt.NotAuthorized, "e": 0} {
		err := a.Authorize(&hooks.Request{Identity: &hooks.Identity{Client: "c"}, Action: hooks.Read, Topic: filter})
		got := mqtt.Reason(0)
		if no, ok := errors.AsType[*hooks.Refusal](err); ok {
			got = no.Reason
		} else if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
	for text, want := range map[string]string{
		"allow: {all: true, read: a, exact: true}":     "only a deny can be exact",
		"deny: {all: true, read: a, reason: because}":  `reason "because" is not known`,
		"allow: {all: true, read: a, reason: because}": "only a deny has a reason",
	} {
		if _, err := acl.Parse("acl.yaml", []byte("acl:\n  - "+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// What an allow can't give is told, with its line.
func TestVoid(t *testing.T) {
	for entry, want := range map[string]string{
		"allow: {user: x, write: users/+/location}":            "acl.yaml:1: write: users/+/location lets nobody",
		"allow: {user: x, write: [a, 'owntracks/#']}":          "acl.yaml:1: write: owntracks/# lets nobody",
		"allow: {user: x, read: users/+/inbox}":                "acl.yaml:1: read: users/+/inbox shows nobody",
		"allow: {user: x, write: users/%u/location}":           "",
		"allow: {user: x, read: [users/%u/inbox, users/#, a]}": "",
		"deny: {user: x, read: users/+/inbox, write: users/#}": "",
		"gateway: {user: x, for: y, may: [location]}":          "",
	} {
		lines := parse(t, "acl: [{"+entry+"}]").Void()
		if got := strings.Join(lines, "\n"); !strings.HasPrefix(got, want) || want == "" && got != "" || len(lines) > 1 {
			t.Errorf("%s: %q, want %q", entry, got, want)
		}
	}
}
