package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// An offline member gets nothing that an online one can have.
func TestAGroupSendsToMembersThatAreThere(t *testing.T) {
	for qos := byte(0); qos <= 2; qos++ {
		simulate(t, broker.Config{}, func(s *sim) {
			here, away := s.joins(mqtt.V5, "here", lasting, window(1)), s.joins(mqtt.V5, "away", lasting)
			here.subscribe("$share/g/x", qos)
			away.subscribe("$share/g/x", qos)
			away.nc.Close()
			synctest.Wait() // the broker knows
			s.joins(mqtt.V5, "p").publishAll("x", 10, qos)
			for i := range 10 {
				here.done(here.expect("x", fmt.Sprint(i)))
			}
			here.quiet()
			s.joins(mqtt.V5, "away", lasting).quiet()
		})
	}
}

// A claim that a member did not acknowledge goes back to the group when it goes, at
// QoS 1; at QoS 2 it stays with the member [MQTT-4.8.2-4, -5], over a restart, too.
func TestAClaimReturnsAtQoS1AndStaysAtQoS2(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("QoS %d, restart %v", qos, restart), func(t *testing.T) {
				simulate(t, broker.Config{}, func(s *sim) {
					one := s.joins(mqtt.V5, "one", lasting)
					one.subscribe("$share/g/x", qos)
					s.joins(mqtt.V5, "p").publishAll("x", 1, qos)
					id := one.expect("x", "0").ID
					two := s.joins(mqtt.V5, "two", lasting)
					two.subscribe("$share/g/x", qos)
					two.quiet()
					one.nc.Close()
					if restart {
						s.restart()
						two = s.joins(mqtt.V5, "two", lasting)
					}
					if qos == 1 {
						two.done(two.expect("x", "0"))
						s.joins(mqtt.V5, "one", lasting).quiet()
						return
					}
					two.quiet()
					one = s.joins(mqtt.V5, "one", lasting)
					m := one.expect("x", "0")
					if m.ID != id || !m.Dup {
						s.t.Errorf("it came again as %d, DUP %v; want %d with DUP", m.ID, m.Dup, id)
					}
					one.done(m)
				})
			})
		}
	}
}

// A message that a member refuses goes to nobody else [MQTT-4.8.2-6].
func TestWhatAMemberRefusesGoesToNobodyElse(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		one := s.joins(mqtt.V5, "one")
		one.subscribe("$share/g/x", 1)
		s.joins(mqtt.V5, "p").publishAll("x", 1, 1)
		m := one.message()
		one.send(mqtt.AppendAck(nil, mqtt.Ack{Type: mqtt.PUBACK, ID: m.ID, Reason: mqtt.UnspecifiedError}, mqtt.V5))
		two := s.joins(mqtt.V5, "two")
		two.subscribe("$share/g/x", 1)
		one.nc.Close()
		two.quiet()
	})
}

// A group whose members are all away keeps its queue, in order, over a restart; who
// comes first gets it.
func TestAGroupOfOfflineMembersKeepsItsQueueOverARestart(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		simulate(t, broker.Config{}, func(s *sim) {
			for _, id := range []string{"one", "two"} {
				c := s.joins(mqtt.V5, id, lasting)
				c.subscribe("$share/g/x", qos)
				c.nc.Close()
			}
			synctest.Wait() // the broker knows that they are gone: none of them claims anything
			s.joins(mqtt.V5, "p").publishAll("x", 200, qos)
			s.restart()
			two := s.joins(mqtt.V5, "two", lasting, window(1))
			for i := range 200 {
				two.done(two.expect("x", fmt.Sprint(i)))
			}
			two.quiet()
			s.joins(mqtt.V5, "one", lasting).quiet()
		})
	}
}
