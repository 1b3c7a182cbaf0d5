package broker_test

import (
	"fmt"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// The case of the Paho suites: a session subscribes, publishes to itself and
// leaves without having acknowledged anything, all in one go.
func TestWhatALastingSessionPublishesToItselfOutlivesItsConnection(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		t.Run(fmt.Sprint("level ", v), func(t *testing.T) {
			_, addr := start(t, broker.Config{})
			c := dial(t, addr, v)
			c.connect("b", lasting)
			var all []byte
			all = mqtt.AppendSubscribe(all, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: "TopicA/#", QoS: 2}}}, v)
			all = mqtt.AppendPublish(all, &mqtt.Publish{Topic: []byte("TopicA/B"), QoS: 1, ID: 2}, v)
			all = mqtt.AppendPublish(all, &mqtt.Publish{Topic: []byte("TopicA/C"), QoS: 2, ID: 3}, v)
			c.send(all)
			seen := 0
			for seen < 2 { // SUBACK, PUBACK, PUBREC come, too
				if first, _ := c.read(); mqtt.Type(first>>4) == mqtt.PUBLISH {
					seen++
				}
			}
			c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, v))
			if _, _, err := c.next(5e9); err == nil {
				t.Fatal("the connection is still open")
			}
			c = dial(t, addr, v)
			if a := c.connect("b", lasting); v != mqtt.V31 && !a.SessionPresent {
				t.Error("the session is not present")
			}
			c.want("TopicA/B", "")
			p := c.want("TopicA/C", "")
			c.ack(mqtt.PUBREC, p.ID)
			c.wantAck(mqtt.PUBREL, p.ID)
			c.ack(mqtt.PUBCOMP, p.ID)
			c.quiet()
		})
	}
}
