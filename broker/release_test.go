package broker_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// What a publisher sends on a topic to few comes behind what it sent there to many, which
// is served in steps: to those as well whose step is still to come.
func TestAMessageForFewWaitsForOneForMany(t *testing.T) {
	const many, few = 1000, 100
	var narrow atomic.Bool
	seen := &tree{"all", func(user, _ string) bool { return !narrow.Load() || user == "few" }}
	simulate(t, broker.Config{Hooks: []any{seen}}, func(s *sim) {
		name := func(i int) func(*mqtt.Connect) {
			if i%(many/few) == 0 {
				return user("few")
			}
			return user("many")
		}
		for i := range many {
			c := s.joins(mqtt.V5, fmt.Sprint(i), lasting, still, name(i))
			c.subscribe("all/t", 1)
			c.nc.Close()
		}
		p := s.joins(mqtt.V5, "p", still)
		synctest.Wait()
		goOn := s.hold()
		fill := strings.Repeat("x", 600) // two steps fill a batch; the third waits for the disk
		p.publish("all/t", "first"+fill, 1, 1)
		synctest.Wait()
		narrow.Store(true)
		p.publish("all/t", "second", 1, 2)
		p.nothing()
		goOn()
		p.wantAck(mqtt.PUBACK, 1)
		p.wantAck(mqtt.PUBACK, 2)
		for i := 0; i < many; i += many / few {
			c := s.joins(mqtt.V5, fmt.Sprint(i), lasting, still, name(i))
			c.want("all/t", "first"+fill)
			c.want("all/t", "second")
			c.nc.Close()
		}
	})
}

// A message whose identifier is on its way to the disk when its client says goodbye is
// not sent behind that: it comes on the next connection, as one that may have been sent.
func TestWhatIsBeingSentWhenItsClientLeavesComesOnTheNextConnection(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		sub, p := s.joins(mqtt.V5, "sub", lasting, still), s.joins(mqtt.V5, "p", still)
		sub.subscribe("t", 2)
		synctest.Wait()
		one := s.oneByOne()
		p.publish("t", "x", 2, 1)
		synctest.Wait()
		one()                                  // it is on disk; its identifier is not
		sub.publish("mine", "y", 1, 1, retain) // so that there is something to wait for
		synctest.Wait()
		sub.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5))
		synctest.Wait()
		one() // now it is
		s.goOn()
		sub.wantAck(mqtt.PUBACK, 1)
		sub.closed()
		sub = s.joins(mqtt.V5, "sub", lasting, still)
		sub.done(sub.expect("t", "x"))
		sub.quiet()
	})
}

// What a client says on a new connection does not overtake what it said on the one that
// this has taken over.
func TestANewConnectionWaitsForWhatTheOldOneHasInTheCore(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		sub, old := s.joins(mqtt.V5, "sub", still), s.joins(mqtt.V5, "p", still)
		sub.subscribe("t", 0)
		goOn := s.hold()
		old.publish("t", "kept", 0, 0, retain)
		synctest.Wait()
		again := s.dial(mqtt.V5)
		again.send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: "p", CleanStart: true, ReceiveMaximum: 9}))
		synctest.Wait()
		again.publish("t", "passing", 0, 0)
		sub.nothing()
		again.nothing()
		goOn()
		sub.want("t", "kept")
		sub.want("t", "passing")
	})
}

// An entry of a queue that is on disk, but not known to be, may be read with those before
// it: it is sent once.
func TestWhatAPageHasBroughtDoesNotComeAgainWithItsCommit(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		sub := s.joins(mqtt.V5, "sub", lasting, still)
		sub.subscribe("t", 1)
		sub.nc.Close()
		synctest.Wait()
		p := s.joins(mqtt.V5, "p", still)
		const n = 200 // more than is read ahead
		p.publishAll("t", n, 1)
		sub = s.joins(mqtt.V5, "sub", lasting, still, window(1))
		m := sub.expect("t", "0")
		gate := make(chan struct{})
		s.mem.HoldAnswers(gate)
		p.publish("t", fmt.Sprint(n), 1, 1)
		synctest.Wait()
		for i := range n { // the last page is read meanwhile
			sub.done(m)
			m = sub.expect("t", fmt.Sprint(i+1))
		}
		s.mem.HoldAnswers(nil)
		close(gate)
		p.wantAck(mqtt.PUBACK, 1)
		sub.done(m)
		sub.nothing()
	})
}

// A claim at QoS 2 ends with the session of its member [MQTT-4.8.2-5]: of one that does
// not last nothing stays in the store, though others of the group last.
func TestAClaimAtQoS2OfWhoDoesNotLastEndsWithIt(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		away := s.joins(mqtt.V5, "away", lasting, still)
		away.subscribe("$share/g/t", 2)
		away.nc.Close()
		synctest.Wait()
		here := s.joins(mqtt.V5, "here", still)
		here.subscribe("$share/g/t", 2)
		s.joins(mqtt.V5, "p", still).publishAll("t", 1, 2)
		here.expect("t", "0")
		here.nc.Close()
		synctest.Wait()
		s.restart()
		for _, k := range s.left() {
			if k[0] == 'q' || k[0] == 'g' {
				s.t.Errorf("%s is left", k)
			}
		}
		s.joins(mqtt.V5, "away", lasting, still).quiet()
	})
}
