package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// stay publishes a retained message that expires after some seconds, or not.
func stay(t *testing.T, b *broker.Broker, topic, payload string, seconds int) {
	t.Helper()
	m := &mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true}
	if seconds > 0 {
		m.Expires = time.Now().Add(time.Duration(seconds) * time.Second).UnixMilli()
	}
	pub(t, b, m)
}

func TestExpiredRetainedMessagesGoAndCountNoMore(t *testing.T) {
	const n = 700 // more than one page finds
	for _, test := range []struct {
		name    string
		restart func(*sim)
	}{{"in one run", func(*sim) {}}, {"over a crash", (*sim).crash}} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, broker.Config{Limits: broker.Limits{Retained: n + 2}}, func(s *sim) {
				for i := range n {
					stay(t, s.b, fmt.Sprint("short/", i), "x", 10)
				}
				stay(t, s.b, "long", "x", 3600)
				stay(t, s.b, "ever", "x", 0)
				test.restart(s)
				c := s.joins(mqtt.V5, "c", still)
				c.publish("more", "x", 1, 1, retain)
				if a := c.wantAck(mqtt.PUBACK, 1); a.Reason != mqtt.QuotaExceeded {
					t.Errorf("before they expire: %v, want 0x97", a.Reason)
				}
				time.Sleep(30 * time.Second)
				if got := s.b.Stats().RetainedTopics; got != 2 {
					t.Errorf("%d topics are left, want 2", got)
				}
				c.publish("more", "x", 1, 2, retain)
				if a := c.wantAck(mqtt.PUBACK, 2); a.Reason >= 0x80 {
					t.Errorf("after they have expired: %v", a.Reason)
				}
				s.crash() // they are gone from the store, too
				time.Sleep(time.Second)
				if got := s.b.Stats().RetainedTopics; got != 3 {
					t.Errorf("%d topics come back, want 3", got)
				}
				time.Sleep(2 * time.Hour)
				if got := s.b.Stats().RetainedTopics; got != 2 {
					t.Errorf("%d topics are left in the end, want 2", got)
				}
			})
		})
	}
}

// Clearing a topic that is clear writes nothing and waits for no disk; of one whose
// earlier clearing is not on disk yet it does.
func TestClearingWhatIsClear(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		stay(t, s.b, "full", "x", 0)
		p, q := s.joins(mqtt.V5, "p", still), s.joins(mqtt.V5, "q", still)
		goOn := s.hold()
		p.publish("empty", "", 1, 1, retain)
		p.wantAck(mqtt.PUBACK, 1)
		p.publish("full", "", 1, 2, retain)
		p.nothing()
		q.publish("full", "", 1, 1, retain)
		q.nothing()
		goOn()
		p.wantAck(mqtt.PUBACK, 2)
		q.wantAck(mqtt.PUBACK, 1)
		s.crash()
		c := s.joins(mqtt.V5, "c", still)
		c.subscribe("#", 1)
		c.nothing()
	})
}

// What replaces an expired message while it is being swept stays, also if the disk has
// not taken it yet.
func TestASweepDeletesNoLaterChange(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		stay(t, s.b, "a", "old", 10)
		stay(t, s.b, "b", "old", 10)
		c := s.joins(mqtt.V5, "c", still)
		time.Sleep(10*time.Second - 50*time.Millisecond)
		goOn := s.hold()
		c.publish("a", "new", 1, 1, retain)
		time.Sleep(time.Second) // the sweep has begun, and waits or has read
		c.publish("b", "new", 1, 2, retain)
		time.Sleep(time.Second)
		goOn()
		c.wantAck(mqtt.PUBACK, 1)
		c.wantAck(mqtt.PUBACK, 2)
		time.Sleep(5 * time.Minute)
		for range 2 { // from memory's count, and from the store
			c = s.joins(mqtt.V5, "c", still)
			c.subscribe("+", 0)
			c.want("a", "new")
			c.want("b", "new")
			s.crash()
		}
	})
}

func TestTheBytesOfRetainedMessagesAreBounded(t *testing.T) {
	simulate(t, broker.Config{Limits: broker.Limits{RetainedBytes: 10_000}}, func(s *sim) {
		c := s.joins(mqtt.V5, "c", still)
		for i, test := range []struct {
			topic string
			size  int
			want  mqtt.Reason
		}{
			{"a", 6000, 0},
			{"b", 6000, mqtt.QuotaExceeded},
			{"b", 3000, 0},
			{"a", 7000, mqtt.QuotaExceeded}, // it would grow
			{"a", 5000, 0},
			{"b", 0, 0},
			{"a", 9000, 0},
		} {
			c.publish(test.topic, strings.Repeat("x", test.size), 1, uint16(i+1), retain)
			if a := c.wantAck(mqtt.PUBACK, uint16(i+1)); a.Reason != test.want && a.Reason != mqtt.NoMatchingSubscribers {
				t.Errorf("%d bytes on %s: %v, want %v", test.size, test.topic, a.Reason, test.want)
			}
		}
	})
}

// A retained message to which its publisher gave no expiry goes when it is as old as
// is configured; until then no client is told of an expiry.
func TestRetainedMessagesGoWhenTheyAreOldEnough(t *testing.T) {
	for _, test := range []struct {
		name    string
		keep    time.Duration
		restart func(*sim)
		left    int64
	}{
		{"in one run", time.Hour, func(*sim) {}, 1},
		{"over a crash", time.Hour, (*sim).crash, 1},
		{"kept for ever", 0, (*sim).restart, 3},
		{"a bound that comes later", 0, func(s *sim) { s.cfg.Limits.RetainedKeep = time.Hour; s.restart() }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, broker.Config{Limits: broker.Limits{RetainedKeep: test.keep}}, func(s *sim) {
				stay(t, s.b, "a", "x", 0)
				stay(t, s.b, "b", "x", 24*3600) // it would stay longer
				test.restart(s)
				time.Sleep(50 * time.Minute)
				stay(t, s.b, "young", "x", 0)
				time.Sleep(9 * time.Minute)
				c := s.joins(mqtt.V5, "c", still)
				c.subscribe("+", 1)
				if m := c.want("a", "x"); m.Props.HasExpiry {
					t.Errorf("a client is told of an expiry in %d s", m.Props.Expiry)
				}
				c.want("b", "x")
				c.want("young", "x")
				time.Sleep(time.Minute + time.Second)
				if test.left == 1 { // at once, also what was not swept yet
					c = s.joins(mqtt.V5, "d", still)
					c.subscribe("+", 1)
					c.want("young", "x")
					c.nothing()
				}
				time.Sleep(5 * time.Minute)
				if st := s.b.Stats(); st.RetainedTopics != test.left || st.RetainedEnded != uint64(3-test.left) {
					t.Errorf("%d are left and %d have ended, want %d left of 3", st.RetainedTopics, st.RetainedEnded, test.left)
				}
			})
		})
	}
}
