package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// place is an inbox event that says where it stands.
func place(dst []byte, at hooks.Place) []byte {
	return fmt.Appendf(dst, `{"seq":%d,"epoch":%q,"type":"msg"}`, at.Seq, at.Epoch)
}

// writer does all that a Tx can for a publish on w/{user}: a record, an event in the
// user's inbox, a publish on done, a reply. A payload of "refuse" lets it refuse then.
func writer() *both {
	h := &both{applier: &applier{name: "writer", filters: "w/+ get", verdict: hooks.Consume}}
	h.look = func(context.Context, *hooks.Publish, hooks.Reader) error { return nil }
	h.apply = func(tx hooks.Tx, p *hooks.Publish) error {
		if p.Message.Topic == "get" {
			v, ok := tx.Get([]byte("k"))
			tx.Reply(&mqtt.Message{Topic: "reply", QoS: 1, Payload: fmt.Appendf(nil, "%s %v", v, ok)})
			return nil
		}
		key, value := []byte("k"), bytes.Clone(p.Message.Payload)
		tx.Put(key, value)
		key[0], value[0] = 'x', 'x' // they were copied
		if err := tx.Inbox(p.Message.Topic[2:], 0, place); err != nil {
			return err
		}
		tx.Publish(&mqtt.Message{Topic: "done", QoS: 1, Payload: p.Message.Payload})
		tx.Reply(&mqtt.Message{Topic: "reply", QoS: 1})
		if string(p.Message.Payload) == "refuse" {
			return &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid}
		}
		return nil
	}
	return h
}

func txCommitsWhole(t *testing.T) {
	st := store.NewMemory()
	_, addr := over(t, st, writer())
	ann, sub, c := join(t, addr, "phone", user("ann")), join(t, addr, "sub"), join(t, addr, "c")
	ann.subscribe("users/ann/inbox", 1)
	sub.subscribe("done", 1)
	release := hold(t, st)
	c.publish("w/ann", "v", 1, 1)
	c.quiet() // the core has it
	ann.quiet()
	sub.quiet()
	before := st.Crash()
	release()
	c.wantAck(mqtt.PUBACK, 1)
	sub.want("done", "v")
	if e := ann.event(); e.Seq != 1 {
		t.Errorf("got %+v", e)
	}
	for i, st := range []*store.Memory{before, st.Crash()} {
		if v, ok, err := broker.HookRecords(st, "writer").Get([]byte("k")); ok != (i == 1) || ok && string(v) != "v" || err != nil {
			t.Errorf("store %d has %q, %v, %v", i, v, ok, err)
		}
		_, addr := over(t, st, writer())
		bob := join(t, addr, "phone 2", user("ann"))
		bob.subscribe("users/ann/inbox", 1)
		join(t, addr, "c").say("w/ann", "again")
		if e := bob.event(); e.Seq != i+1 { // after a commit the first device has passed number 1
			t.Errorf("store %d: got %+v", i, e)
		}
	}
}

func txIsDropped(t *testing.T) {
	b, addr := start(t, broker.Config{Limits: broker.Limits{Inboxes: 1}, Hooks: []any{writer()}})
	c := join(t, addr, "c", user("ann"))
	c.subscribe("#", 1)
	if r := c.say("w/bob", "refuse"); r != mqtt.PayloadFormatInvalid {
		t.Errorf("got %v", r)
	}
	c.publish("get", "", 1, 2)
	c.want("reply", " false")
	c.wantAck(mqtt.PUBACK, 2)
	c.subscribe("users/ann/inbox", 1) // there is room for one: bob has none
	c.publish("w/ann", "refuse", 1, 3)
	c.wantAck(mqtt.PUBACK, 3)
	c.publish("w/ann", "v", 1, 4)
	seen := map[string]bool{}
	for range 3 {
		p := c.message()
		seen[fmt.Sprintf("%s %s", p.Topic, p.Payload)] = true
		c.ack(mqtt.PUBACK, p.ID)
		if strings.HasSuffix(string(p.Topic), "inbox") && !strings.Contains(string(p.Payload), `"seq":1,`) {
			t.Errorf("got %s", p.Payload)
		}
	}
	c.wantAck(mqtt.PUBACK, 4)
	if !seen["done v"] || !seen["reply "] {
		t.Errorf("got %v", seen)
	}
	c.quiet()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func readersSeeWhatIsCommitted(t *testing.T) {
	st := store.NewMemory()
	var seen list
	reads := func(name string) *both {
		h := &both{applier: &applier{name: name, filters: "put"}}
		h.look = func(_ context.Context, p *hooks.Publish, r hooks.Reader) error {
			v, ok, err := r.Get([]byte("a"))
			text := fmt.Sprint(string(v), " ", ok, " ", err)
			err = r.Scan([]byte("a"), func(key, _ []byte) bool {
				text += " " + string(key)
				return string(key) != "ab"
			})
			if seen.add(fmt.Sprint(name, ": ", text)); err != nil {
				t.Error(err)
			}
			return nil
		}
		h.apply = func(tx hooks.Tx, p *hooks.Publish) error {
			if name == "one" {
				for _, key := range []string{"b", "ac", "ab", "a", "aa"} {
					tx.Put([]byte(key), p.Message.Payload)
				}
			}
			return nil
		}
		return h
	}
	_, addr := over(t, st, reads("one"), reads("on"))
	c := join(t, addr, "c")
	release := hold(t, st)
	c.publish("put", "1", 1, 1)
	c.publish("put", "2", 1, 2)
	c.quiet()
	release()
	c.wantAck(mqtt.PUBACK, 1)
	c.wantAck(mqtt.PUBACK, 2)
	c.publish("put", "3", 1, 3)
	c.wantAck(mqtt.PUBACK, 3)
	wantList(t, seen.take(), "one:  false <nil>", "on:  false <nil>", "one:  false <nil>", "on:  false <nil>", "one: 2 true <nil> a aa ab", "on:  false <nil>")
}

func txGetSeesWhatIsNotRead(t *testing.T) {
	st := store.NewMemory()
	var seen list
	h := &applier{name: "a", filters: "+", apply: func(tx hooks.Tx, p *hooks.Publish) error {
		switch p.Message.Topic {
		case "put":
			tx.Put([]byte("k"), p.Message.Payload)
		case "delete":
			tx.Delete([]byte("k"))
		}
		v, ok := tx.Get([]byte("k"))
		seen.add(fmt.Sprint(string(v), " ", v == nil, " ", ok))
		return nil
	}}
	_, addr := over(t, st, h)
	c := join(t, addr, "c")
	release := hold(t, st)
	for i, topic := range []string{"get", "delete", "put", "get", "delete", "get"} {
		c.publish(topic, "v", 1, uint16(i+1))
	}
	c.wantAck(mqtt.PUBACK, 1) // it rests on nothing
	c.quiet()
	release()
	for i := range 5 {
		c.wantAck(mqtt.PUBACK, uint16(i+2))
	}
	wantList(t, seen.take(), " true false", " true true", "v false true", "v false true", " true true", " true true")
	if _, ok, err := broker.HookRecords(st, "a").Get([]byte("k")); ok || err != nil {
		t.Errorf("the record is still there: %v", err)
	}
}

// A retry on another connection is acknowledged because the first is known: not
// before the first is on disk.
func acknowledgementsWaitForWhatWasRead(t *testing.T) {
	st := store.NewMemory()
	_, addr := over(t, st, writer())
	a, b := join(t, addr, "a"), join(t, addr, "b")
	release := hold(t, st)
	a.publish("w/ann", "v", 1, 1)
	a.quiet()
	b.publish("get", "", 1, 1)
	b.quiet() // not acknowledged
	release()
	a.wantAck(mqtt.PUBACK, 1)
	b.wantAck(mqtt.PUBACK, 1)
	b.publish("get", "", 1, 2)
	b.wantAck(mqtt.PUBACK, 2)
}

func inboxGivesPlaces(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{writer()}})
	c, ann := join(t, addr, "c"), join(t, addr, "phone", user("ann"))
	ann.subscribe("users/ann/inbox", 1)
	epoch := ""
	for i := range 5 {
		c.say("w/ann", "v")
		c.say("w/bob", "v")
		e := ann.event()
		if epoch == "" {
			epoch = e.Epoch
		}
		if e.Seq != i+1 || e.Epoch != epoch || epoch == "" {
			t.Errorf("got %+v", e)
		}
	}
}

func inboxRefuses(t *testing.T) {
	var got list
	h := &applier{name: "a", filters: "to/#", verdict: hooks.Consume, apply: func(tx hooks.Tx, p *hooks.Publish) error {
		name, err := strings.TrimPrefix(p.Message.Topic, "to/"), error(nil)
		if name != "all" {
			err = tx.Inbox(name, 0, place)
		} else {
			for i := 0; i < 20000 && err == nil; i++ {
				err = tx.Inbox("all", 0, place)
			}
		}
		no, _ := errors.AsType[*hooks.Refusal](err)
		if err != nil && no == nil {
			t.Errorf("got %v", err)
		}
		if no != nil {
			got.add(no.Reason.Name())
		}
		return nil // what could be done is done
	}}
	b, addr := start(t, broker.Config{Limits: broker.Limits{Inboxes: 2}, Hooks: []any{h}})
	c := join(t, addr, "c")
	for _, name := range []string{"", strings.Repeat("x", 129), "ann", "bob", "eve", "ann"} {
		c.say("to/"+name, "")
	}
	wantList(t, got.take(), mqtt.TopicNameInvalid.Name(), mqtt.TopicNameInvalid.Name(), mqtt.QuotaExceeded.Name())
	if n := b.Stats().Inboxes; n > 2 {
		t.Errorf("%d inboxes", n)
	}
	ann := join(t, addr, "phone", user("ann"))
	ann.subscribe("users/ann/inbox", 1)
	ann.event()
	if e := ann.event(); e.Seq != 2 {
		t.Errorf("got %+v", e)
	}
	ann.quiet()
	_, addr = start(t, broker.Config{Hooks: []any{h}})
	join(t, addr, "c").say("to/all", "")
	wantList(t, got.take(), mqtt.QuotaExceeded.Name())
}

func appliersPublish(t *testing.T) {
	var returned atomic.Bool
	h := &applier{name: "a", filters: "ask", apply: func(tx hooks.Tx, _ *hooks.Publish) error {
		tx.Publish(&mqtt.Message{Topic: denied, QoS: 1, Payload: []byte("by the hook")})
		returned.Store(true)
		return nil
	}}
	never := &gate{denied, func(context.Context, *hooks.Publish, hooks.Reader) error { t.Error("a gate was asked"); return nil }}
	no := authorizer(func(r *hooks.Request) error {
		if r.Topic == denied && r.Action == hooks.Write {
			t.Error("an authorizer was asked")
		}
		return nil
	})
	late := &applier{name: "b", filters: denied, apply: func(hooks.Tx, *hooks.Publish) error {
		if !returned.Load() {
			t.Error("before the applier returned")
		}
		return nil
	}}
	_, addr := start(t, broker.Config{Hooks: []any{h, never, no, late}})
	c := join(t, addr, "c")
	c.subscribe(denied, 1)
	c.publish("ask", "", 1, 1)
	c.want(denied, "by the hook")
	c.wantAck(mqtt.PUBACK, 1)
}

func publishesAreBoundedInDepth(t *testing.T) {
	var log logText
	var depths list
	h := &applier{name: "a", filters: "loop", apply: func(tx hooks.Tx, p *hooks.Publish) error {
		depths.add(fmt.Sprint(p.Depth))
		tx.Publish(&mqtt.Message{Topic: "loop"})
		return nil
	}}
	_, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{h}})
	join(t, addr, "c").say("loop", "")
	wantList(t, depths.take(), "0", "1", "2", "3", "4", "5", "6", "7", "8")
	if hooks.MaxDepth != 8 || !log.have("too deep") {
		t.Error("not logged")
	}
}

func repliesGoToTheSender(t *testing.T) {
	st := store.NewMemory()
	_, addr := over(t, st, writer())
	other, c := join(t, addr, "other", lasting), join(t, addr, "c", lasting)
	other.subscribe("reply", 1)
	c.publish("get", "", 1, 1) // it does not listen yet
	c.wantAck(mqtt.PUBACK, 1)
	c.subscribe("reply", 1)
	c.publish("get", "", 1, 2)
	first, body := c.read() // the reply and the PUBACK come in any order
	if mqtt.Type(first>>4) == mqtt.PUBACK {
		first, body = c.read()
	} else {
		c.wantAck(mqtt.PUBACK, 2)
	}
	var p mqtt.Publish
	if err := p.Decode(first, body, c.v); err != nil || string(p.Topic) != "reply" || p.QoS != 1 {
		t.Errorf("got %+v, %v", p, err)
	}
	other.quiet()
	_, addr = over(t, st.Crash(), writer())
	join(t, addr, "c", lasting).quiet() // it was not acknowledged, and is not stored
}
