package broker_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// Readers that stop hold no more than their part of the memory, and when they are gone
// all that they held is given back.
func TestWhatWaitsForReadersIsBoundedAndGivenBack(t *testing.T) {
	const memory = 32 << 20
	b, addr := start(t, broker.Config{Memory: memory, Data: t.TempDir()})
	broker.SetMemory(b, 1<<40) // the test itself is in this process
	var all []*client
	for i := range 60 {
		c := dial(t, addr, mqtt.V311)
		if i%3 == 0 && i%5 != 0 { // a lasting group keeps what it had read
			c.connect(fmt.Sprint("s", i), lasting)
		} else {
			c.connect(fmt.Sprint("s", i))
		}
		filter := []string{"t/#", fmt.Sprintf("+/%d", i)}[i%2]
		if i%5 == 0 {
			filter = fmt.Sprintf("$share/g%d/t/#", i%2)
		}
		c.subscribe(filter, byte(i%3))
		all = append(all, c)
	}
	p := dial(t, addr, mqtt.V5)
	p.connect("p")
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 400 {
		p.publish(fmt.Sprintf("t/%d", r.IntN(60)), strings.Repeat("x", []int{10, 1000, 100_000, 200_000}[r.IntN(4)]), 1, uint16(i+1))
		p.wantAck(mqtt.PUBACK, uint16(i+1))
		held := broker.Held(b)
		if held[2] > memory/8+(1<<20) || held[3] > memory/8+(1<<20) {
			t.Fatalf("after %d messages: %v", i+1, held)
		}
	}
	q := dial(t, addr, mqtt.V5) // a reader goes on
	q.connect("q")
	q.subscribe("quiet", 1)
	p.publish("quiet", "hello", 1, 1)
	q.want("quiet", "hello")
	for _, c := range append(all, p, q) {
		c.nc.Close()
	}
	until(t, "all is given back", func() bool {
		if held := broker.Held(b); held != [5]int64{} {
			time.Sleep(10 * time.Millisecond)
			return false
		}
		return true
	})
}
