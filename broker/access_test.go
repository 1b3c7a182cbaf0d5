package broker_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// refuseReads refuses a filter with a text.
type refuseReads struct{}

func (refuseReads) Authorize(r *hooks.Request) error {
	if r.Action == hooks.Read && r.Topic == "no" {
		return &hooks.Refusal{Text: "because"}
	}
	return nil
}

// The SUBACK of a client says why, and what is right, unless it wants no such text.
func TestRefusedSubscriptionsSayWhy(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{refuseReads{}}})
	for _, row := range []struct{ filter, want string }{
		{"no", "because"}, {"a/#/b", "+ and # stand alone in their level, and # only in the last one"}, {"$share/x", "a shared subscription is $share/name/filter, the name without wildcards"},
	} {
		c := dial(t, addr, mqtt.V5)
		c.connect("c")
		c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 7, Filters: []mqtt.Subscription{{Filter: row.filter}}}, mqtt.V5))
		_, body := c.read()
		a, err := mqtt.DecodeSuback(body, mqtt.V5)
		if err != nil || a.Reasons[0] < 0x80 || a.ReasonString != row.want {
			t.Errorf("%s: got %+v, %v, want %q", row.filter, a, err, row.want)
		}
	}
}

// slowSignIn lets nobody in until it is told to, but the user quiet.
type slowSignIn struct{ open chan struct{} }

func (s slowSignIn) Authenticate(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	if c.ClientID != "quiet" {
		<-s.open
	}
	if c.ClientID == "slow" {
		<-s.open
	}
	return hooks.Identity{User: c.ClientID}, nil
}

// Authorize makes every publish one that a worker looks at.
func (slowSignIn) Authorize(*hooks.Request) error { return nil }

// Clients that wait for their passwords to be verified keep nobody else from
// publishing and subscribing.
func TestSlowSignInsDelayNobody(t *testing.T) {
	s := slowSignIn{make(chan struct{})}
	letIn := sync.OnceFunc(func() { close(s.open) })
	_, addr := start(t, broker.Config{Hooks: []any{s}})
	t.Cleanup(letIn) // before the broker closes
	quiet := dial(t, addr, mqtt.V5)
	quiet.connect("quiet")
	var waiting []*client
	for i := range 100 {
		c := dial(t, addr, mqtt.V5)
		c.send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: fmt.Sprint(i), CleanStart: true, ReceiveMaximum: 9}))
		waiting = append(waiting, c)
	}
	quiet.subscribe("a", 1)
	quiet.publish("a", "x", 1, 1)
	quiet.want("a", "x")
	letIn()
	for _, c := range waiting {
		if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.CONNACK {
			t.Fatalf("got %v", mqtt.Type(first>>4))
		}
	}
}

// whoAsks notes the user of each publish by its topic.
type whoAsks struct{ users sync.Map }

func (w *whoAsks) Authorize(r *hooks.Request) error {
	w.users.Store(r.Topic, r.Identity.User)
	return nil
}

// Without an authenticator a client is its user name, else the client id that it
// chose; the server's own choice makes nobody of it.
func TestOpenModeUsers(t *testing.T) {
	w := &whoAsks{}
	_, addr := start(t, broker.Config{Hooks: []any{w}})
	for _, row := range []struct{ id, name, user string }{
		{"watch", "tim", "tim"}, {"watch", "", "watch"}, {"", "", ""}, {"", "tim", "tim"}, {"a/b", "", "a/b"}, {strings.Repeat("x", 200), "", ""},
	} {
		c := dial(t, addr, mqtt.V5)
		c.connect(row.id, func(p *mqtt.Connect) { p.Username, p.HasUsername = row.name, row.name != "" })
		topic := fmt.Sprintf("t/%s/%s", row.id, row.name)
		c.publish(topic, "x", 1, 1)
		c.wantAck(mqtt.PUBACK, 1)
		if got, _ := w.users.Load(topic); got != row.user {
			t.Errorf("client id %q with user name %q is %q, want %q", row.id, row.name, got, row.user)
		}
	}
}

// wrongWill refuses a will with the reason of its topic.
type wrongWill struct{}

func (wrongWill) Authorize(r *hooks.Request) error {
	if r.Will {
		return &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: "a will goes elsewhere"}
	}
	return nil
}

// A 3.x client whose will is refused is told that it is not authorised, not that
// the server is down: it need not try again.
func TestRefusedWillsEndTheConnect(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{wrongWill{}}})
	for v, want := range map[mqtt.Version]mqtt.Reason{mqtt.V31: mqtt.NotAuthorized, mqtt.V311: mqtt.NotAuthorized, mqtt.V5: mqtt.TopicNameInvalid} {
		c := dial(t, addr, v)
		a := c.connect("c", func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "users/bob/chat", Payload: []byte("x")} })
		if a.Reason != want {
			t.Errorf("level %d: got %v, want %v", v, a.Reason, want)
		}
	}
}
