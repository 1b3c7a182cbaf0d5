package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// What a session had in its window comes again in order, with its identifiers, and
// never more at once than the new connection's Receive Maximum [MQTT-3.3.4-9]; what
// was not sent follows, under identifiers that are free.
func TestAResendKeepsToTheNewReceiveMaximum(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			simulate(t, broker.Config{}, func(s *sim) {
				window := func(n uint16) func(*mqtt.Connect) { return func(p *mqtt.Connect) { p.ReceiveMaximum = n } }
				sub := s.dial(mqtt.V5)
				sub.connect("sub", lasting, still, window(40))
				sub.subscribe("t/#", qos)
				const n = 60
				for i := range n { // each a commit of its own, and together more than a page
					pub(s.t, s.b, &mqtt.Message{Topic: "t/x", Payload: fmt.Appendf(nil, "%3d%4000d", i, i), QoS: qos})
				}
				ids := make(map[uint16]int)
				for i := range 40 {
					ids[sub.message().ID] = i
				}
				sub.nothing()
				sub.nc.Close()
				synctest.Wait()
				sub = s.dial(mqtt.V5)
				sub.connect("sub", lasting, still, window(3))
				for i := 0; i < n; {
					var open []uint16
					for len(open) < 3 && i < n {
						m := sub.message()
						old, known := ids[m.ID]
						if i < 40 && (!known || old != i || !m.Dup) || i >= 40 && m.Dup || string(m.Payload[:3]) != fmt.Sprintf("%3d", i) {
							s.t.Fatalf("message %d came as %q under %d, dup %v", i, m.Payload[:3], m.ID, m.Dup)
						}
						i++
						open = append(open, m.ID)
					}
					sub.nothing()
					for _, id := range open {
						if qos == 1 {
							sub.ack(mqtt.PUBACK, id)
							continue
						}
						sub.ack(mqtt.PUBREC, id)
						sub.wantAck(mqtt.PUBREL, id)
					}
					for _, id := range open {
						if qos == 2 {
							sub.ack(mqtt.PUBCOMP, id)
						}
					}
				}
				sub.nothing()
			})
		})
	}
}

// After a crash what may have been sent says so.
func TestAfterACrashWhatMayHaveBeenSentSaysDUP(t *testing.T) {
	simulate(t, broker.Config{Limits: broker.Limits{Window: 5}}, func(s *sim) {
		sub := s.listener("sub", "t")
		for i := range 10 {
			pub(s.t, s.b, &mqtt.Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: 1})
		}
		for range 5 {
			sub.message()
		}
		s.crash()
		sub = s.dial(mqtt.V5)
		sub.connect("sub", lasting, still)
		for i := range 10 {
			if m := sub.want("t", fmt.Sprint(i)); m.Dup != (i < 5) {
				s.t.Errorf("message %d: dup %v", i, m.Dup)
			}
		}
	})
}

// An inbox at QoS 0 loses nothing to a reader that is slow, and stays in order.
func TestAnInboxAtQoS0IsNeverDropped(t *testing.T) {
	simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) {
		ann, p := s.dial(mqtt.V5), s.dial(mqtt.V5)
		ann.connect("phone", user("ann"), still)
		ann.subscribe("users/ann/inbox", 0)
		p.connect("p", still)
		const n = 400
		for i := range n { // much more than the output buffer takes
			tell(t, p, "ann", fmt.Sprintf("%1000d", i))
		}
		for i := range n {
			if e := ann.event(); e.Seq != i+1 {
				s.t.Fatalf("got event %d after %d", e.Seq, i)
			}
		}
		ann.nothing()
	})
}

// A QoS 2 claim of a member whose session ends, ends with it [MQTT-4.8.2-5], also
// over a restart; a QoS 1 claim goes to another one, even if its member had left.
func TestClaimsOfAMemberThatIsGone(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			simulate(t, broker.Config{}, func(s *sim) {
				home := s.dial(mqtt.V5)
				home.connect("home", lasting, still)
				home.subscribe("$share/g/t", qos)
				home.nc.Close() // the group's queue lasts
				guest := s.dial(mqtt.V5)
				guest.connect("guest", still)
				guest.subscribe("$share/g/t", qos)
				pub(s.t, s.b, &mqtt.Message{Topic: "t", Payload: []byte("claimed"), QoS: qos})
				guest.message()
				guest.send(mqtt.AppendUnsubscribe(nil, &mqtt.Unsubscribe{ID: 2, Filters: []string{"$share/g/t"}}, mqtt.V5))
				guest.read()
				guest.nc.Close()
				time.Sleep(2 * time.Second)
				for range 2 {
					home = s.dial(mqtt.V5)
					home.connect("home", lasting, still)
					if qos == 1 {
						home.want("t", "claimed")
						return
					}
					home.nothing()
					s.restart()
				}
			})
		})
	}
}

// [MQTT-4.3.3-4]: a PUBREC with a reason of 0x80 or more ends the exchange: no PUBREL
// follows, the window has room, and the message does not come again.
func TestAPUBRECThatRefusesEndsTheExchange(t *testing.T) {
	for _, reason := range []mqtt.Reason{mqtt.UnspecifiedError, mqtt.QuotaExceeded} {
		simulate(t, broker.Config{}, func(s *sim) {
			narrow := func(p *mqtt.Connect) { p.ReceiveMaximum = 1 }
			sub, p := s.joins(mqtt.V5, "sub", lasting, narrow), s.joins(mqtt.V5, "p")
			sub.subscribe("q", 2)
			for id, text := range []string{"refused", "wanted"} {
				p.publish("q", text, 2, uint16(id+1))
				p.wantAck(mqtt.PUBREC, uint16(id+1))
			}
			m := sub.expect("q", "refused")
			sub.send(mqtt.AppendAck(nil, mqtt.Ack{Type: mqtt.PUBREC, ID: m.ID, Reason: reason}, mqtt.V5))
			sub.expect("q", "wanted")
			sub.nc.Close()
			sub = s.joins(mqtt.V5, "sub", lasting, narrow)
			if m := sub.expect("q", "wanted"); !m.Dup {
				s.t.Error("it came without DUP")
			}
			sub.quiet()
		})
	}
}
