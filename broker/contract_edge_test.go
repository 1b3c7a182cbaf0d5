package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

func authenticatorsAreAskedInOrder(t *testing.T) {
	var asked list
	knows := func(by, who string) authenticator {
		return func(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
			asked.add(by)
			if c.Username != who {
				return hooks.Identity{}, fmt.Errorf("%s: %w", by, hooks.ErrNotMine)
			}
			return hooks.Identity{User: c.Username + "!", Client: "forged"}, nil
		}
	}
	var is list
	who := authorizer(func(r *hooks.Request) error {
		is.add(fmt.Sprint(r.Identity.User, " ", r.Identity.Client, " ", r.Identity.Verified))
		return nil
	})
	_, addr := start(t, broker.Config{Hooks: []any{knows("first", "ann"), who, knows("second", "bob")}})
	join(t, addr, "c", user("ann")).say("t", "x")
	wantList(t, asked.take(), "first")
	join(t, addr, "c", user("bob")).say("t", "x")
	wantList(t, asked.take(), "first", "second")
	wantList(t, is.take(), "ann! c true", "bob! c true")
	if a := dial(t, addr, mqtt.V5).connect("c", user("eve")); a.Reason != mqtt.BadUserNameOrPassword {
		t.Errorf("eve got %v", a.Reason)
	}
}

func authenticatorsRefuse(t *testing.T) {
	for _, row := range []struct {
		name string
		fail func() error
		want mqtt.Reason
		text string
		logs bool
	}{
		{"a refusal", func() error { return &hooks.Refusal{Reason: mqtt.Banned, Text: "go away"} }, mqtt.Banned, "go away", false},
		{"an error", func() error { return errors.New("the sky fell") }, mqtt.UnspecifiedError, "", true},
		{"a panic", func() error { panic("the sky fell") }, mqtt.UnspecifiedError, "", true},
	} {
		var log logText
		_, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{authenticator(func(context.Context, *hooks.Credentials) (hooks.Identity, error) {
			return hooks.Identity{}, row.fail()
		})}})
		if a := dial(t, addr, mqtt.V5).connect("c"); a.Reason != row.want || a.ReasonString != row.text {
			t.Errorf("%s: got %v %q", row.name, a.Reason, a.ReasonString)
		}
		if log.have("the sky fell") != row.logs {
			t.Errorf("%s: logged %v", row.name, !row.logs)
		}
	}
}

func authenticationEnds(t *testing.T) {
	for _, row := range []struct {
		name  string
		limit time.Duration
		close bool
	}{{"after the limit", 20 * time.Millisecond, false}, {"when the broker closes", time.Hour, true}} {
		began, ended := make(chan bool), make(chan error, 1)
		b, addr := start(t, broker.Config{Limits: broker.Limits{Connect: row.limit}, Hooks: []any{authenticator(func(ctx context.Context, _ *hooks.Credentials) (hooks.Identity, error) {
			began <- true
			<-ctx.Done()
			ended <- ctx.Err()
			return hooks.Identity{}, ctx.Err()
		})}})
		dial(t, addr, mqtt.V5).send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: "c"}))
		<-began
		if row.close {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
		select {
		case <-ended: //nolint:errcheck // that it ended is enough
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: ctx did not end", row.name)
		}
	}
}

// denied is refused in whatever way a client comes to it.
const denied = "a/denied"

func anyNoIsFinal(t *testing.T) {
	no := authorizer(func(r *hooks.Request) error {
		if r.Identity.User != "root" && (r.Action == hooks.Write && r.Topic == denied || r.Action == hooks.Read && mqtt.Match(r.Topic, denied)) {
			return &hooks.Refusal{Text: "no"}
		}
		return nil
	})
	yes := authorizer(func(*hooks.Request) error { return nil })
	_, addr := start(t, broker.Config{Hooks: []any{yes, no, yes}})
	root := join(t, addr, "root", user("root"))
	root.subscribe("#", 2)
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		c := dial(t, addr, v)
		c.connect("c", user("ann"))
		for qos := range byte(3) {
			for _, f := range []string{denied, "a/+", "#", "$share/g/" + denied} {
				s := dial(t, addr, v)
				s.connect("s", user("ann"))
				s.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: f, QoS: qos}}}, v))
				_, body, err := s.next(5 * time.Second)
				if v == mqtt.V31 && err != nil {
					continue // which has no refusal but to close
				}
				if a, err := mqtt.DecodeSuback(body, v); err != nil || a.Reasons[0] < 0x80 {
					t.Errorf("level %d: SUBSCRIBE %s QoS %d: %v, %v", v, f, qos, a, err)
				}
			}
			c.refusedAt(qos, func(*mqtt.Publish) {})
			c.refusedAt(qos, retain)
			if v == mqtt.V5 {
				c.refusedAt(qos, func(p *mqtt.Publish) { p.Props.Alias = 3 })
				c.refusedAt(qos, func(p *mqtt.Publish) { p.Props.Alias, p.Topic = 3, nil })
			}
		}
		w := dial(t, addr, v)
		if a := w.connect("w", user("ann"), func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: denied, Payload: []byte("x")} }); a.Reason < 0x80 {
			t.Errorf("level %d: the will was taken", v)
		}
		c.say("allowed", "x")
		root.want("allowed", "x") // and nothing before it
	}
}

// refusedAt publishes on the denied topic and wants a refusal, as the level has it.
func (c *client) refusedAt(qos byte, change func(*mqtt.Publish)) {
	c.t.Helper()
	c.publish(denied, "x", qos, 7, change)
	switch qos {
	case 0:
		return
	case 1:
		if a := c.wantAck(mqtt.PUBACK, 7); c.v == mqtt.V5 && a.Reason != mqtt.NotAuthorized {
			c.t.Errorf("QoS 1: got %v", a.Reason)
		}
		return
	}
	if a := c.wantAck(mqtt.PUBREC, 7); c.v == mqtt.V5 && a.Reason != mqtt.NotAuthorized {
		c.t.Errorf("QoS 2: got %v", a.Reason)
	}
	if c.v != mqtt.V5 {
		c.ack(mqtt.PUBREL, 7)
		c.wantAck(mqtt.PUBCOMP, 7)
	}
}

func brokenAuthorizersSayNo(t *testing.T) {
	for name, fail := range map[string]func() error{"panic": func() error { panic("the sky fell") }, "error": func() error { return errors.New("the sky fell") }} {
		for _, action := range []hooks.Action{hooks.Read, hooks.Write} {
			var log logText
			_, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{authorizer(func(r *hooks.Request) error {
				if r.Action == action {
					return fail()
				}
				return nil
			})}})
			c := join(t, addr, "c")
			c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: "x"}}}, c.v))
			_, body := c.read()
			a, err := mqtt.DecodeSuback(body, c.v)
			if err != nil || a.Reasons[0] >= 0x80 != (action == hooks.Read) {
				t.Errorf("%s: SUBACK %+v, %v", name, a, err)
			}
			if r := c.say("t", "x"); r >= 0x80 != (action == hooks.Write) {
				t.Errorf("%s: PUBACK %v", name, r)
			}
			if !log.have("the sky fell") {
				t.Errorf("%s: not logged", name)
			}
		}
	}
}

func willsAreAskedAboutTwice(t *testing.T) {
	var allowed atomic.Int32 // how often a will is
	asked := make(chan bool, 9)
	_, addr := start(t, broker.Config{Hooks: []any{authorizer(func(r *hooks.Request) error {
		if !r.Will {
			return nil
		}
		asked <- true
		if allowed.Add(-1) < 0 {
			return &hooks.Refusal{}
		}
		return nil
	})}})
	sub := join(t, addr, "sub")
	sub.subscribe("will/#", 1)
	for i, times := range []int32{0, 1, 2} {
		allowed.Store(times)
		c := dial(t, addr, mqtt.V5)
		a := c.connect("c", func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: fmt.Sprint("will/", i), Payload: []byte("x")} })
		if a.Reason >= 0x80 != (times == 0) {
			t.Errorf("allowed %d times: CONNACK %v", times, a.Reason)
		}
		<-asked
		if c.nc.Close(); times > 0 {
			<-asked // when it is sent
		}
	}
	sub.want("will/2", "x")
}

func subscriptionsAreAskedAboutOnce(t *testing.T) {
	var reads atomic.Int32
	_, addr := start(t, broker.Config{Hooks: []any{authorizer(func(r *hooks.Request) error {
		if r.Action == hooks.Read && reads.Add(1) > 1 {
			return &hooks.Refusal{}
		}
		return nil
	})}})
	c := join(t, addr, "c", lasting)
	c.subscribe("x", 1)
	c = join(t, addr, "c", lasting)
	join(t, addr, "d").say("x", "on")
	if n := reads.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	c.want("x", "on")
}

func gatesSeeClientsPublishes(t *testing.T) {
	var seen list
	look := &gate{"#", func(_ context.Context, p *hooks.Publish, _ hooks.Reader) error { seen.add(p.Message.Topic); return nil }}
	answers := &applier{name: "a", filters: "ask", verdict: hooks.Consume, apply: func(tx hooks.Tx, _ *hooks.Publish) error {
		tx.Publish(&mqtt.Message{Topic: "answer", QoS: 1})
		return nil
	}}
	b, addr := start(t, broker.Config{Hooks: []any{look, answers}})
	sub := join(t, addr, "sub")
	sub.subscribe("#", 1)
	c := join(t, addr, "c", func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "will"} })
	c.say("ask", "")
	sub.want("answer", "")
	c.nc.Close()
	sub.message() // the will
	pub(t, b, &mqtt.Message{Topic: "inside"})
	wantList(t, seen.take(), "ask", "will", "inside")
}

func gatesAreAChain(t *testing.T) {
	var seen list
	turn := func(name, filter, into string) *gate {
		return &gate{filter, func(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
			seen.add(name + " " + p.Message.Topic)
			m := *p.Message
			m.Topic, m.Payload = into, []byte(name)
			p.Message = &m
			return nil
		}}
	}
	deny := authorizer(func(r *hooks.Request) error {
		if r.Action == hooks.Write && r.Topic != "one" {
			return &hooks.Refusal{}
		}
		return nil
	})
	_, addr := start(t, broker.Config{Hooks: []any{turn("first", "one", "two"), deny, turn("second", "one", "no"), turn("third", "two", "three")}})
	c := join(t, addr, "c")
	c.subscribe("#", 0)
	c.publish("one", "x", 1, 1)
	c.want("three", "third")
	wantList(t, seen.take(), "first one", "third two")
}

func gatesKeepOrder(t *testing.T) {
	const n = 100
	var busy [2]atomic.Int32
	var next [2]int
	look := &gate{"+", func(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
		who := p.Message.Topic[0] - 'a'
		if busy[who].Add(1) != 1 {
			t.Error("two publishes of a connection at once")
		}
		if got := string(p.Message.Payload); got != fmt.Sprint(next[who]) {
			t.Errorf("%s: got %s, want %d", p.Message.Topic, got, next[who])
		}
		next[who]++
		busy[who].Add(-1)
		return nil
	}}
	_, addr := start(t, broker.Config{Hooks: []any{look}})
	cs := []*client{join(t, addr, "a"), join(t, addr, "b")}
	for i := range n {
		for k, c := range cs {
			c.publish(string(rune('a'+k)), fmt.Sprint(i), 1, uint16(i+1))
		}
	}
	for i := range n {
		for _, c := range cs {
			c.wantAck(mqtt.PUBACK, uint16(i+1))
		}
	}
}

// both is a Gate and an Applier in one.
type both struct {
	*applier
	look func(ctx context.Context, p *hooks.Publish, r hooks.Reader) error
}

func (b *both) Gate(ctx context.Context, p *hooks.Publish, r hooks.Reader) error {
	return b.look(ctx, p, r)
}

func gatesPrepare(t *testing.T) {
	var seen list
	prepares := func(name string) *both {
		h := &both{applier: &applier{name: name, filters: "+"}}
		h.look = func(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
			p.Prepare(h, name+" read "+string(p.Message.Payload))
			return nil
		}
		h.apply = func(_ hooks.Tx, p *hooks.Publish) error { seen.add(fmt.Sprint(p.Prepared[h])); return nil }
		return h
	}
	_, addr := start(t, broker.Config{Hooks: []any{prepares("a"), prepares("b")}})
	c := join(t, addr, "c")
	c.say("t", "1")
	c.say("t", "2")
	wantList(t, seen.take(), "a read 1", "b read 1", "a read 2", "b read 2")
}

func gatesRefuse(t *testing.T) {
	var log logText
	look := &gate{"#", func(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
		switch p.Message.Topic {
		case "refuse":
			return &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid}
		case "fail":
			return errors.New("the sea rose")
		case "panic":
			panic("the sky fell")
		}
		return nil
	}}
	_, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{look}})
	sub := join(t, addr, "sub")
	sub.subscribe("#", 1)
	c := join(t, addr, "c")
	for topic, want := range map[string]mqtt.Reason{"refuse": mqtt.PayloadFormatInvalid, "fail": mqtt.UnspecifiedError, "panic": mqtt.UnspecifiedError} {
		if r := c.say(topic, "x"); r != want {
			t.Errorf("%s: got %v", topic, r)
		}
	}
	old := dial(t, addr, mqtt.V311)
	old.connect("old")
	old.say("panic", "x") // acknowledged, or it would be sent for ever
	c.say("fine", "x")
	sub.want("fine", "x")
	if !log.have("the sky fell") || !log.have("the sea rose") {
		t.Error("not logged")
	}
}

// A QoS 2 publish that was taken and is sent again may be refused then: it was taken.
func gatesSeeRepeats(t *testing.T) {
	var times atomic.Int32
	look := &gate{"#", func(context.Context, *hooks.Publish, hooks.Reader) error {
		if times.Add(1)%2 == 0 {
			return &hooks.Refusal{}
		}
		return nil
	}}
	_, addr := start(t, broker.Config{Hooks: []any{look}})
	c := join(t, addr, "c")
	again := func(p *mqtt.Publish) { p.Dup = true }
	c.publish("t", "x", 2, 5)
	c.wantAck(mqtt.PUBREC, 5)
	c.publish("t", "x", 2, 5, again)
	if a := c.wantAck(mqtt.PUBREC, 5); a.Reason != 0 || times.Load() != 2 {
		t.Errorf("got %v after %d looks", a.Reason, times.Load())
	}
	c.ack(mqtt.PUBREL, 5)
	if a := c.wantAck(mqtt.PUBCOMP, 5); a.Reason != 0 {
		t.Errorf("PUBCOMP %v", a.Reason)
	}
	c.publish("t", "x", 1, 6, again)
	c.wantAck(mqtt.PUBACK, 6)
	if times.Load() != 3 {
		t.Errorf("%d looks", times.Load())
	}
}

func filtersAreReadAgain(t *testing.T) {
	var seen list
	g := &gate{"one", func(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
		seen.add("gate " + p.Message.Topic)
		return nil
	}}
	a := &applier{name: "a", filters: "one", apply: func(_ hooks.Tx, p *hooks.Publish) error {
		seen.add("applier " + p.Message.Topic)
		return nil
	}}
	b, addr := start(t, broker.Config{Hooks: []any{g, a}})
	c := join(t, addr, "c")
	g.filters, a.filters = "two", "two"
	c.say("one", "")
	c.say("two", "")
	b.Refilter()
	c.say("one", "")
	c.say("two", "")
	wantList(t, seen.take(), "gate one", "applier one", "gate two", "applier two")
}

// A publish that a Gate gives up at the end is not refused for good.
func gatesEnd(t *testing.T) {
	began := make(chan bool)
	b, addr := start(t, broker.Config{Hooks: []any{&gate{"#", func(ctx context.Context, _ *hooks.Publish, _ hooks.Reader) error {
		began <- true
		<-ctx.Done()
		return ctx.Err()
	}}}})
	c := dial(t, addr, mqtt.V311)
	c.connect("c")
	c.publish("t", "x", 1, 1)
	<-began
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if first, _, err := c.next(5 * time.Second); err == nil {
		t.Errorf("got packet type %v", mqtt.Type(first>>4))
	}
}

func observersHearWhatIsCommitted(t *testing.T) {
	st := store.NewMemory()
	var heard list
	var busy atomic.Int32
	gone := make(chan bool, 9)
	o := observer(func(e hooks.Event) {
		if busy.Add(1) != 1 {
			t.Error("two events at once")
		}
		text := fmt.Sprint(e.Kind, " ", e.Identity.User)
		if e.Message != nil {
			text += " " + e.Message.Topic
		}
		heard.add(text)
		if e.Kind == hooks.Disconnected {
			gone <- true
		}
		busy.Add(-1)
	})
	refuse := authorizer(func(r *hooks.Request) error {
		if r.Topic == denied {
			return &hooks.Refusal{}
		}
		return nil
	})
	b, addr := over(t, st, o, refuse)
	c := join(t, addr, "c", user("ann"), func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "will"} })
	c.say("a", "")
	c.say(denied, "")
	pub(t, b, &mqtt.Message{Topic: "inside"})
	release := hold(t, st)
	c.publish("kept", "x", 1, 2, retain)
	c.quiet() // the core has it
	for n := 0; n < 1000 && heard.len() < 3; n++ {
		c.quiet() // it hears on a goroutine of its own
	}
	wantList(t, heard.take(), "1 ann", "3 ann a", "3  inside")
	release()
	c.wantAck(mqtt.PUBACK, 2)
	c.nc.Close()
	<-gone
	for range 500 {
		pub(t, b, &mqtt.Message{Topic: "more"})
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	all := heard.take()
	if len(all) != 503 {
		t.Fatalf("heard %d", len(all))
	}
	will := slices.Index(all, "3 ann will") // it takes effect when the hooks were asked, among the others
	if will < 2 {
		t.Fatalf("heard %q", all[:4])
	}
	all = slices.Delete(all, will, will+1)
	wantList(t, all[:3], "3 ann kept", "2 ann", "3  more")
}

func observersDelayNothing(t *testing.T) {
	const n = 5000
	wait, heard := make(chan bool), 0
	b, addr := start(t, broker.Config{Hooks: []any{observer(func(e hooks.Event) {
		if e.Kind == hooks.Published {
			<-wait
			heard++
		}
	})}})
	c := join(t, addr, "c")
	for i := range n {
		c.publish("t", "x", 1, uint16(i+1))
		c.wantAck(mqtt.PUBACK, uint16(i+1))
	}
	close(wait)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	lost := int(b.Stats().Unobserved)
	if lost == 0 || heard+lost < n || heard+lost > n+1 { // the DISCONNECT may be among the lost
		t.Errorf("heard %d and lost %d of %d", heard, lost, n)
	}
}

func observersMayPanic(t *testing.T) {
	var log logText
	var heard list
	b, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{observer(func(e hooks.Event) {
		if e.Kind == hooks.Published {
			if e.Message.Topic == "panic" {
				panic("the sky fell")
			}
			heard.add(e.Message.Topic)
		}
	})}})
	c := join(t, addr, "c")
	c.say("panic", "")
	c.say("fine", "")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	wantList(t, heard.take(), "fine")
	if !log.have("the sky fell") {
		t.Error("not logged")
	}
}
