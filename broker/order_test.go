package broker_test

import (
	"bytes"
	"fmt"
	"sync"
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

// An acknowledgement means that what it obliges us to keep is on the disk: before
// the commit none leaves, and nothing is delivered (P1).
func TestNoAcknowledgementBeforeItsCommit(t *testing.T) {
	for _, row := range []struct {
		name   string
		qos    byte
		answer mqtt.Type
		topic  string
		change func(*mqtt.Publish)
	}{
		{"QoS 1 to a lasting session", 1, mqtt.PUBACK, "kept", func(*mqtt.Publish) {}},
		{"QoS 2 to a lasting session", 2, mqtt.PUBREC, "kept", func(*mqtt.Publish) {}},
		{"QoS 1, retained", 1, mqtt.PUBACK, "r", retain},
		{"QoS 2 of a lasting session", 2, mqtt.PUBREC, "nobody", func(*mqtt.Publish) {}},
	} {
		t.Run(row.name, func(t *testing.T) {
			each(t, func(t *testing.T, v mqtt.Version) {
				simulate(t, broker.Config{}, func(s *sim) {
					sub := s.listener("sub", "kept")
					p := s.joins(v, "p", lasting, still)
					time.Sleep(time.Second)
					goOn := s.hold()
					p.publish(row.topic, "x", row.qos, 1, row.change)
					p.nothing()
					sub.nothing()
					goOn()
					p.wantAck(row.answer, 1)
					if row.topic == "kept" {
						sub.want("kept", "x")
					}
				})
			})
		})
	}
}

// Acknowledgements leave in the order of what they answer [MQTT-4.6.0-2, -3], also
// of what is kept, what is not, and what is refused.
func TestAcknowledgementsLeaveInTheOrderOfTheirPackets(t *testing.T) {
	each(t, func(t *testing.T, v mqtt.Version) {
		simulate(t, broker.Config{Hooks: []any{refuseAll{}}}, func(s *sim) {
			s.listener("sub", "kept")
			p := s.joins(v, "p", still)
			time.Sleep(time.Second)
			goOn := s.hold()
			topics := []string{"kept", "nobody", "no", "kept", "no", "nobody"}
			for i, topic := range topics {
				p.publish(topic, "x", 1, uint16(i+1))
			}
			p.nothing()
			goOn()
			for i := range topics {
				p.wantAck(mqtt.PUBACK, uint16(i+1))
			}
			p.quiet()
		})
	})
}

// Eight subscribers with a small receive maximum and four publishers, all at once:
// nobody waits for anybody for ever, and each gets all, in each publisher's order.
func TestManyPublishersAndSmallWindowsDoNotDeadlock(t *testing.T) {
	const subs, pubs, n, ahead = 8, 4, 500, 16
	_, addr := start(t, broker.Config{})
	var all sync.WaitGroup
	for i := range subs {
		c := dial(t, addr, mqtt.V5)
		c.connect(fmt.Sprint("sub", i), lasting, window(uint16(1+i%3))) // of one that does not last too much may wait
		c.subscribe("x/+", byte(1+i%2))
		all.Go(func() { takesAll(t, c, pubs, n) })
	}
	for i := range pubs {
		p := dial(t, addr, mqtt.V5)
		p.connect(fmt.Sprint("pub", i))
		all.Go(func() {
			for k := range n + ahead {
				if k < n {
					b := mqtt.AppendPublish(nil, &mqtt.Publish{Topic: fmt.Append(nil, "x/", i), Payload: fmt.Append(nil, k), QoS: 1, ID: uint16(k + 1)}, mqtt.V5)
					if _, err := p.nc.Write(b); err != nil {
						t.Error(err)
						return
					}
				}
				if k >= ahead {
					if first, _, err := p.next(20 * time.Second); err != nil || mqtt.Type(first>>4) != mqtt.PUBACK {
						t.Errorf("publisher %d, message %d: got %v, %v", i, k-ahead, mqtt.Type(first>>4), err)
						return
					}
				}
			}
		})
	}
	all.Wait()
}

// takesAll reads n messages of each publisher, and takes their exchanges to the end.
func takesAll(t *testing.T, c *client, pubs, n int) {
	next := make(map[string]int)
	for open := pubs * n; open > 0; {
		first, body, err := c.next(20 * time.Second)
		if err != nil {
			t.Errorf("%d are missing: %v", open, err)
			return
		}
		var answer mqtt.Ack
		switch ty := mqtt.Type(first >> 4); ty {
		case mqtt.PUBLISH:
			var m mqtt.Publish
			if err := m.Decode(first, body, mqtt.V5); err != nil || string(m.Payload) != fmt.Sprint(next[string(m.Topic)]) {
				t.Errorf("got %s of %s, want %d (%v)", m.Payload, m.Topic, next[string(m.Topic)], err)
				return
			}
			next[string(m.Topic)]++
			open--
			answer = mqtt.Ack{Type: mqtt.PUBACK + mqtt.Type(m.QoS-1), ID: m.ID}
		default:
			if err := answer.Decode(first, body, mqtt.V5); err != nil {
				t.Errorf("got %v: %v", ty, err)
				return
			}
			answer.Type = mqtt.PUBCOMP
		}
		if _, err := c.nc.Write(mqtt.AppendAck(nil, answer, mqtt.V5)); err != nil {
			t.Error(err)
			return
		}
	}
}
