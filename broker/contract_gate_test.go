package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

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
