package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/mqtt"
)

// OwnTracks apps, at MQTT 3.1 as Android is, see those who share with them: also what
// others report in other forms, and what stood before they subscribed.
func TestOwnTracksFriends(t *testing.T) {
	files := hookFiles{users: filepath.Join(t.TempDir(), "users.yaml")}
	g := &guarded{tokens: map[string]string{}}
	for name, u := range map[string]users.User{"ann": {Contacts: []string{"bob"}}, "bob": {Contacts: []string{"ann"}}, "eve": {Contacts: []string{"ann"}}} {
		g.tokens[name], u.Token = users.NewToken()
		if err := users.Add(files.users, name, u); err != nil {
			t.Fatal(err)
		}
	}
	g.address = files.start(t).address
	app := func(user string) (*client.Client, chan string) {
		got := make(chan string, 10)
		c, err := client.Dial(t.Context(), client.Config{Address: g.address, User: user, Password: g.tokens[user], Client: user + "-phone", Version: mqtt.V31,
			Receive: func(m *mqtt.Message) { got <- m.Topic + " " + string(m.Payload) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c, got
	}
	ann, annSees := app("ann")
	report := func(topic, payload string) {
		t.Helper()
		if err := ann.Publish(t.Context(), topic, []byte(payload), true); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(got chan string, want string) {
		t.Helper()
		select {
		case m := <-got:
			if m != want {
				t.Fatalf("got %s, want %s", m, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("nothing came, want %s", want)
		}
	}
	const at = `"lat":48.2,"lon":16.37,"tst":1790000060`
	report("owntracks/ann/phone", `{"_type":"location",`+at+`,"acc":12,"SSID":"home"}`)
	bob, bobSees := app("bob")
	eve, eveSees := app("eve")
	for _, c := range []*client.Client{ann, bob, eve} {
		for _, filter := range []string{"owntracks/+/+", "mark"} {
			if err := c.Subscribe(t.Context(), filter); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := `owntracks/ann/phone {"_type":"location",` + at + `,"acc":12,"tid":"ne"}`
	wants(bobSees, first)
	wants(annSees, first) // what is retained, as a new subscriber gets it
	report("owntracks/ann/phone", `{"_type":"lwt","tst":1790000070}`)
	wants(bobSees, `owntracks/ann/phone {"_type":"lwt","tst":1790000070}`)
	report("users/ann/location/watch", `{"lat":48.3,"lon":16.37,"tst":1790000080.5,"vel":3.6}`)
	wants(bobSees, `owntracks/ann/watch {"_type":"location","lat":48.3,"lon":16.37,"tst":1790000080,"vel":4,"tid":"ch"}`)
	if err := eve.Publish(t.Context(), "owntracks/eve/phone", []byte(`{"_type":"location",`+at+`}`), false); err != nil {
		t.Fatal(err)
	}
	if err := eve.Publish(t.Context(), "mark", []byte("the end"), false); err != nil {
		t.Fatal(err)
	}
	wants(annSees, "mark the end") // and nothing before
	wants(eveSees, "mark the end")
}
