package broker_test

import (
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// Without hooks there are no inboxes and no trees: every topic is a plain one.
func TestABrokerWithoutHooksIsPlain(t *testing.T) {
	_, addr := start(t, broker.Config{})
	ann := join(t, addr, "phone", user("ann"))
	all := join(t, addr, "all")
	all.subscribe("#", 2)
	for _, topic := range []string{"users/ann/inbox", "users/ann/reply", "groups/climb/chat", "owntracks/ann/phone"} {
		ann.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: topic, QoS: 2}}}, ann.v))
		_, body := ann.read()
		if a, err := mqtt.DecodeSuback(body, ann.v); err != nil || a.Reasons[0] != 2 {
			t.Errorf("%s: %+v, %v", topic, a, err)
		}
		bob := join(t, addr, "bob", user("bob"))
		if r := bob.say(topic, "hi"); r >= 0x80 {
			t.Errorf("%s: %v", topic, r)
		}
		ann.want(topic, "hi")
		all.want(topic, "hi")
	}
}

// Nobody comes into another's inbox: by will, retained, by a filter that only looks
// like it, or as the same client of another user.
func TestInboxesAreTheirUsersOwn(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{teller{}}})
	ann := join(t, addr, "phone", user("ann"))
	ann.subscribe("users/ann/#", 1)
	eve := join(t, addr, "phone", user("eve")) // the same client id: another session
	for _, f := range []string{"users/ann/inbox", "users/+/inbox", "users/#", "#", "$share/g/users/ann/inbox", "users/%61nn/inbox"} {
		eve.subscribe(f, 1)
	}
	for _, forge := range []func(*mqtt.Publish){func(*mqtt.Publish) {}, retain, func(p *mqtt.Publish) { p.Props.Alias = 1 }} {
		eve.publish("users/ann/inbox", `{"seq":1,"from":"dad"}`, 1, 9, forge)
		if a := eve.wantAck(mqtt.PUBACK, 9); a.Reason != mqtt.TopicNameInvalid {
			t.Errorf("got %v", a.Reason)
		}
	}
	w := dial(t, addr, mqtt.V5)
	if a := w.connect("w", user("eve"), func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "users/ann/inbox", Payload: []byte("x")} }); a.Reason != mqtt.TopicNameInvalid {
		t.Errorf("the will got %v", a.Reason)
	}
	tell(t, join(t, addr, "c"), "ann", "secret")
	if e := ann.event(); e.Seq != 1 || e.Body != "secret" {
		t.Errorf("got %+v", e)
	}
	eve.quiet()
	ann.quiet()
}

// The events of an inbox come with the identifiers of its filters, at QoS 1 at most,
// until the last of them is gone; one that a client can't take is told as a gap.
func TestInboxFiltersAndSizes(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{teller{}}})
	c := join(t, addr, "c")
	ann := join(t, addr, "phone", user("ann"), func(p *mqtt.Connect) { p.MaximumPacketSize = 300 })
	for i, f := range []string{"users/ann/inbox", "users/ann/#"} {
		ann.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, SubID: uint32(i + 7), Filters: []mqtt.Subscription{{Filter: f, QoS: 1}}}, ann.v))
		ann.read()
	}
	tell(t, c, "ann", "1")
	if p := ann.message(); len(p.Props.SubIDs) != 2 || p.Props.SubIDs[0] != 7 || p.Props.SubIDs[1] != 8 {
		t.Errorf("got %v", p.Props.SubIDs)
	}
	ann.send(mqtt.AppendUnsubscribe(nil, &mqtt.Unsubscribe{ID: 2, Filters: []string{"users/ann/inbox"}}, ann.v))
	ann.read()
	tell(t, c, "ann", string(make([]byte, 400)))
	if e := ann.event(); e.Type != "gap" || e.Seq != 2 || e.To != 2 || e.Why != "size" {
		t.Errorf("got %+v", e)
	}
	tell(t, c, "ann", "3")
	if e := ann.event(); e.Seq != 3 {
		t.Errorf("got %+v", e)
	}
	ann.send(mqtt.AppendUnsubscribe(nil, &mqtt.Unsubscribe{ID: 2, Filters: []string{"users/ann/#"}}, ann.v))
	ann.read()
	tell(t, c, "ann", "4")
	ann.quiet()
}
