package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/acl"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/mqtt"
)

// The examples of docs/access.md are files that load.
func TestAccessExamplesLoad(t *testing.T) {
	text, err := os.ReadFile("../../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d examples", len(blocks))
	}
	f, err := users.Parse("users.yaml", []byte(blocks[0][1]))
	if err != nil {
		t.Error(err)
	} else if !f.Shares("climb") {
		t.Error("climb does not share")
	}
	if a, err := acl.Parse("acl.yaml", []byte(blocks[1][1])); err != nil {
		t.Error(err)
	} else if a.Len() != 9 {
		t.Errorf("%d entries", a.Len())
	}
}

const accessFile = `
acl:
  - deny:    {user: eve, read: "plant/secret/#"}
  - allow:   {user: "*", read: "plant/#", write: "plant/%u/#"}
  - allow:   {anonymous: true, read: news}
  - allow:   {role: backend, read: "users/+/location"}
  - gateway: {user: lora, for: "truck-*", may: [location]}
`

// guarded is a broker with users and an access file, as serve makes it.
type guarded struct {
	files   *hookFiles
	broker  *broker.Broker
	address string
	tokens  map[string]string
}

func guard(t *testing.T) *guarded {
	t.Helper()
	dir := t.TempDir()
	tokens := map[string]string{}
	files := hookFiles{users: filepath.Join(dir, "users.yaml"), acl: filepath.Join(dir, "acl.yaml"), anonymous: true}
	people := map[string]users.User{"ann": {Contacts: []string{"bob"}}, "bob": {Contacts: []string{"ann"}}, "eve": {}, "back": {Role: "backend"}, "lora": {}}
	for name, u := range people {
		tokens[name], u.Token = users.NewToken()
		if err := users.Add(files.users, name, u); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(files.acl, []byte(accessFile), 0o600); err != nil {
		t.Fatal(err)
	}
	g := files.start(t)
	g.tokens = tokens
	return g
}

// start starts a broker with the hooks of the files.
func (f *hookFiles) start(t *testing.T) *guarded {
	t.Helper()
	hooks, err := f.load()
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Hooks: hooks, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &guarded{files: f, broker: b, address: a.String()}
}

// reload reads the files again.
func (g *guarded) reload(t *testing.T) {
	t.Helper()
	c, err := g.files.read()
	if err != nil {
		t.Fatal(err)
	}
	g.files.apply(c, g.broker)
}

// dial signs a user in, nobody for "".
func (g *guarded) dial(t *testing.T, user string, got chan<- string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Config{Address: g.address, User: user, Password: g.tokens[user], Client: "dev-" + user, Version: mqtt.V5,
		Receive: func(m *mqtt.Message) { got <- m.Topic + " " + string(m.Payload) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Positions reach contacts and grants only; nobody writes or reads what is not his.
func TestAccessIsGuarded(t *testing.T) {
	g := guard(t)
	inbox := map[string]chan string{}
	phones := map[string]*client.Client{}
	for _, user := range []string{"ann", "bob", "eve", "back", "lora", ""} {
		inbox[user] = make(chan string, 100)
		phones[user] = g.dial(t, user, inbox[user])
	}
	for _, user := range []string{"ann", "eve", "back"} {
		if err := phones[user].Subscribe(t.Context(), "users/+/location"); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		user, filter string
		yes          bool
	}{
		{"eve", "plant/secret/x", false}, {"eve", "plant/#", false}, {"eve", "plant/open", true}, {"ann", "plant/#", true}, {"ann", "#", false}, {"", "news", true}, {"", "plant/x", false},
		{"", "users/ann/location", false}, {"eve", "users/ann/inbox", false}, {"eve", "$share/g/users/+/location", false}, {"back", "$share/g/users/+/location", true}, {"eve", "$SYS/#", false},
	} {
		if err := phones[row.user].Subscribe(t.Context(), row.filter); (err == nil) != row.yes {
			t.Errorf("%s subscribes %s: %v", row.user, row.filter, err)
		}
	}
	for _, row := range []struct {
		user, topic string
		yes         bool
	}{
		{"ann", "plant/ann/x", true}, {"ann", "plant/bob/x", false}, {"eve", "users/bob/location", false}, {"lora", "users/ann/location", false}, {"", "users/ann/location", false}, {"", "news", false},
		{"bob", "users/bob/location", true}, {"lora", "users/truck-7/location/gps", true},
	} {
		if err := phones[row.user].Publish(t.Context(), row.topic, []byte(`{"lat":48.2,"lon":16.3,"tst":1790000000}`), false); (err == nil) != row.yes {
			t.Errorf("%s publishes %s: %v", row.user, row.topic, err)
		}
	}
	want := func(user, topic, part string) {
		t.Helper()
		for {
			select {
			case got := <-inbox[user]:
				if strings.HasPrefix(got, topic+" ") && strings.Contains(got, part) {
					return
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%s did not get %s", user, topic)
			}
		}
	}
	want("ann", "users/bob/location", `"who":"bob"`)
	want("back", "users/bob/location", `"who":"bob"`)
	want("back", "users/truck-7/location", `"via":"lora"`)
	for _, user := range []string{"ann", "eve", ""} {
		for len(inbox[user]) > 0 {
			if got := <-inbox[user]; strings.HasPrefix(got, "users/") {
				t.Errorf("%q got %s", user, got)
			}
		}
	}
}

// Who is granted # with trees: true is shown what people report, as it stands and as it
// comes, alone or by turns; who has # for plain topics is not, and a reload takes it away.
func TestTheTreesAreGrantedByAWildcard(t *testing.T) {
	g := guard(t)
	grant := func(text string) {
		if err := os.WriteFile(g.files.acl, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g.reload(t)
	}
	grant(`acl: [{allow: {role: backend, read: "#", trees: true}}, {allow: {all: true, read: "#", write: "#"}}]`)
	bob := g.dial(t, "bob", make(chan string, 10))
	at := 1790000000
	report := func() {
		t.Helper()
		at++
		if err := bob.Publish(t.Context(), "users/bob/location", fmt.Appendf(nil, `{"lat":48.2,"lon":16.3,"tst":%d}`, at), false); err != nil {
			t.Fatal(err)
		}
		if err := bob.Publish(t.Context(), "end", []byte("x"), false); err != nil {
			t.Fatal(err)
		}
	}
	report()
	inbox := map[string]chan string{}
	for _, user := range []string{"back", "eve"} {
		inbox[user] = make(chan string, 100)
		c := g.dial(t, user, inbox[user])
		for _, filter := range []string{"#", "$share/g-" + user + "/+/bob/+"} {
			if err := c.Subscribe(t.Context(), filter); err != nil {
				t.Fatal(err)
			}
		}
	}
	// seen are the topics of the last report's positions, n at least, that came until the
	// plain message after it or later: only one topic is in order.
	seen := func(user string, n int) (topics []string) {
		t.Helper()
		for end := false; !end || len(topics) < n; {
			select {
			case got := <-inbox[user]:
				topic, _, _ := strings.Cut(got, " ")
				if topic == "end" {
					end = true
				} else if strings.Contains(got, fmt.Sprintf(`"tst":%d`, at)) {
					topics = append(topics, topic)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%s was shown %v, and the plain message: %v", user, topics, end)
			}
		}
		slices.Sort(topics)
		return topics
	}
	all := []string{"owntracks/bob/dev-bob", "users/bob/location", "users/bob/location/dev-bob"}
	report() // the first is retained, and so are its last positions
	if got := seen("back", 5); !slices.Equal(slices.Compact(got), all) {
		t.Errorf("back was shown %v", got)
	}
	if got := seen("eve", 0); len(got) > 0 {
		t.Errorf("eve was shown %v", got)
	}
	grant(`acl: [{allow: {all: true, read: "#", write: "#"}}]`)
	report()
	if got := seen("back", 0); len(got) > 0 {
		t.Errorf("back is still shown %v", got)
	}
}

// The files are read again whole or not at all, and hold from then on: for who
// signs in, and for who is there already.
func TestUsersAndEntriesAreReadAgain(t *testing.T) {
	g := guard(t)
	ann, bob := g.dial(t, "ann", make(chan string, 10)), g.dial(t, "bob", make(chan string, 10))
	may := func(c *client.Client, topic string) bool {
		t.Helper()
		return c.Publish(t.Context(), topic, []byte("x"), false) == nil
	}
	var stored string
	g.tokens["zoe"], stored = users.NewToken()
	if err := users.Add(g.files.users, "zoe", users.User{Token: stored}); err != nil {
		t.Fatal(err)
	}
	if err := users.Remove(g.files.users, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.files.acl, []byte("acl: [{alow: {}}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := g.files.read(); err == nil || !strings.Contains(err.Error(), `acl.yaml:1:8: unknown key "alow"`) {
		t.Fatalf("a file with an error: %v", err)
	}
	if !may(ann, "plant/ann/x") || !may(bob, "plant/bob/x") || may(ann, "attic/x") {
		t.Fatal("half of the files holds")
	}
	if err := os.WriteFile(g.files.acl, []byte(`acl: [{allow: {all: true, write: "attic/#"}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	eve := g.dial(t, "eve", make(chan string, 10))
	if err := eve.Subscribe(t.Context(), "plant/open"); err != nil {
		t.Fatal(err)
	}
	g.reload(t)
	ended(t, bob)
	ended(t, eve)
	if may(ann, "plant/ann/x") || !may(ann, "attic/x") || may(bob, "attic/x") {
		t.Error("the new files don't hold")
	}
	if zoe := g.dial(t, "zoe", make(chan string, 10)); !may(zoe, "attic/x") || !may(zoe, "users/ann/chat") || may(zoe, "users/bob/chat") {
		t.Error("zoe may not what she may, or writes to who is gone")
	}
}

// ended waits for the server to end a connection because of rights.
func ended(t *testing.T, c *client.Client) {
	t.Helper()
	select {
	case <-c.Done():
		if err := c.Err(); err == nil || !strings.Contains(err.Error(), "0x87") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it is still connected")
	}
}

// Rules go on with the people of the file that was read last.
func TestRulesFollowTheUsersFile(t *testing.T) {
	dir := t.TempDir()
	files := hookFiles{rules: []string{filepath.Join(dir, "rules.yaml")}, users: filepath.Join(dir, "users.yaml")}
	tokens := map[string]string{}
	add := func(name string, u users.User) {
		t.Helper()
		tokens[name], u.Token = users.NewToken()
		if err := users.Add(files.users, name, u); err != nil {
			t.Fatal(err)
		}
	}
	add("tim", users.User{Tags: []string{"child"}})
	if err := os.WriteFile(files.rules[0], []byte(school), 0o600); err != nil {
		t.Fatal(err)
	}
	g := files.start(t)
	g.tokens = tokens
	add("gran", users.User{Groups: []string{"parents"}})
	g.reload(t)
	got := make(chan string, 10)
	tim, gran := g.dial(t, "tim", got), g.dial(t, "gran", got)
	if err := gran.Subscribe(t.Context(), "users/gran/inbox"); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	for i, lat := range []float64{48.2, 48.25} {
		if err := tim.Publish(t.Context(), "users/tim/location", fmt.Appendf(nil, `{"lat":%g,"lon":16.37,"tst":%d}`, lat, now-60+int64(i)), false); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case e := <-got:
		if !strings.Contains(e, `"rule":"school-out"`) {
			t.Errorf("gran got %s", e)
		}
	case <-time.After(5 * time.Second):
		t.Error("gran was told nothing")
	}
}

// The answer of acl explain is its exit code, too.
func TestExplainExitsByItsAnswer(t *testing.T) {
	dir := t.TempDir()
	entries, people := filepath.Join(dir, "acl.yaml"), filepath.Join(dir, "users.yaml")
	if err := os.WriteFile(entries, []byte(accessFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(people, []byte("users: {ann: {}, eve: {}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		code int
		out  string
		args []string
	}{
		{0, "allowed by " + entries + ":4: allow: {user: *", []string{"--user", "ann", "read", "plant/secret/x"}},
		{1, "refused by " + entries + ":3: deny: {user: eve", []string{"--user", "eve", "read", "plant/#"}},
		{1, "refused by the table of topics", []string{"--user", "eve", "write", "users/ann/inbox"}},
		{1, `{"allowed":false,"why":"no entry`, []string{"--json", "write", "x"}},
		{2, "", []string{"--user", "zoe", "write", "x"}}, {2, "", []string{"--user", "eve", "write", "x/#"}}, {2, "", []string{"--user", "eve", "read", "x/#/y"}}, {2, "", []string{"--user", "eve", "look", "x"}},
	} {
		out, code := runIn(t, "", append([]string{"acl", "explain", "--acl", entries, "--users", people}, row.args...)...)
		if code != row.code || !strings.HasPrefix(out, row.out) {
			t.Errorf("%v exits with %d and says %q", row.args, code, out)
		}
	}
	if out, code := runIn(t, "", "acl", "check", entries); code != 0 || out != "ok: 5 entries\n" {
		t.Errorf("check exits with %d and says %q", code, out)
	}
	if _, code := runIn(t, "", "acl", "check", people); code != 2 {
		t.Errorf("check of another file exits with %d", code)
	}
}
