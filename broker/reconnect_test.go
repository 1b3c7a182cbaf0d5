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

// A replay of retained messages that a lasting session did not get to the end
// of goes on where it stood: over a reconnect, and over a restart.
func TestAnUnfinishedReplayGoesOn(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			cfg := broker.Config{Data: t.TempDir(), Limits: broker.Limits{Window: 8}}
			b, addr := start(t, cfg)
			const n = 500
			for i := range n {
				pub(t, b, &mqtt.Message{Topic: fmt.Sprintf("r/%04d", i), Payload: []byte("x"), QoS: qos, Retain: true})
			}
			c := dial(t, addr, mqtt.V5)
			c.connect("s", lasting)
			c.subscribe("r/#", qos)
			seen := make(map[string]int)
			take := func(most int) { // whole exchanges, answered at once
				for done := 0; done < most && len(seen) < n; {
					first, body := c.read()
					switch ty := mqtt.Type(first >> 4); ty {
					case mqtt.PUBLISH:
						var p mqtt.Publish
						if err := p.Decode(first, body, mqtt.V5); err != nil {
							t.Fatal(err)
						}
						if seen[string(p.Topic)]++; qos == 1 {
							c.ack(mqtt.PUBACK, p.ID)
							done++
							continue
						}
						c.ack(mqtt.PUBREC, p.ID)
					case mqtt.PUBREL:
						var a mqtt.Ack
						if err := a.Decode(first, body, mqtt.V5); err != nil {
							t.Fatal(err)
						}
						c.ack(mqtt.PUBCOMP, a.ID)
						done++
					default:
						t.Fatalf("got %v", ty)
					}
				}
			}
			take(100)
			c.nc.Close()
			c = dial(t, addr, mqtt.V5)
			c.connect("s", lasting)
			take(100)
			c.nc.Close()
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			_, addr = start(t, cfg)
			c = dial(t, addr, mqtt.V5)
			c.connect("s", lasting)
			take(2 * n)
			again := 0
			for _, k := range seen {
				if k > 1 {
					again++
				}
			}
			if again > 3*8 { // a window for each end of a connection
				t.Errorf("%d of %d came twice: the replay began anew", again, n)
			}
		})
	}
}

// A session that ends with its connection ends with a take-over, too; what takes
// it over is a new one.
func TestATakeOverOfASessionThatDoesNotLastBeginsANewOne(t *testing.T) {
	_, addr := start(t, broker.Config{})
	old := dial(t, addr, mqtt.V5)
	old.connect("c", lasting)
	old.nc.Close()
	old = dial(t, addr, mqtt.V5) // the session that lasted gets an expiry of 0
	if a := old.connect("c", func(p *mqtt.Connect) { p.CleanStart = false }); !a.SessionPresent {
		t.Fatal("the session is not present")
	}
	c := dial(t, addr, mqtt.V5)
	if a := c.connect("c", lasting); a.SessionPresent {
		t.Error("the session outlived its expiry of 0")
	}
	if d := old.closed(); d.Reason != mqtt.SessionTakenOver {
		t.Errorf("the old connection got %v", d.Reason)
	}
	c.subscribe("x", 1)
	c.publish("x", "y", 1, 1)
	c.want("x", "y")
	c.wantAck(mqtt.PUBACK, 1)
}
