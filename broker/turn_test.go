package broker_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// A poller may be the core for a few commands. Many are not its business: those whom it
// reads would wait for all of them.
func TestPollersReadOnWhileTheCoreHasMuchToDo(t *testing.T) {
	in, out := make(chan struct{}), make(chan struct{})
	a := &applier{name: "held", filters: "held", apply: func(hooks.Tx, *hooks.Publish) error { in <- struct{}{}; <-out; return nil }}
	b, addr := start(t, broker.Config{Hooks: []any{a}})
	var others []*client // of each poller
	for i := range 2 * runtime.GOMAXPROCS(0) {
		others = append(others, join(t, addr, fmt.Sprint(i)))
	}
	first, second := dial(t, addr, mqtt.V311), dial(t, addr, mqtt.V311)
	first.connect("first")
	second.connect("second")
	letOn := sync.OnceFunc(func() { close(out) })
	t.Cleanup(letOn) // before the broker closes
	first.publish("held", "", 1, 1)
	<-in // on a poller, mostly
	var many []byte
	for id := range uint16(400) {
		many = mqtt.AppendPublish(many, &mqtt.Publish{Topic: []byte("t"), QoS: 1, ID: id + 2}, mqtt.V311)
	}
	second.send(mqtt.AppendPublish(many, &mqtt.Publish{Topic: []byte("held"), QoS: 1, ID: 1}, mqtt.V311))
	if runtime.GOMAXPROCS(0) > 1 { // else who would read it is the core
		until(t, "all of it waits for the core", func() bool { return broker.Weight(b) > 400 })
	}
	out <- struct{}{}
	<-in
	for _, c := range others {
		c.quiet()
	}
	letOn()
	first.wantAck(mqtt.PUBACK, 1)
}
