package broker_test

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// A QoS 0 publish that needs no core does not overtake one that waits for the disk.
func TestQoS0WaitsForWhatItsConnectionHasInTheCore(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		sub, p := s.dial(mqtt.V5), s.dial(mqtt.V5)
		sub.connect("sub", still)
		sub.subscribe("t", 0)
		p.connect("p", still)
		goOn := s.hold()
		p.publish("t", "kept", 0, 0, retain)
		synctest.Wait()
		p.publish("t", "passing", 0, 0)
		sub.nothing()
		goOn()
		sub.want("t", "kept")
		sub.want("t", "passing")
	})
}

// What stood at a SUBSCRIBE's place is replayed, even if it was not on disk yet, and
// nothing of it twice that changed after it.
func TestAReplayIsOfWhatStoodAtItsPlace(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		p := s.dial(mqtt.V5)
		p.connect("p", still)
		goOn := s.hold()
		for i, topic := range []string{"other", "t/a", "t/b", "t/c"} { // the first one syncs, the others wait
			p.publish(topic, "before", 1, uint16(i+1), retain)
			synctest.Wait()
		}
		sub := s.dial(mqtt.V5)
		sub.connect("sub", still)
		sub.subscribe("t/#", 1) // is answered at once
		p.publish("t/b", "after", 1, 11, retain)
		p.publish("t/c", "", 1, 12, retain)
		p.publish("t/d", "after", 1, 13, retain)
		sub.nothing()
		goOn()
		got := map[string]string{}
		for range 4 {
			m := sub.message()
			sub.ack(mqtt.PUBACK, m.ID)
			got[string(m.Topic)] += fmt.Sprintf("%s %v,", m.Payload, m.Retain)
		}
		for topic, want := range map[string]string{"t/a": "before true,", "t/b": "after false,", "t/c": " false,", "t/d": "after false,"} {
			if got[topic] != want {
				s.t.Errorf("%s came as %q, want %q", topic, got[topic], want)
			}
		}
		sub.nothing()
	})
}

// While the disk stalls, and so much waits for it that nothing more is taken that
// has to be kept, clients that keep nothing come, subscribe, publish and go.
func TestPassingTrafficDoesNotWaitForAStalledDisk(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		s.listener("lasting", "kept").nc.Close()
		busy, idle := s.dial(mqtt.V5), s.dial(mqtt.V5)
		busy.connect("busy", still)
		busy.publish("r", "stays", 1, 1, retain)
		busy.wantAck(mqtt.PUBACK, 1)
		idle.connect("idle", still)
		goOn := s.hold()
		const kept = 200
		go func() {
			for i := range kept { // until its reader waits
				p := &mqtt.Publish{Topic: []byte("kept"), Payload: make([]byte, 10<<10), QoS: 1, ID: uint16(i + 2)}
				if _, err := busy.nc.Write(mqtt.AppendPublish(nil, p, mqtt.V5)); err != nil {
					return
				}
			}
		}()
		time.Sleep(time.Second)
		full := s.dial(mqtt.V5)
		full.connect("full", still)
		full.publish("kept", "waits", 1, 1)
		full.nothing() // nothing to be kept is acknowledged
		began := time.Now()
		sub := s.dial(mqtt.V5)
		sub.connect("sub", still)
		sub.subscribe("#", 2)
		sub.want("r", "stays")
		for qos := range byte(3) {
			idle.publish("passing", "x", qos, 9)
			switch qos {
			case 1:
				idle.wantAck(mqtt.PUBACK, 9)
			case 2:
				idle.wantAck(mqtt.PUBREC, 9)
				idle.ack(mqtt.PUBREL, 9)
				idle.wantAck(mqtt.PUBCOMP, 9)
			}
			if m := sub.want("passing", "x"); m.QoS == 2 {
				sub.ack(mqtt.PUBREC, m.ID)
				sub.wantAck(mqtt.PUBREL, m.ID)
				sub.ack(mqtt.PUBCOMP, m.ID)
			}
		}
		pub(s.t, s.b, &mqtt.Message{Topic: "passing", Payload: []byte("inside"), QoS: 1})
		sub.want("passing", "inside")
		sub.send(mqtt.AppendUnsubscribe(nil, &mqtt.Unsubscribe{ID: 2, Filters: []string{"#"}}, mqtt.V5))
		if first, _ := sub.read(); mqtt.Type(first>>4) != mqtt.UNSUBACK {
			s.t.Errorf("got %v", mqtt.Type(first>>4))
		}
		idle.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5))
		again := s.dial(mqtt.V5)
		again.connect("another", still)
		if d := time.Since(began); d > time.Second {
			s.t.Errorf("it took %v", d)
		}
		goOn()
		for i := range kept {
			busy.wantAck(mqtt.PUBACK, uint16(i+2))
		}
		full.wantAck(mqtt.PUBACK, 1)
	})
}

// One publisher with many messages in flight: they share commits.
func TestALonePublisherIsNotSerialisedByTheDisk(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		s.listener("lasting", "kept").nc.Close()
		p := s.dial(mqtt.V5)
		p.connect("p", still)
		time.Sleep(2 * time.Second)
		before := s.b.Stats().Commits
		goOn := s.hold()
		const n = 200
		for i := range n {
			p.publish("kept", fmt.Sprint(i), 1, uint16(i+1))
		}
		time.Sleep(time.Second)
		goOn()
		for i := range n {
			p.wantAck(mqtt.PUBACK, uint16(i+1))
		}
		time.Sleep(time.Second)
		if took := s.b.Stats().Commits - before; took > 3 {
			s.t.Errorf("%d messages took %d commits", n, took)
		}
	})
}

// A CONNECT that discards a stored session is answered when that is durable.
func TestCONNACKFollowsTheCommitOfWhatItEnds(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		s.listener("c", "x").nc.Close()
		time.Sleep(time.Second)
		goOn := s.hold()
		c := s.dial(mqtt.V5)
		c.send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true}))
		c.nothing()
		goOn()
		if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.CONNACK {
			s.t.Errorf("got %v", mqtt.Type(first>>4))
		}
	})
}

// QoS 2 identifiers that are never released are bounded, also over connections, and
// a session full of them can end.
func TestUnreleasedQoS2IsBounded(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		id := 0
		for {
			c := s.dial(mqtt.V5)
			c.connect("c", lasting, still)
			for range 256 {
				id++
				c.publish("x", "", 2, uint16(id))
				first, body := c.read()
				if mqtt.Type(first>>4) == mqtt.DISCONNECT {
					if d, err := mqtt.DecodeDisconnect(first, body, mqtt.V5); err != nil || d.Reason != mqtt.ReceiveMaximumExceeded || id < 1000 || id > 10_000 {
						s.t.Fatalf("after %d: %+v, %v", id, d, err)
					}
					c = s.dial(mqtt.V5)
					c.connect("c", still)
					return
				}
			}
			c.nc.Close()
			synctest.Wait()
		}
	})
}

// A client that asks and never reads is owed no more than a bound.
func TestWhoNeverReadsItsAnswersIsHungUpOn(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		c := s.dial(mqtt.V5)
		c.connect("c", still)
		pings := bytes.Repeat(mqtt.AppendPingreq(nil), 4096)
		for range 8 << 20 / len(pings) {
			if _, err := c.nc.Write(pings); err != nil {
				return
			}
		}
		s.t.Error("8 MB of PINGREQs were taken without a PINGRESP being read")
	})
}

// What the server itself publishes is bounded, too: it must fit into a batch.
func TestALargePublishFromInsideIsRefused(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		if err := s.b.Publish(s.t.Context(), &mqtt.Message{Topic: "x", Payload: make([]byte, 2<<20), Retain: true}); err == nil {
			s.t.Error("it was taken")
		}
	})
}
