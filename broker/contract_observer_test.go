package broker_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

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
