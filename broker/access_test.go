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
	switch {
	case r.Action == hooks.Read && r.Topic == "no":
		return &hooks.Refusal{Text: "because"}
	case r.Topic == "topic":
		return &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: "another topic"}
	case r.Topic == "busy":
		return &hooks.Refusal{Reason: mqtt.ServerBusy, Text: "busy"}
	}
	return nil
}

// The SUBACK of a client says why, and what is right, with a reason that SUBACK may have
// [MQTT-3.9.3]; in 3.x it is 0x80. The operator sees each in a counter and one in the log.
func TestRefusedSubscriptionsSayWhy(t *testing.T) {
	for _, row := range []struct {
		name, filter, text string
		want               mqtt.Reason
	}{
		{"by an Authorizer", "no", "because", mqtt.NotAuthorized},
		{"with a publish's reason", "topic", "another topic", mqtt.TopicFilterInvalid},
		{"with a reason that is none of SUBACK's", "busy", "busy", mqtt.ImplementationSpecificError},
		{"no filter", "a/#/b", "+ and # stand alone in their level, and # only in the last one", mqtt.TopicFilterInvalid},
		{"no shared subscription", "$share/x", "a shared subscription is $share/name/filter, the name without wildcards", mqtt.TopicFilterInvalid},
		{"too long", strings.Repeat("x", 5000), "a topic has at most 4096 bytes here", mqtt.TopicFilterInvalid},
		{"one more than a session may have", "second", "the session has as many filters as it may", mqtt.QuotaExceeded},
	} {
		t.Run(row.name, func(t *testing.T) {
			log := &logText{}
			b, addr := start(t, broker.Config{Hooks: []any{refuseReads{}}, Limits: broker.Limits{Subscriptions: 1}, Log: log.logger()})
			for n, v := range versions {
				c := dial(t, addr, v)
				c.connect("c")
				c.subscribe("first", 0)
				want, text := row.want, row.text
				if v != mqtt.V5 {
					want, text = mqtt.UnspecifiedError, ""
				}
				if a := c.subscribeWith(0, mqtt.Subscription{Filter: row.filter}); a.Reasons[0] != want || a.ReasonString != text {
					t.Errorf("level %d: got %+v, want %v %q", v, a, want, text)
				}
				if got := b.Stats().RefusedFilters; got != uint64(n+1) {
					t.Errorf("level %d: %d filters count as refused, want %d", v, got, n+1)
				}
			}
			if n := log.count(`msg="a subscription was refused"`); n != 1 {
				t.Errorf("%d lines in the log, want 1 a minute", n)
			}
		})
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

// One SUBSCRIBE or UNSUBSCRIBE names as many filters as a session may have; who sends more
// is closed with 0x97.
func TestAPacketNamesAsManyFiltersAsASessionMayHave(t *testing.T) {
	simulate(t, broker.Config{Limits: broker.Limits{Subscriptions: 3}}, func(s *sim) {
		for n, ends := range map[int]bool{3: false, 4: true} {
			var filters []string
			var subscribe mqtt.Subscribe
			for i := range n {
				filters = append(filters, fmt.Sprint(i))
				subscribe.Filters = append(subscribe.Filters, mqtt.Subscription{Filter: fmt.Sprint(i)})
			}
			subscribe.ID = 1
			for name, packet := range map[string][]byte{"SUBSCRIBE": mqtt.AppendSubscribe(nil, &subscribe, mqtt.V5),
				"UNSUBSCRIBE": mqtt.AppendUnsubscribe(nil, &mqtt.Unsubscribe{ID: 2, Filters: filters}, mqtt.V5)} {
				c := s.joins(mqtt.V5, "c")
				if c.send(packet); !ends {
					c.read()
					c.quiet()
				} else if d := c.closed(); d.Reason != mqtt.QuotaExceeded {
					t.Errorf("%s of %d filters: %v, want 0x97", name, n, d.Reason)
				}
			}
		}
	})
}
