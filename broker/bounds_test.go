package broker_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

func TestAFullQueueDropsItsOldestAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	cfg := broker.Config{Data: dir, Limits: broker.Limits{QueueMessages: 100}}
	b, addr := start(t, cfg)
	c := dial(t, addr, mqtt.V5)
	c.connect("sleeper", lasting)
	c.subscribe("q/#", 1)
	c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5))
	p := dial(t, addr, mqtt.V5)
	p.connect("pub")
	const sent = 400
	for i := range sent {
		p.publish("q/x", strconv.Itoa(i), 1, uint16(i+1))
		p.wantAck(mqtt.PUBACK, uint16(i+1))
	}
	_ = b
	// Trimming runs beside; what is over the bound goes within moments.
	var a *mqtt.Connack
	deadline := time.Now().Add(5 * time.Second)
	for dropped := 0; dropped < sent-100 && time.Now().Before(deadline); {
		c = dial(t, addr, mqtt.V5)
		a = c.connect("sleeper", lasting)
		for _, u := range a.UserProps {
			if n, err := strconv.Atoi(u.Value); u.Key == "dropped" && err == nil {
				dropped += n
			}
		}
		if dropped < sent-100 {
			c.nc.Close()
			continue
		}
		first := c.message()
		n, err := strconv.Atoi(string(first.Payload))
		if err != nil || n < sent-100 || n != dropped {
			t.Fatalf("the oldest that is left is %q, after %d were announced as dropped", first.Payload, dropped)
		}
		c.ack(mqtt.PUBACK, first.ID)
		for i := n + 1; i < sent; i++ {
			c.want("q/x", strconv.Itoa(i))
		}
		c.quiet()
		return
	}
	t.Fatalf("the cut was not announced: %+v", a)
}

func TestRetainedTopicsAreBounded(t *testing.T) {
	_, addr := start(t, broker.Config{Limits: broker.Limits{Retained: 2}})
	c := dial(t, addr, mqtt.V5)
	c.connect("c")
	for i, want := range []mqtt.Reason{0, 0, mqtt.QuotaExceeded} {
		c.publish(fmt.Sprint("r/", i), "x", 1, 1, retain)
		if a := c.wantAck(mqtt.PUBACK, 1); a.Reason != want && a.Reason != mqtt.NoMatchingSubscribers {
			t.Errorf("topic %d: %v, want %v", i, a.Reason, want)
		}
	}
	c.publish("r/0", "y", 1, 2, retain) // there already
	if a := c.wantAck(mqtt.PUBACK, 2); a.Reason >= 0x80 {
		t.Errorf("a retained topic can't be replaced: %v", a.Reason)
	}
}

func TestWithoutSpaceWhatMustBeStoredIsRefusedAndTheRestGoesOn(t *testing.T) {
	_, addr := start(t, broker.Config{Data: t.TempDir(), Reserve: 1 << 60})
	sub := dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting)
	sub.subscribe("kept", 1)
	sub.subscribe("passing", 0)
	p := dial(t, addr, mqtt.V5)
	p.connect("pub")
	p.publish("kept", "x", 1, 1)
	if a := p.wantAck(mqtt.PUBACK, 1); a.Reason != mqtt.QuotaExceeded || !strings.Contains(a.ReasonString, "disk") {
		t.Errorf("got %v %q", a.Reason, a.ReasonString)
	}
	p.publish("passing", "y", 1, 2)
	if a := p.wantAck(mqtt.PUBACK, 2); a.Reason >= 0x80 {
		t.Errorf("what is not stored was refused: %v", a.Reason)
	}
	sub.want("passing", "y")
	old := dial(t, addr, mqtt.V311) // no reason codes: no acknowledgement, and the connection closes
	old.connect("old")
	old.publish("kept", "x", 1, 1)
	if first, _, err := old.next(5 * time.Second); err == nil {
		t.Errorf("got packet type %v, want the connection closed", mqtt.Type(first>>4))
	}
}

// noTrespass refuses publishes to users/bob/….
type noTrespass struct{}

func (noTrespass) Authorize(r *hooks.Request) error {
	if r.Action == hooks.Write && strings.HasPrefix(r.Topic, "users/bob/") {
		return &hooks.Refusal{Text: "bob's"}
	}
	return nil
}
func (noTrespass) Trees() []string { return []string{"users"} }
func (noTrespass) MaySee(user, topic string) bool {
	return user == "ann" || !strings.Contains(topic, "secret")
}

func TestA3xClientIsToldOnItsReplyTopicWhyItWasRefused(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{noTrespass{}}})
	c := dial(t, addr, mqtt.V311)
	c.connect("c", func(p *mqtt.Connect) { p.HasUsername, p.Username = true, "ann" })
	c.subscribe("users/ann/reply", 1)
	c.publish("users/bob/location", "{}", 1, 7)
	p := c.message()
	var got struct {
		Type   string
		Reason int
		Text   string
		Topic  string
		ID     int
	}
	if err := json.Unmarshal(p.Payload, &got); err != nil {
		t.Fatal(err)
	}
	if got.Type != "err" || got.Reason != int(mqtt.NotAuthorized) || got.Text != "bob's" || got.Topic != "users/bob/location" || got.ID != 7 {
		t.Errorf("got %+v", got)
	}
	c.wantAck(mqtt.PUBACK, 7)
}

func TestATreeIsSeenByWhomItsHookAllows(t *testing.T) {
	b, addr := start(t, broker.Config{Hooks: []any{noTrespass{}}})
	login := func(name, filter string) *client {
		c := dial(t, addr, mqtt.V311)
		c.connect(name, func(p *mqtt.Connect) { p.HasUsername, p.Username = true, name })
		c.subscribe(filter, 1)
		return c
	}
	ann, eve, all := login("ann", "users/+/secret"), login("eve", "users/+/secret"), login("all", "#")
	pub(t, b, &mqtt.Message{Topic: "users/x/secret", Payload: []byte("s"), QoS: 1})
	pub(t, b, &mqtt.Message{Topic: "plain", Payload: []byte("p"), QoS: 1})
	ann.want("users/x/secret", "s")
	eve.quiet()
	all.want("plain", "p")
	pub(t, b, &mqtt.Message{Topic: "users/x/secret", Payload: []byte("r"), QoS: 1, Retain: true})
	ann.want("users/x/secret", "r")
	login("eve2", "users/+/secret").quiet()
}

// A queue is bounded by its bytes as by its messages: the oldest go, counted and announced.
func TestAQueueIsBoundedByItsBytes(t *testing.T) {
	const sent, size, most = 100, 1000, 50_000
	simulate(t, broker.Config{Limits: broker.Limits{QueueBytes: most}}, func(s *sim) {
		c := s.joins(mqtt.V5, "sleeper", lasting, still)
		c.subscribe("q", 1)
		c.nc.Close()
		synctest.Wait() // the broker knows: what is in a window is not cut
		p := s.joins(mqtt.V5, "p", still)
		for i := range sent {
			p.publish("q", fmt.Sprintf("%d %*d", i, size, 0), 1, 1)
			p.wantAck(mqtt.PUBACK, 1)
		}
		time.Sleep(10 * time.Second) // what a cut deletes is on disk within one, then it goes on
		c = s.dial(mqtt.V5)
		dropped, err := strconv.Atoi(droppedOf(c.connect("sleeper", lasting, still)))
		if left := (sent - dropped) * size; err != nil || left > most || left < most*3/4 {
			t.Fatalf("%d are announced as dropped (%v): %d bytes are left of at most %d", dropped, err, left, most)
		}
		if n := s.b.Stats().Overflow; n != uint64(dropped) {
			t.Errorf("%d are counted, %d announced", n, dropped)
		}
		for i := dropped; i < sent; i++ {
			m := c.message()
			if !strings.HasPrefix(string(m.Payload), fmt.Sprint(i, " ")) {
				t.Fatalf("got %.5s, want %d", m.Payload, i)
			}
			c.ack(mqtt.PUBACK, m.ID)
		}
		c.nothing()
	})
}

// A session that ends with its connection has a bound for what waits for it, too: beyond
// that it is closed with 0x97, counted and logged. One that lasts reads on from its queue.
func TestASessionThatDoesNotLastIsClosedWhenTooMuchWaits(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits broker.Limits
		size   int
		fits   int // beside the one that is on its way
	}{
		{"messages", broker.Limits{PendingMessages: 10}, 1, 10},
		{"bytes", broker.Limits{PendingBytes: 10_000}, 900, 10},
		{"messages by default", broker.Limits{}, 1, 1000},
		{"bytes by default", broker.Limits{}, 50_000, 20},
	} {
		t.Run(row.name, func(t *testing.T) {
			log := &logText{}
			simulate(t, broker.Config{Limits: row.limits}, func(s *sim) {
				s.cfg.Log = log.logger()
				s.restart()
				c := s.joins(mqtt.V5, "c", window(1), still)
				c.subscribe("q", 1)
				stays := s.joins(mqtt.V5, "stays", lasting, window(1), still)
				stays.subscribe("q", 1)
				p := s.joins(mqtt.V5, "p", still)
				say := func() {
					p.publish("q", strings.Repeat("x", row.size), 1, 1)
					p.wantAck(mqtt.PUBACK, 1)
				}
				say()
				c.message() // which it never acknowledges
				held := stays.message()
				for range row.fits {
					say()
				}
				c.nothing()
				for range 2 {
					say()
				}
				if d := c.closed(); d.Reason != mqtt.QuotaExceeded {
					t.Errorf("closed with %v, want 0x97", d.Reason)
				}
				if n := s.b.Stats().Overflow; n != 1 {
					t.Errorf("%d are counted, want 1", n)
				}
				log.want(t, `msg="client disconnected" client=c .* reason="Quota exceeded \(0x97\)" text="too much waits for this client"`)
				for range row.fits + 2 {
					stays.ack(mqtt.PUBACK, held.ID)
					held = stays.message()
				}
			})
		})
	}
}
