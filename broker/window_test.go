package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// window is a client that bounds what it is sent.
func window(n uint16) func(*mqtt.Connect) {
	return func(p *mqtt.Connect) { p.ReceiveMaximum = n }
}

// done takes a PUBLISH through its exchange.
func (c *client) done(m *mqtt.Publish) {
	c.t.Helper()
	switch m.QoS {
	case 1:
		c.ack(mqtt.PUBACK, m.ID)
	case 2:
		c.ack(mqtt.PUBREC, m.ID)
		c.wantAck(mqtt.PUBREL, m.ID)
		c.ack(mqtt.PUBCOMP, m.ID)
	}
}

// publishAll publishes n messages and waits until the last is acknowledged.
func (c *client) publishAll(topic string, n int, qos byte) {
	c.t.Helper()
	for i := range n {
		id := uint16(i + 1)
		c.publish(topic, fmt.Sprint(i), qos, id)
		switch qos {
		case 1:
			c.wantAck(mqtt.PUBACK, id)
		case 2:
			c.wantAck(mqtt.PUBREC, id)
			c.ack(mqtt.PUBREL, id)
			c.wantAck(mqtt.PUBCOMP, id)
		}
	}
}

// A client with a small Receive Maximum gets all of a burst that is larger, and
// what comes after, online and from its queue; never more than it takes at once.
func TestABurstAboveReceiveMaximumDoesNotStall(t *testing.T) {
	for _, r := range []uint16{1, 2, 10} {
		for qos := byte(1); qos <= 2; qos++ {
			for _, offline := range []bool{false, true} {
				t.Run(fmt.Sprintf("Receive Maximum %d QoS %d offline %v", r, qos, offline), func(t *testing.T) {
					simulate(t, broker.Config{}, func(s *sim) {
						sub := s.joins(mqtt.V5, "sub", lasting, window(r))
						sub.subscribe("x", qos)
						if offline {
							sub.nc.Close()
						}
						p := s.joins(mqtt.V5, "p")
						n := 10 * int(r)
						p.publishAll("x", n, qos)
						if offline {
							sub = s.joins(mqtt.V5, "sub", lasting, window(r))
						}
						var held []*mqtt.Publish
						for range r {
							held = append(held, sub.message())
						}
						sub.quiet() // not one more than it takes
						for i := range n {
							m := held[0]
							if string(m.Payload) != fmt.Sprint(i) {
								s.t.Fatalf("got %s, want %d", m.Payload, i)
							}
							held = held[1:]
							sub.done(m)
							if i+int(r) < n {
								held = append(held, sub.message())
							}
						}
						p.publish("x", "after", qos, 9)
						sub.done(sub.want("x", "after"))
						sub.quiet()
					})
				})
			}
		}
	}
}

// The client's acknowledgements may come in any order.
func TestAcknowledgementsInAnyOrderOpenTheWindow(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		sub := s.joins(mqtt.V5, "sub", window(3))
		sub.subscribe("x", 1)
		s.joins(mqtt.V5, "p").publishAll("x", 6, 1)
		a, b, c := sub.message(), sub.message(), sub.message()
		for i, m := range []*mqtt.Publish{b, c, a} {
			sub.ack(mqtt.PUBACK, m.ID)
			sub.want("x", fmt.Sprint(3+i))
		}
		sub.quiet()
	})
}

// A reconnect brings the queue in order, within the window, and says DUP of what
// was sent before and of nothing else [MQTT-4.4.0-1, 3.3.1-1].
func TestAReconnectObeysTheWindowKeepsTheOrderAndSaysDUPOnlyOfWhatWasSent(t *testing.T) {
	each(t, func(t *testing.T, v mqtt.Version) {
		simulate(t, broker.Config{Limits: broker.Limits{Window: 10}}, func(s *sim) {
			sub := s.joins(v, "sub", lasting)
			sub.subscribe("x", 1)
			p := s.joins(mqtt.V5, "p")
			p.publishAll("x", 500, 1)
			ids := make(map[string]uint16)
			for range 10 {
				m := sub.message()
				ids[string(m.Payload)] = m.ID
			}
			sub.nc.Close()
			sub = s.joins(v, "sub", lasting)
			for i := range 10 {
				if m := sub.message(); string(m.Payload) != fmt.Sprint(i) || !m.Dup || m.ID != ids[fmt.Sprint(i)] {
					s.t.Fatalf("got %s as %d, DUP %v; want %d as %d with DUP", m.Payload, m.ID, m.Dup, i, ids[fmt.Sprint(i)])
				}
			}
			sub.quiet()
			for i := range 500 {
				if i < 10 {
					sub.ack(mqtt.PUBACK, ids[fmt.Sprint(i)])
					continue
				}
				if m := sub.want("x", fmt.Sprint(i)); m.Dup {
					s.t.Fatalf("%d was never sent before and has DUP", i)
				}
			}
			sub.quiet()
		})
	})
}

// The client's identifiers and ours are two spaces: publishing and subscribing
// under an identifier that a delivery to the client has disturbs neither.
func TestTheClientsIdentifiersAndOursAreTwoSpaces(t *testing.T) {
	each(t, func(t *testing.T, v mqtt.Version) {
		simulate(t, broker.Config{}, func(s *sim) {
			c := s.joins(v, "c", lasting)
			c.subscribe("x", 2)
			s.joins(mqtt.V5, "p").publishAll("x", 10, 1)
			for range 10 { // held, not acknowledged
				c.message()
			}
			for id := uint16(1); id <= 5; id++ {
				c.publish("y", "mine", 1, id)
				c.wantAck(mqtt.PUBACK, id)
			}
			c.publish("y", "mine", 2, 6)
			c.wantAck(mqtt.PUBREC, 6)
			c.ack(mqtt.PUBREL, 6)
			c.wantAck(mqtt.PUBCOMP, 6)
			c.subscribe("z", 1) // under identifier 1
			c.nc.Close()
			c = s.joins(v, "c", lasting)
			for i := range 10 {
				if m := c.want("x", fmt.Sprint(i)); !m.Dup {
					s.t.Errorf("%d came again without DUP", i)
				}
			}
			c.quiet()
		})
	})
}

// A queue has no bound but its own: not 1,000, not 8,192, not the 65,535
// identifiers.
func TestAQueueHoldsMoreThanThereAreIdentifiers(t *testing.T) {
	if testing.Short() {
		t.Skip("70,000 messages")
	}
	_, addr := start(t, broker.Config{})
	sub := dial(t, addr, mqtt.V311)
	sub.connect("sub", lasting)
	sub.subscribe("x", 1)
	sub.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V311))
	sub.closed()
	const n, part = 70_000, 100
	p := dial(t, addr, mqtt.V5)
	p.connect("p")
	for i := 0; i < n; i += part {
		for k := range part {
			p.publish("x", fmt.Sprint(i+k), 1, uint16(k+1))
		}
		for k := range part {
			p.wantAck(mqtt.PUBACK, uint16(k+1))
		}
	}
	sub = dial(t, addr, mqtt.V311)
	sub.connect("sub", lasting)
	for i := range n {
		sub.want("x", fmt.Sprint(i))
	}
	sub.quiet()
}

// A subscriber that stops reading loses nothing of what is acknowledged, and
// keeps nobody else waiting: neither the publisher, nor other subscribers, nor
// other topics.
func TestASubscriberThatStopsReadingSlowsNobodyAndLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, v mqtt.Version) {
		_, addr := start(t, broker.Config{})
		stuck := dial(t, addr, v)
		stuck.connect("stuck", lasting)
		stuck.subscribe("x/#", 1)
		well := dial(t, addr, v)
		well.connect("well")
		well.subscribe("x/#", 1)
		p := dial(t, addr, v)
		p.connect("p")
		const n = 2000
		fill := strings.Repeat("x", 4<<10) // more than sockets take
		for i := range n {
			p.publish("x/y", fmt.Sprint(i, fill), 1, uint16(i+1))
			p.wantAck(mqtt.PUBACK, uint16(i+1))
			well.want("x/y", fmt.Sprint(i, fill))
		}
		p.publish("x/z", "elsewhere", 0, 0)
		well.want("x/z", "elsewhere")
		for i := 0; i < n; { // now it reads again
			m := stuck.message()
			if m.QoS == 0 {
				continue
			}
			if want := fmt.Sprint(i, fill); string(m.Payload) != want {
				t.Fatalf("got %.10q, want %.10q", m.Payload, want)
			}
			stuck.ack(mqtt.PUBACK, m.ID)
			i++
		}
	})
}

// No packet leaves before CONNACK [MQTT-3.2.0-1], however busy the session is.
func TestNothingComesBeforeCONNACK(t *testing.T) {
	_, addr := start(t, broker.Config{})
	sub := dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting)
	sub.subscribe("x", 1)
	ended := make(chan struct{})
	go func() { // a publisher that never pauses
		defer close(ended)
		p := dial(t, addr, mqtt.V5)
		p.connect("p")
		for i := range 3000 {
			p.publish("x", "y", byte(i&1), uint16(i+1))
			if i&1 == 1 {
				p.wantAck(mqtt.PUBACK, uint16(i+1))
			}
		}
	}()
	for {
		sub = dial(t, addr, mqtt.V5) // a take-over
		sub.connect("sub", lasting)  // fails if anything else comes first
		sub.message()
		select {
		case <-ended:
			return
		default:
		}
	}
}

// An alias that the client was never told, because the message that was to tell
// it was too large for the client, is not used.
func TestAnAliasIsNotUsedBeforeAMessageThatTellsItWasSent(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		sub := s.joins(mqtt.V5, "sub", func(p *mqtt.Connect) { p.TopicAliasMaximum, p.MaximumPacketSize = 5, 100 })
		sub.subscribe("t/#", 1)
		p := s.joins(mqtt.V5, "p")
		for i, payload := range []string{strings.Repeat("x", 200), "one", "two"} {
			p.publish("t/long/name", payload, 1, uint16(i+1))
			p.wantAck(mqtt.PUBACK, uint16(i+1))
		}
		m := sub.want("t/long/name", "one")
		if m.Props.Alias == 0 {
			s.t.Error("no alias")
		}
		if m := sub.message(); len(m.Topic) != 0 || string(m.Payload) != "two" {
			s.t.Errorf("got %q %q", m.Topic, m.Payload)
		}
	})
}

// What is above the client's Maximum Packet Size is left out as if it had been
// delivered [MQTT-3.1.2-25]: online, from the queue, and of an exchange at QoS 2.
func TestWhatIsTooLargeForAClientIsLeftOutAndLeavesNothingBehind(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		for _, offline := range []bool{false, true} {
			t.Run(fmt.Sprintf("QoS %d offline %v", qos, offline), func(t *testing.T) {
				simulate(t, broker.Config{}, func(s *sim) {
					small := func(p *mqtt.Connect) { p.MaximumPacketSize, p.ReceiveMaximum = 100, 1 }
					sub := s.joins(mqtt.V5, "sub", lasting, small)
					sub.subscribe("x", qos)
					if offline {
						sub.nc.Close()
					}
					p := s.joins(mqtt.V5, "p")
					for i := range 3 {
						p.publish("x", strings.Repeat("x", 200), 1, uint16(i+1))
						p.wantAck(mqtt.PUBACK, uint16(i+1))
					}
					p.publishAll("x", 2, qos)
					if offline {
						sub = s.joins(mqtt.V5, "sub", lasting, small)
					}
					sub.done(sub.want("x", "0"))
					sub.done(sub.want("x", "1"))
					sub.quiet()
					sub.nc.Close()
					s.joins(mqtt.V5, "sub", lasting).quiet() // it is not kept for a larger client
				})
			})
		}
	}
}

// Other packets obey it, too: CONNACK leaves out what it can, and answers that
// can't be made smaller are not sent.
func TestNoPacketIsAboveTheClientsMaximum(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		for most := uint32(8); most < 120; most++ {
			c := s.dial(mqtt.V5)
			c.send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ReceiveMaximum: 9,
				MaximumPacketSize: most, RequestResponseInfo: true, Username: strings.Repeat("u", 30), HasUsername: true}))
			many := mqtt.Subscribe{ID: 1}
			for i := range 100 {
				many.Filters = append(many.Filters, mqtt.Subscription{Filter: fmt.Sprint(i)})
			}
			c.nc.Write(mqtt.AppendPingreq(mqtt.AppendSubscribe(nil, &many, mqtt.V5))) //nolint:errcheck // it is closed if not even CONNACK fits
			for {
				first, body, err := c.next(5e9)
				if n := uint32(len(body) + 2); err == nil && n > most {
					s.t.Fatalf("%v of %d bytes; the client takes %d", mqtt.Type(first>>4), n, most)
				}
				if err != nil || mqtt.Type(first>>4) == mqtt.PINGRESP {
					break
				}
			}
			c.nc.Close()
		}
	})
}

// CONNACK comes before the answer to whatever a client sends right behind its
// CONNECT, and before the reason for which that ends it.
func TestCONNACKComesFirstWhateverTheClientSendsBehindItsCONNECT(t *testing.T) {
	for _, row := range []struct {
		name string
		send []byte
		want mqtt.Type
	}{
		{"PINGREQ", []byte{0xC0, 0}, mqtt.PINGRESP},
		{"what is malformed", []byte{0xC0, 1, 0}, mqtt.DISCONNECT},
		{"AUTH", []byte{0xF0, 0}, mqtt.DISCONNECT},
		{"a PUBLISH", []byte{0x32, 7, 0, 1, 'x', 0, 1, 0, 'y'}, mqtt.PUBACK},
		{"DISCONNECT", []byte{0xE0, 0}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, life := range []func(*mqtt.Connect){lasting, func(*mqtt.Connect) {}} {
				simulate(t, broker.Config{}, func(s *sim) {
					c := s.dial(mqtt.V5)
					p := &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true, ReceiveMaximum: 9}
					life(p)
					c.send(append(mqtt.AppendConnect(nil, p), row.send...))
					if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.CONNACK {
						s.t.Fatalf("the first packet is %v", mqtt.Type(first>>4))
					}
					if row.want == 0 {
						c.closed()
						return
					}
					if first, _ := c.read(); mqtt.Type(first>>4) != row.want {
						s.t.Errorf("then comes %v, want %v", mqtt.Type(first>>4), row.want)
					}
				})
			}
		})
	}
}
