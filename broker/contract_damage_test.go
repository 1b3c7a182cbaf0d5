package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// damageIsDiscarded has a hook that can't read its record k.
func damageIsDiscarded(t *testing.T) {
	st := store.NewMemory()
	seen := ""
	h := &applier{name: "a", filters: "put", apply: func(tx hooks.Tx, _ *hooks.Publish) error {
		tx.Put([]byte("k"), []byte("v"))
		tx.Put([]byte("l"), []byte("w"))
		return nil
	}}
	b, addr := over(t, st, h)
	join(t, addr, "c").say("put", "")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	var log logText
	h.restore = func(r hooks.Reader, _ int64) error {
		seen = ""
		err := r.Scan(nil, func(key, _ []byte) bool { seen += string(key); return true })
		if d := (&hooks.Damage{}); seen == "kl" {
			d.Add([]byte("k"))
			return errors.Join(err, d.Err())
		}
		return err
	}
	for round, want := range []string{"kl", "l"} {
		b, err := broker.NewOver(broker.Config{Log: log.logger(), Hooks: []any{h}}, st)
		if err != nil || seen != want {
			t.Fatalf("round %d: the hook sees %q, %v; want %q", round, seen, err, want)
		}
		if n := b.Stats().Damaged; n != uint64(1-round) || !log.have("hook a") {
			t.Errorf("round %d: %d damaged records are counted", round, n)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	h.restore = func(hooks.Reader, int64) error { return errors.New("boom") }
	if _, err := broker.NewOver(broker.Config{Log: quiet, Hooks: []any{h}}, st); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("another error does not end the start: %v", err)
	}
}

// txReads has a hook that reads its records because of publishes.
func txReads(t *testing.T) {
	var seen list
	h := &applier{name: "a", filters: "+", apply: func(tx hooks.Tx, p *hooks.Publish) error {
		topic := p.Message.Topic
		tx.Put([]byte(topic), []byte("v"))
		v := ""
		tx.Read(func(r hooks.Reader) {
			got, _, err := r.Get([]byte("first"))
			v = fmt.Sprint(string(got), err)
		}, func(tx hooks.Tx) {
			tx.Put([]byte("then"), nil)
			tx.Publish(&mqtt.Message{Topic: "read/" + topic, QoS: 1, Payload: []byte(v)})
		})
		if topic == "no" {
			return &hooks.Refusal{Reason: mqtt.NotAuthorized}
		}
		seen.add(topic)
		return nil
	}}
	st := store.NewMemory()
	_, addr := over(t, st, h)
	sub, c := join(t, addr, "sub"), join(t, addr, "c")
	sub.subscribe("read/+", 1)
	c.say("first", "")
	sub.message() // it may have been read before it was there
	c.say("second", "")
	sub.expect("read/second", "v<nil>")
	c.publish("no", "", 1, 9)
	c.wantAck(mqtt.PUBACK, 9)
	sub.quiet()
	if _, err := st.Get(0x2a, []byte("a\x00then")); err != nil {
		t.Errorf("what it then wrote: %v", err)
	}
}
