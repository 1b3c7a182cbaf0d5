package broker_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// Clients that ask and don't read the answers may take all the memory that there is for
// output. When others need memory those are hung up on, as is who acknowledges nothing
// while more waits for it, and the others go on.
func TestWhoDoesNotReadIsHungUpOnWhenOthersNeedTheMemory(t *testing.T) {
	const room = 256 << 10 // for output, and as much again
	simulate(t, broker.Config{Memory: 1 << 20}, func(s *sim) {
		broker.SetMemory(s.b, 1<<40) // the test itself is in this process
		well, p := s.joins(mqtt.V5, "well", still), s.joins(mqtt.V5, "p", still)
		well.subscribe("t", 1)
		idle := s.joins(mqtt.V5, "idle", still, window(1))
		idle.subscribe("u", 1)
		p.publishAll("u", 2, 1)
		idle.expect("u", "0")
		idle.nothing()
		pings := bytes.Repeat(mqtt.AppendPingreq(nil), 100_000)
		for i := 0; broker.Held(s.b)[2] < 2*room; i++ {
			s.joins(mqtt.V5, fmt.Sprint("greedy", i), still).send(pings)
			synctest.Wait()
		}
		large := strings.Repeat("x", 10_000)
		p.publish("t", large, 1, 1)
		p.wantAck(mqtt.PUBACK, 1)
		well.nothing()
		if d := idle.closedIn(time.Minute); d.Reason != mqtt.QuotaExceeded {
			s.t.Errorf("who acknowledges nothing is told %v", d.Reason)
		}
		time.Sleep(10 * time.Second)
		well.want("t", large)
		if n := s.b.Stats().Connections; n != 2 {
			s.t.Errorf("%d connections are left, want 2", n)
		}
	})
}

// Who has room for a large packet and does not send it is closed when others wait for that
// room, and they have it; while nobody does it has all the time.
func TestWhoDoesNotCompleteALargePacketIsClosedWhenOthersWait(t *testing.T) {
	simulate(t, broker.Config{Memory: 1 << 20}, func(s *sim) { // room for one
		broker.SetMemory(s.b, 1<<40) // the test itself is in this process
		large := mqtt.AppendPublish(nil, &mqtt.Publish{Topic: []byte("t"), Payload: make([]byte, 200_000), QoS: 1, ID: 1}, mqtt.V5)
		slow, waits := s.joins(mqtt.V5, "slow", still), s.joins(mqtt.V5, "waits", still)
		slow.send(large[:10_000])
		time.Sleep(time.Minute)
		slow.nothing()
		go waits.nc.Write(large) //nolint:errcheck // its acknowledgement is waited for
		if d := slow.closedIn(time.Minute); d.Reason != mqtt.QuotaExceeded {
			s.t.Errorf("it is told %v", d.Reason)
		}
		waits.wantAck(mqtt.PUBACK, 1)
	})
}
