package broker_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// numbers is an Applier that counts publishes, in its state and its record.
type numbers struct {
	*applier
	n        int
	restored int
	at       int64
}

func newNumbers() *numbers {
	h := &numbers{}
	h.applier = &applier{name: "numbers", filters: "n", apply: func(tx hooks.Tx, _ *hooks.Publish) error {
		h.n++
		tx.Put([]byte("n"), fmt.Append(nil, h.n))
		return nil
	}, restore: func(r hooks.Reader, now int64) error {
		h.restored++
		h.at = now
		v, ok, err := r.Get([]byte("n"))
		if ok {
			_, err = fmt.Sscan(string(v), &h.n)
		}
		return err
	}}
	return h
}

func appliersAreRestored(t *testing.T) {
	st := store.NewMemory()
	for round := range 3 {
		h := newNumbers()
		b, addr := over(t, st, h)
		if h.restored != 1 || h.n != round || h.at < time.Now().UnixMilli()-60_000 {
			t.Errorf("round %d: restored %d times at %d, with %d", round, h.restored, h.at, h.n)
		}
		join(t, addr, "c").say("n", "")
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		st = st.Crash()
	}
}

func appliersAreOneAfterTheOther(t *testing.T) {
	const n = 200
	var busy atomic.Int32
	var order []string
	now := int64(0) // not guarded: the race detector would tell of two at once, too
	h := &applier{name: "a", filters: "t", apply: func(tx hooks.Tx, p *hooks.Publish) error {
		if busy.Add(1) != 1 {
			t.Error("two at once")
		}
		if d := time.Now().UnixMilli() - tx.Now(); tx.Now() < now || d < -60_000 || d > 60_000 {
			t.Errorf("it is %d after %d", tx.Now(), now)
		}
		now = tx.Now()
		order = append(order, string(p.Message.Payload))
		busy.Add(-1)
		return nil
	}}
	_, addr := start(t, broker.Config{Hooks: []any{h}})
	sub, a, b := join(t, addr, "sub"), join(t, addr, "a"), join(t, addr, "b")
	sub.subscribe("t", 1)
	for i := range n {
		a.publish("t", fmt.Sprint("a", i), 1, uint16(i+1))
		b.publish("t", fmt.Sprint("b", i), 1, uint16(i+1))
	}
	var got []string
	for range 2 * n {
		p := sub.message()
		sub.ack(mqtt.PUBACK, p.ID)
		got = append(got, string(p.Payload))
	}
	for i := range n {
		a.wantAck(mqtt.PUBACK, uint16(i+1))
		b.wantAck(mqtt.PUBACK, uint16(i+1))
	}
	wantList(t, got, order...)
}

func appliersAreAChain(t *testing.T) {
	fails := &applier{name: "fails", filters: "w/ann", apply: func(tx hooks.Tx, p *hooks.Publish) error {
		tx.Put([]byte("k"), []byte("v"))
		return &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid}
	}}
	never := &applier{name: "never", filters: "w/ann", apply: func(hooks.Tx, *hooks.Publish) error { t.Error("asked"); return nil }}
	st := store.NewMemory()
	_, addr := over(t, st, writer(), fails, never)
	ann, c := join(t, addr, "phone", user("ann")), join(t, addr, "c")
	ann.subscribe("users/ann/inbox", 1)
	if r := c.say("w/ann", "v"); r != mqtt.PayloadFormatInvalid {
		t.Errorf("got %v", r)
	}
	if e := ann.event(); e.Seq != 1 {
		t.Errorf("got %+v", e)
	}
	if _, ok, _ := broker.HookRecords(st, "fails").Get([]byte("k")); ok {
		t.Error("what the refusing one wrote is there")
	}
	if _, ok, _ := broker.HookRecords(st, "writer").Get([]byte("k")); !ok {
		t.Error("what the one before it wrote is not there")
	}
}

func namesAreTheirOwn(t *testing.T) {
	for _, names := range [][2]string{{"a", "a"}, {"a", ""}} {
		h := []any{&applier{name: names[0]}, &applier{name: names[1]}}
		if b, err := broker.New(broker.Config{Log: quiet, Hooks: h}); err == nil {
			t.Errorf("%q: taken", names)
			b.Close() //nolint:errcheck // it should not be
		}
	}
}

func appliersSeePublishesFromInside(t *testing.T) {
	var seen list
	h := &applier{name: "a", filters: "# ", verdict: hooks.Consume, apply: func(tx hooks.Tx, p *hooks.Publish) error {
		seen.add(fmt.Sprint(p.Message.Topic, " ", p.From.Client, " ", p.Depth))
		if p.Message.Topic == "ask" {
			tx.Publish(&mqtt.Message{Topic: "answer"})
		}
		if p.Message.Topic == "refuse" {
			return &hooks.Refusal{Text: "no"}
		}
		return nil
	}}
	b, addr := start(t, broker.Config{Hooks: []any{h}})
	sub := join(t, addr, "sub")
	sub.subscribe("#", 1)
	c := join(t, addr, "c", func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "will"} })
	c.say("ask", "")
	pub(t, b, &mqtt.Message{Topic: "inside"})
	if err := b.Publish(t.Context(), &mqtt.Message{Topic: "refuse"}); err == nil || err.Error() != "no" {
		t.Errorf("got %v", err)
	}
	c.nc.Close()
	until(t, "the will was sent", func() bool { return seen.len() == 5 })
	sub.quiet() // all was consumed
	wantList(t, seen.take(), "ask c 0", "answer  1", "inside  0", "refuse  0", "will c 0")
}

func ticksComeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards n and wish
		n, wish := 0, int64(0)
		h := &applier{name: "a", tick: func(tx hooks.Tx) int64 {
			mu.Lock()
			defer mu.Unlock()
			n++
			if wish == 0 {
				return 0
			}
			return tx.Now() + wish
		}}
		b, err := broker.New(broker.Config{Log: quiet, Hooks: []any{h}})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range []struct {
			wish        int64
			least, most int
		}{{0, 9, 11}, {500, 16, 21}, {60_000, 9, 11}} {
			if err := b.Publish(t.Context(), &mqtt.Message{Topic: "x"}); err != nil { // now the core is not in Tick
				t.Fatal(err)
			}
			mu.Lock()
			n, wish = 0, row.wish
			mu.Unlock()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			mu.Lock()
			n := n
			mu.Unlock()
			if n < row.least || n > row.most {
				t.Errorf("wish %d: %d ticks in 10 s", row.wish, n)
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

func panicsInTheCoreEndTheProcess(t *testing.T) {
	for _, topic := range []string{"tell/panic", "tell/panic-read", "tell/panic-then", "boom/x"} {
		dir := t.TempDir()
		cmd, addr := child(t, dir)
		c := join(t, addr, "c")
		c.subscribe("boom/x", 1)
		tell(t, c, "ann", "kept")
		join(t, addr, "d").publish(topic, "", 1, 1)
		if err := cmd.Wait(); err == nil {
			t.Errorf("%s: the process ended well", topic)
		}
		_, addr = child(t, dir)
		ann := join(t, addr, "phone", user("ann"))
		ann.subscribe("users/ann/inbox", 1)
		if e := ann.event(); e.Body != "kept" {
			t.Errorf("%s: got %+v", topic, e)
		}
	}
}
