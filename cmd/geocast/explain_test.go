package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/acl"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/mqtt"
)

// asker draws access files and requests.
type asker struct{ *rand.Rand }

func (r asker) of(words ...string) string { return words[r.IntN(len(words))] }

// filter draws a topic filter as it stands in an access file.
func (r asker) filter() string {
	return r.of("#", "a/#", "a/+", "a/b", "+/b", "+", "a/%u/#", "%c/b", "a/%u", "$SYS/#", "$SYS/broker/version", "users/+/location", "users/ann/inbox",
		"users/%u/#", "owntracks/#", "groups/climb/chat", "+/+/location", "users/#")
}

func (r asker) entry() string {
	who := r.of(`user: "*"`, "user: ann", `user: "b*"`, "role: admin", "group: climb", `client: "dev-*"`, "all: true", "anonymous: true", "user: [ann, bob], client: dev-bob")
	kind := r.of("allow", "allow", "deny", "gateway")
	if kind == "gateway" {
		return fmt.Sprintf("  - gateway: {user: %s, for: %q, may: [location]}\n", r.of("ann", "bob"), r.of("ann", "*", "e*"))
	}
	return fmt.Sprintf("  - %s: {%s, %s: %q%s}\n", kind, who, r.of("read", "write"), r.filter(), r.of("", "", "", ", trees: true"))
}

// request draws what somebody asks for.
func (r asker) request() (user, action, topic string) {
	user = r.of("ann", "bob", "eve", "")
	if r.IntN(2) == 0 {
		return user, "write", r.of("a", "a/b", "a/ann", "a/bob/c", "dev-bob/b", "users/ann/location", "users/bob/chat", "users/eve/inbox", "users/%25/location",
			"owntracks/ann/phone", "users", "users/ann/nonsense", "$SYS/broker/version", "users/a%2Fb/location")
	}
	return user, "read", r.of("#", "a/#", "a/b", "a/+", "+/b", "$share/g/a/b", "$share/g/#", "$SYS/#", "$share/g/$SYS/broker/+", "users/+/location", "users/ann/inbox", "users/bob/#", "owntracks/+/+",
		"groups/climb/chat", "users/ann/location/gps", "+/ann/inbox", "users/#", "$share/g/users/ann/inbox", "users/eve/reply/x")
}

// What geocast acl explain says is what the broker does, for any access file. Who is
// a member of a group is for chat to say, after that.
func TestExplainAgreesWithTheBroker(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := asker{rand.New(rand.NewPCG(seed, 0))}
	allowed := 0
	for range 12 {
		dir := t.TempDir()
		files := hookFiles{users: filepath.Join(dir, "users.yaml"), acl: filepath.Join(dir, "acl.yaml"), anonymous: true}
		tokens := map[string]string{}
		for name, u := range map[string]users.User{"ann": {Role: "admin"}, "bob": {Groups: []string{"climb"}}, "eve": {}} {
			tokens[name], u.Token = users.NewToken()
			if err := users.Add(files.users, name, u); err != nil {
				t.Fatal(err)
			}
		}
		text := "acl:\n"
		for range 1 + r.IntN(6) {
			if e := r.entry(); valid(e) {
				text += e
			}
		}
		if err := os.WriteFile(files.acl, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g := files.start(t)
		g.tokens = tokens
		phones := map[string]*client.Client{}
		for _, user := range []string{"ann", "bob", "eve", ""} {
			phones[user] = g.dial(t, user, make(chan string, 1000))
		}
		for range 60 {
			user, action, topic := r.request()
			c := aclExplainCmd{Users: files.users, ACL: files.acl, User: user, Client: "dev-" + user, Action: action, Topic: topic}
			says, why, err := c.explain()
			if err != nil {
				t.Fatal(err)
			}
			var no error
			if action == "write" {
				no = phones[user].Publish(t.Context(), topic, payloadFor(topic), false)
			} else {
				_, no = phones[user].SubscribeTo(t.Context(), 0, mqtt.Subscription{Filter: topic, QoS: 1})
			}
			if says != (no == nil) && !strings.HasPrefix(topic, "$SYS/broker/version") {
				t.Fatalf("%sfor %q, %s %s: explain says %t by %s; the broker says %v", text, user, action, topic, says, why, no)
			}
			if says {
				allowed++
			}
		}
	}
	if allowed < 20 || allowed > 700 {
		t.Errorf("%d of 720 requests are allowed: they try little", allowed)
	}
}

// valid reports whether an entry may stand in a file: client ids are granted nothing in
// the trees.
func valid(entry string) bool {
	_, err := acl.Parse("", []byte("acl:\n"+entry))
	return err == nil
}

// payloadFor is one that the topic takes.
func payloadFor(topic string) []byte {
	if strings.Contains(topic, "/chat") {
		return []byte("hello")
	}
	return fmt.Appendf(nil, `{"_type":"location","lat":48.2,"lon":16.3,"tst":%d}`, time.Now().Unix())
}
