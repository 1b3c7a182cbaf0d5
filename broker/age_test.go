package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// month lasts as long as it may.
func month(p *mqtt.Connect) { p.CleanStart, p.SessionExpiry, p.KeepAlive = false, 30*24*3600, 0 }

// droppedOf is what a CONNACK announces as dropped.
func droppedOf(a *mqtt.Connack) string {
	for _, u := range a.UserProps {
		if u.Key == "dropped" {
			return u.Value
		}
	}
	return ""
}

func TestAQueueLosesWhatItHasKeptLongEnough(t *testing.T) {
	const keep = 2 * time.Hour // and what is noted of times is at most keep/16 and an hour too late
	for _, test := range []struct {
		name    string
		restart func(*sim)
	}{
		{"in one run", func(*sim) {}},
		{"over a restart", (*sim).restart},
		{"over a crash", (*sim).crash},
	} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, broker.Config{Limits: broker.Limits{QueueKeep: keep}}, func(s *sim) {
				c := s.joins(mqtt.V5, "sleeper", month)
				c.subscribe("q", 1)
				c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5))
				time.Sleep(time.Second) // it is gone
				for i := range 3 {
					pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: fmt.Append(nil, "old ", i)})
				}
				time.Sleep(keep * 3 / 4)
				test.restart(s)
				pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: []byte("young")})
				time.Sleep(keep/4 - time.Minute)
				if n := s.b.Stats().Overflow; n != 0 {
					t.Fatalf("%d messages went before their time", n)
				}
				time.Sleep(time.Hour + keep/16 + 2*time.Minute) // the other one is not yet two hours old
				if n := s.b.Stats().Overflow; n != 3 {
					t.Errorf("%d messages were dropped, want the 3 old ones", n)
				}
				c = s.dial(mqtt.V5)
				if n := droppedOf(c.connect("sleeper", month)); n != "3" {
					t.Errorf("%q are announced as dropped, want 3", n)
				}
				c.want("q", "young")
				c.nothing()
			})
		})
	}
}

func TestAQueueKeepsForEverIfItIsToldSo(t *testing.T) {
	simulate(t, broker.Config{Limits: broker.Limits{QueueKeep: -1}}, func(s *sim) {
		c := s.joins(mqtt.V5, "sleeper", month)
		c.subscribe("q", 1)
		c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5))
		time.Sleep(time.Second) // it is gone
		pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: []byte("old")})
		time.Sleep(4 * time.Hour)
		s.joins(mqtt.V5, "sleeper", month).want("q", "old")
	})
}

// A shared group whose members are offline, and a member whose window is full, are
// given nothing that is too old; what a client was sent it is sent again.
func TestNothingTooOldIsSent(t *testing.T) {
	simulate(t, broker.Config{Limits: broker.Limits{QueueKeep: time.Hour}}, func(s *sim) {
		one := func(p *mqtt.Connect) { month(p); p.ReceiveMaximum = 1 }
		member, slow := s.joins(mqtt.V5, "member", month), s.joins(mqtt.V5, "slow", one)
		member.subscribe("$share/g/q", 1)
		slow.subscribe("q", 1)
		member.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5))
		time.Sleep(time.Second) // it is gone
		pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: []byte("1")})
		pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: []byte("2")})
		sent := slow.expect("q", "1")
		time.Sleep(3 * time.Hour)
		pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: []byte("3")})
		slow.ack(mqtt.PUBACK, sent.ID)
		slow.want("q", "3")
		slow.nothing()
		member = s.joins(mqtt.V5, "member", month)
		member.want("q", "3")
		member.nothing()
		if n := s.b.Stats().Overflow; n != 3 {
			t.Errorf("%d messages were dropped, want 2 of the group and 1 of the slow one", n)
		}
	})
}
