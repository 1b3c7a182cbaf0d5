package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

const house = `
users:
  tim: {tags: [child]}
  mum: {groups: [parents]}
  dad: {groups: [parents]}
  eve: {}
`

const school = `
version: 1
zones:
  school: {circle: {lat: 48.2, lon: 16.37, radius: 200m}}
rules:
  school-out:
    who:  {tag: child}
    when: {exit: school}
    to:   [{group: parents}]
`

// serve starts a broker over a folder, and returns its address and its end.
func serve(t *testing.T, dir string) (addr string, stop func()) {
	t.Helper()
	set, err := rules.Parse("rules.yaml", []byte(school), nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := users.Parse("users.yaml", []byte(house))
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Data: dir, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Hooks: []any{georules.New(set, file.People()), chat.New(file.People(), true)}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return a.String(), func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// event is what the tests look at in an inbox event.
type event struct {
	Seq                                   uint64
	Type, Rule, Who, From, Body, Conv, ID string
	Lat                                   float64
}

// phone is a user's device that collects its inbox.
type phone struct {
	*client.Client
	inbox chan event
	mark  string // a topic of its own
}

func dialPhone(t *testing.T, addr, user, device string) *phone {
	t.Helper()
	p := &phone{inbox: make(chan event, 1000), mark: "mark/" + device}
	c, err := client.Dial(t.Context(), client.Config{Address: addr, User: user, Client: device, Receive: func(m *mqtt.Message) {
		var e event
		if err := json.Unmarshal(m.Payload, &e); err != nil {
			t.Errorf("%s got %q: %v", user, m.Payload, err)
		}
		p.inbox <- e
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.Client = c
	for _, filter := range []string{p.mark, "users/" + user + "/inbox"} {
		if err := c.Subscribe(t.Context(), filter); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *phone) want(t *testing.T) event {
	t.Helper()
	select {
	case e := <-p.inbox:
		return e
	case <-time.After(5 * time.Second):
		t.Fatal("nothing arrived")
		return event{}
	}
}

func (p *phone) say(t *testing.T, topic, body string) {
	t.Helper()
	if err := p.Publish(t.Context(), topic, []byte(body), false); err != nil {
		t.Fatal(err)
	}
}

// nothing wants that nothing has come of what was acknowledged before: it would come
// before a message of its own.
func (p *phone) nothing(t *testing.T) {
	t.Helper()
	p.say(t, p.mark, `{"type":"mark"}`)
	if e := p.want(t); e.Type != "mark" {
		t.Fatalf("got %+v", e)
	}
}

// The main job: coordinates reach exactly those whose criteria match, also who is
// offline and over a restart; chat arrives once, in order, at every device.
func TestCoordinatesAndChatReachTheirInboxes(t *testing.T) {
	dir := t.TempDir()
	addr, stop := serve(t, dir)
	mum, eve, tim := dialPhone(t, addr, "mum", "mum-phone"), dialPhone(t, addr, "eve", "eve-phone"), dialPhone(t, addr, "tim", "watch")
	dad := dialPhone(t, addr, "dad", "dad-phone")
	if err := dad.Close(); err != nil { // offline from here on
		t.Fatal(err)
	}
	now := time.Now().Unix()
	report := func(lat float64, tst int64) {
		b, _ := json.Marshal(map[string]any{"_type": "location", "lat": lat, "lon": 16.37, "tst": tst})
		tim.say(t, "owntracks/tim/watch", string(b))
	}
	report(48.2, now-60)
	report(48.25, now)
	report(48.2, now-30) // late: moves nothing back
	if e := mum.want(t); e.Type != "geo" || e.Rule != "school-out" || e.Who != "tim" || e.Lat != 48.25 || e.Seq != 1 {
		t.Fatalf("mum got %+v", e)
	}
	for range 3 { // retries of one message
		tim.say(t, "users/mum/chat/abcdefgh1", "on my way")
	}
	tim.say(t, "users/mum/chat/abcdefgh2", "soon")
	for i, body := range []string{"on my way", "soon"} {
		if e := mum.want(t); e.Body != body || e.From != "tim" || e.Conv != "u:tim" || e.Seq != uint64(i+2) {
			t.Fatalf("mum got %+v, want %q", e, body)
		}
		if e := tim.want(t); e.Body != body || e.Conv != "u:mum" {
			t.Fatalf("the echo is %+v, want %q", e, body)
		}
	}
	mum.nothing(t)
	eve.nothing(t)
	for _, p := range []*phone{mum, eve, tim} {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	addr, stop = serve(t, dir)
	defer stop()
	dad = dialPhone(t, addr, "dad", "dad-phone")
	if e := dad.want(t); e.Rule != "school-out" || e.Seq != 1 {
		t.Fatalf("dad got %+v", e)
	}
	mum = dialPhone(t, addr, "mum", "mum-phone")
	tim = dialPhone(t, addr, "tim", "watch")
	tim.say(t, "users/mum/chat/abcdefgh1", "on my way") // a retry, over the restart
	tim.say(t, "users/mum/chat", "home")
	if e := mum.want(t); e.Body != "home" || e.Seq != 4 { // she has had everything before
		t.Fatalf("mum got %+v", e)
	}
	for _, p := range []*phone{mum, dad, tim} {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNobodyWritesInAnothersName(t *testing.T) {
	addr, stop := serve(t, "")
	defer stop()
	mum, eve := dialPhone(t, addr, "mum", "m"), dialPhone(t, addr, "eve", "e")
	eve.say(t, "users/mum/inbox", `{"v":1,"seq":1,"from":"dad"}`)
	eve.say(t, "users/tim/location", `{"lat":48.2,"lon":16.37}`)
	eve.say(t, "users/tim/location", `{"lat":49.2,"lon":16.37}`)
	mum.nothing(t)
	if err := eve.Subscribe(context.Background(), "users/mum/inbox"); err == nil {
		eve.say(t, "users/mum/chat", "secret?")
		eve.want(t) // her own echo, and no more
		eve.nothing(t)
	}
	for _, p := range []*phone{mum, eve} {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUsageErrorsExitWith2(t *testing.T) {
	for _, args := range [][]string{{"nonsense"}, {"serve", "--listen", "mqtt://0.0.0.0:0"}, {"rules", "check", "gone.yaml"}} {
		if code := run(args); code != 2 {
			t.Errorf("%v exits with %d", args, code)
		}
	}
}
