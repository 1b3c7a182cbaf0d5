package broker_test

import (
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// How long the disk takes, and how long a publisher waits for it, is counted once a batch;
// what nobody waits for is not.
func TestCommitsAndAnswersAreTimed(t *testing.T) {
	simulate(t, broker.Config{Linger: -1}, func(s *sim) {
		s.joins(mqtt.V5, "sub", lasting, still).subscribe("x", 1)
		c := s.joins(mqtt.V5, "c", still)
		time.Sleep(2 * time.Second)
		before := s.b.Stats()
		goOn := s.hold()
		c.publish("x", "kept", 1, 1)
		time.Sleep(40 * time.Millisecond)
		goOn()
		c.wantAck(mqtt.PUBACK, 1)
		c.publish("y", "passing", 1, 2)
		c.wantAck(mqtt.PUBACK, 2)
		after := s.b.Stats()
		for name, d := range map[string][2]broker.Durations{"commits": {before.CommitTimes, after.CommitTimes}, "answers": {before.AnswerTimes, after.AnswerTimes}} {
			if n, sum := d[1].Count-d[0].Count, d[1].Sum-d[0].Sum; n != 1 || sum != 40*time.Millisecond {
				t.Errorf("%s: %d that took %v", name, n, sum)
			}
			for i, bound := range d[1].Bounds {
				if n := d[1].AtMost[i] - d[0].AtMost[i]; (n == 1) != (bound >= 40*time.Millisecond) {
					t.Errorf("%s: %d of at most %v", name, n, bound)
				}
			}
		}
	})
}

// Bytes are those of MQTT packets, both ways.
func TestBytesAreCounted(t *testing.T) {
	b, addr := start(t, broker.Config{})
	c := join(t, addr, "c")
	c.subscribe("x", 0)
	before := b.Stats()
	c.publish("x", "1234567890", 0, 0)
	c.want("x", "1234567890")
	const packet = 2 + 2 + 1 + 1 + 10 // fixed header, topic, no property, payload
	after := b.Stats()
	if in, out := after.BytesIn-before.BytesIn, after.BytesOut-before.BytesOut; in != packet || out < packet || out > packet+4 { // a topic alias
		t.Errorf("%d bytes in, %d out", in, out)
	}
}
