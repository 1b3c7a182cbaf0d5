package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// A wildcard subscription brings every retained message, in topic order, at QoS 0
// too: the replay waits for the reader and drops nothing.
func TestAWildcardReplayDropsNothing(t *testing.T) {
	const n = 20_000
	b, addr := start(t, broker.Config{})
	for i := range n {
		pub(t, b, &mqtt.Message{Topic: fmt.Sprintf("r/%05d", i), Payload: []byte("x"), QoS: 1, Retain: true})
	}
	for qos := byte(0); qos <= 1; qos++ {
		c := dial(t, addr, mqtt.V5)
		c.connect("c")
		c.subscribe("r/#", qos)
		for i := range n {
			if m := c.want(fmt.Sprintf("r/%05d", i), "x"); !m.Retain || m.QoS != qos {
				t.Fatalf("%s at QoS %d, retain %v", m.Topic, m.QoS, m.Retain)
			}
		}
		c.quiet()
	}
}

// A new subscriber gets what is retained, also while every batch retains something.
func TestAReplayBeginsWhileEveryBatchRetainsSomething(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		p, c := s.joins(mqtt.V5, "p"), s.joins(mqtt.V5, "c")
		p.publish("old", "x", 1, 1, retain)
		p.wantAck(mqtt.PUBACK, 1)
		one := s.oneByOne()
		p.publish("r", "first", 0, 0, retain) // there is always one more in the open batch
		synctest.Wait()
		for i := range 6 {
			p.publish("r", fmt.Sprint(i), 0, 0, retain)
			synctest.Wait()
			if i == 1 {
				c.subscribe("old", 1)
			}
			one()
		}
		c.expect("old", "x")
	})
}
