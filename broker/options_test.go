package broker_test

import (
	"fmt"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// subscribeWith sends one SUBSCRIBE and returns the reasons of its SUBACK.
func (c *client) subscribeWith(id uint32, f ...mqtt.Subscription) *mqtt.Suback {
	c.t.Helper()
	c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, SubID: id, Filters: f}, c.v))
	first, body := c.read()
	a, err := mqtt.DecodeSuback(body, c.v)
	if mqtt.Type(first>>4) != mqtt.SUBACK || err != nil {
		c.t.Fatalf("got %v, %v, want SUBACK", mqtt.Type(first>>4), err)
	}
	return a
}

// Retain Handling says when a SUBSCRIBE brings retained messages [MQTT-3.3.1-9 to -11].
func TestRetainHandling(t *testing.T) {
	for _, row := range []struct {
		how           byte
		first, second bool
	}{{0, true, true}, {1, true, false}, {2, false, false}} {
		simulate(t, broker.Config{}, func(s *sim) {
			p := s.joins(mqtt.V5, "p")
			p.publish("r", "x", 1, 1, retain)
			p.wantAck(mqtt.PUBACK, 1)
			c := s.joins(mqtt.V5, "c")
			for _, want := range []bool{row.first, row.second} {
				c.subscribeWith(0, mqtt.Subscription{Filter: "r", QoS: 1, RetainHandling: row.how})
				if want {
					if m := c.want("r", "x"); !m.Retain {
						s.t.Errorf("handling %d: without the retain flag", row.how)
					}
				}
				c.quiet()
			}
		})
	}
}

// Retain As Published keeps the flag of what is published now; without it the flag
// is 0, and what is retained always has it [MQTT-3.3.1-12, -13].
func TestRetainAsPublished(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, offline := range []bool{false, true} {
			simulate(t, broker.Config{}, func(s *sim) {
				c := s.joins(mqtt.V5, "c", lasting)
				c.subscribeWith(0, mqtt.Subscription{Filter: "r", QoS: 1, RetainAsPublished: keep})
				if offline {
					c.nc.Close()
				}
				p := s.joins(mqtt.V5, "p")
				p.publish("r", "x", 1, 1, retain)
				p.wantAck(mqtt.PUBACK, 1)
				p.publish("r", "y", 1, 2)
				p.wantAck(mqtt.PUBACK, 2)
				if offline {
					c = s.joins(mqtt.V5, "c", lasting)
				}
				if m := c.want("r", "x"); m.Retain != keep {
					s.t.Errorf("retain as published %v, offline %v: the flag is %v", keep, offline, m.Retain)
				}
				if m := c.want("r", "y"); m.Retain {
					s.t.Error("a message that was not to be retained has the flag")
				}
			})
		}
	}
}

// Every negative answer has its reason, and its return code in 3.x.
func TestARefusedCONNECTSaysWhy(t *testing.T) {
	for _, row := range []struct {
		name   string
		v      mqtt.Version
		change func(*mqtt.Connect)
		hooks  []any
		want   mqtt.Reason
	}{
		{"enhanced authentication", mqtt.V5, func(p *mqtt.Connect) { p.AuthMethod = "SCRAM-SHA-1" }, nil, mqtt.BadAuthenticationMethod},
		{"a wrong password", mqtt.V5, func(*mqtt.Connect) {}, []any{onlyAnn{}}, mqtt.BadUserNameOrPassword},
		{"a wrong password", mqtt.V311, func(*mqtt.Connect) {}, []any{onlyAnn{}}, mqtt.BadUserNameOrPassword},
		{"no client id for a session that lasts", mqtt.V311, func(p *mqtt.Connect) { p.ClientID, p.CleanStart = "", false }, nil, mqtt.ClientIdentifierNotValid},
		{"a will with a wildcard", mqtt.V5, func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "a/#"} }, nil, mqtt.TopicNameInvalid},
		{"a will to $SYS", mqtt.V5, func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "$SYS/x", Retain: true} }, nil, mqtt.NotAuthorized},
		{"a will to an inbox", mqtt.V5, func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "users/bob/inbox"} }, []any{teller{}}, mqtt.TopicNameInvalid},
		{"a will to $SYS", mqtt.V31, func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "$SYS/x", Retain: true} }, nil, mqtt.NotAuthorized},
	} {
		t.Run(fmt.Sprint(row.name, ", level ", row.v), func(t *testing.T) {
			simulate(t, broker.Config{Hooks: row.hooks}, func(s *sim) {
				a := s.dial(row.v).connect("c", row.change)
				if a.Reason != row.want || row.v == mqtt.V5 && a.ReasonString == "" {
					s.t.Errorf("got %v %q, want %v", a.Reason, a.ReasonString, row.want)
				}
			})
		})
	}
}

// Answers to what a client has no exchange or subscription for.
func TestAnswersToTheUnknownSayThatItIs(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		c := s.joins(mqtt.V5, "c")
		c.ack(mqtt.PUBREL, 7)
		if a := c.wantAck(mqtt.PUBCOMP, 7); a.Reason != mqtt.PacketIdentifierNotFound {
			t.Errorf("PUBREL: %v", a.Reason)
		}
		c.ack(mqtt.PUBREC, 8)
		if a := c.wantAck(mqtt.PUBREL, 8); a.Reason != mqtt.PacketIdentifierNotFound {
			t.Errorf("PUBREC: %v", a.Reason)
		}
		c.send(mqtt.AppendUnsubscribe(nil, &mqtt.Unsubscribe{ID: 9, Filters: []string{"never"}}, mqtt.V5))
		_, body := c.read()
		if a, err := mqtt.DecodeUnsuback(body, mqtt.V5); err != nil || a.Reasons[0] != mqtt.NoSubscriptionExisted {
			t.Errorf("UNSUBSCRIBE: %+v, %v", a, err)
		}
		c.publish("x", "y", 1, 1, func(p *mqtt.Publish) { p.Props.SubIDs = []uint32{3} }) // [MQTT-3.3.4-6]
		if d := c.closed(); d.Reason != mqtt.ProtocolError {
			t.Errorf("PUBLISH with a subscription identifier: %v", d.Reason)
		}
	})
}

// A client without an id is told the one that it got, and comes back under it.
func TestAnAssignedClientIDIsASessionsName(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		c := s.dial(mqtt.V5)
		a := c.connect("", lasting)
		b := s.dial(mqtt.V5).connect("")
		if a.AssignedClientID == "" || a.AssignedClientID == b.AssignedClientID {
			s.t.Fatalf("assigned are %q and %q", a.AssignedClientID, b.AssignedClientID)
		}
		c.nc.Close()
		back := s.dial(mqtt.V5).connect(a.AssignedClientID, lasting, func(p *mqtt.Connect) { p.Username, p.HasUsername = "", false })
		if back.AssignedClientID != "" {
			s.t.Errorf("a client with an id was assigned %q", back.AssignedClientID)
		}
	})
}

// Subscription identifiers: of overlapping subscriptions all, of one that was made
// again the new one, none of one that has none, also from the queue.
func TestSubscriptionIdentifiersOfOverlappingSubscriptions(t *testing.T) {
	for _, offline := range []bool{false, true} {
		simulate(t, broker.Config{}, func(s *sim) {
			c := s.joins(mqtt.V5, "c", lasting)
			c.subscribeWith(1, mqtt.Subscription{Filter: "a/#", QoS: 1})
			c.subscribeWith(268_435_455, mqtt.Subscription{Filter: "a/+", QoS: 2})
			c.subscribeWith(3, mqtt.Subscription{Filter: "a/b", QoS: 0})
			c.subscribeWith(0, mqtt.Subscription{Filter: "+/b", QoS: 0})
			c.subscribeWith(2, mqtt.Subscription{Filter: "a/#", QoS: 1}) // in place of 1
			if offline {
				c.nc.Close()
			}
			p := s.joins(mqtt.V5, "p")
			p.publish("a/b", "x", 1, 1)
			p.wantAck(mqtt.PUBACK, 1)
			if offline {
				c = s.joins(mqtt.V5, "c", lasting)
			}
			m := c.want("a/b", "x")
			got := map[uint32]bool{}
			for _, id := range m.Props.SubIDs {
				got[id] = true
			}
			if len(got) != 3 || !got[2] || !got[3] || !got[268_435_455] || m.QoS != 1 {
				s.t.Errorf("offline %v: identifiers %v at QoS %d", offline, m.Props.SubIDs, m.QoS)
			}
			c.quiet()
		})
	}
}
