package broker_test

import (
	"fmt"
	"testing"

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
