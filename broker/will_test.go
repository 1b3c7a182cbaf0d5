package broker_test

import (
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// mortal connects with a will on w/{id}.
func (s *sim) mortal(id string, delay, expiry uint32) *client {
	c := s.dial(mqtt.V5)
	c.connect(id, func(p *mqtt.Connect) {
		p.CleanStart, p.SessionExpiry, p.KeepAlive = false, expiry, 0
		p.Will = &mqtt.Will{Topic: "w/" + id, Payload: []byte("gone"), QoS: 1, Delay: delay}
	})
	return c
}

func (s *sim) listener(id, filter string) *client {
	c := s.dial(mqtt.V5)
	c.connect(id, lasting, still)
	c.subscribe(filter, 1)
	return c
}

// What becomes of wills when the broker dies: whoever was connected counts as gone
// from its start on; nobody else's will is sent, and none twice.
func TestWillsOverACrash(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		s.listener("sub", "w/#").nc.Close()
		left := s.mortal("left", 0, 0) // says goodbye: no will
		left.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5))
		s.mortal("soon", 0, 0)
		s.mortal("late", 3600, 7200)
		s.mortal("back", 3600, 7200)
		s.mortal("away", 3600, 7200).nc.Close()
		time.Sleep(40 * time.Minute)
		s.crash()
		back := s.dial(mqtt.V5) // before the broker has done anything else
		back.connect("back", lasting)
		sub := s.dial(mqtt.V5)
		sub.connect("sub", lasting, still)
		began := time.Now()
		for _, want := range []struct {
			topic string
			after time.Duration
		}{{"w/soon", 0}, {"w/away", 20 * time.Minute}, {"w/late", time.Hour}} {
			first, body, err := sub.next(2 * time.Hour)
			for err == nil && mqtt.Type(first>>4) != mqtt.PUBLISH {
				first, body, err = sub.next(2 * time.Hour)
			}
			var p mqtt.Publish
			if err != nil || p.Decode(first, body, mqtt.V5) != nil {
				s.t.Fatalf("waiting for %s: %v", want.topic, err)
			}
			if d := time.Since(began) - want.after; string(p.Topic) != want.topic || d < -2*time.Second || d > 2*time.Second {
				s.t.Fatalf("got %s after %v; want %s after %v", p.Topic, time.Since(began), want.topic, want.after)
			}
			sub.ack(mqtt.PUBACK, p.ID)
		}
		sub.nothing()
		s.crash()
		sub = s.dial(mqtt.V5)
		sub.connect("sub", lasting, still)
		sub.nothing() // none is sent again
	})
}

// A client that comes and goes with a will that waits long leaves nothing behind
// but the last one.
func TestOnlyTheLastWillIsSent(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		sub := s.listener("sub", "w/#")
		for range 20 {
			s.mortal("c", 600, 7200).nc.Close()
			time.Sleep(time.Minute)
		}
		s.mortal("c", 60, 7200).nc.Close() // sooner than those before it
		began := time.Now()
		first, body, err := sub.next(2 * time.Hour)
		var p mqtt.Publish
		if err != nil || p.Decode(first, body, mqtt.V5) != nil {
			s.t.Fatal(err)
		}
		if d := time.Since(began); d < time.Minute || d > 62*time.Second {
			s.t.Errorf("it came after %v, want a minute", d)
		}
		sub.ack(mqtt.PUBACK, p.ID)
		sub.nothing()
	})
}

// A session's end is kept to also if it comes sooner than it was to come before.
func TestASessionEndsWhenItsLastExpirySays(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		with := func(expiry uint32) func(*mqtt.Connect) {
			return func(p *mqtt.Connect) { p.CleanStart, p.SessionExpiry = false, expiry }
		}
		c := s.dial(mqtt.V5)
		c.connect("c", with(7200))
		c.nc.Close()
		time.Sleep(time.Second)
		c = s.dial(mqtt.V5)
		if !c.connect("c", with(10)).SessionPresent {
			s.t.Fatal("the session is gone too early")
		}
		c.nc.Close()
		time.Sleep(11 * time.Second)
		c = s.dial(mqtt.V5)
		if c.connect("c", with(10)).SessionPresent {
			s.t.Error("the session outlived its expiry")
		}
	})
}

// What an Applier publishes in answer to a will comes once.
func TestAnApplierAnswersAWillOnce(t *testing.T) {
	answer := &applier{name: "a", filters: "gone", apply: func(tx hooks.Tx, p *hooks.Publish) error {
		tx.Publish(&mqtt.Message{Topic: "told", Payload: p.Message.Payload, QoS: 1})
		return nil
	}, verdict: hooks.Consume}
	_, addr := start(t, broker.Config{Hooks: []any{answer}})
	sub := join(t, addr, "sub")
	sub.subscribe("told", 1)
	c := join(t, addr, "c", func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "gone", Payload: []byte("bye"), QoS: 1} })
	c.nc.Close()
	sub.want("told", "bye")
	sub.quiet()
}
