package broker_test

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

var versions = []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}

// each runs a test for every protocol level.
func each(t *testing.T, f func(t *testing.T, v mqtt.Version)) {
	for _, v := range versions {
		t.Run(fmt.Sprintf("level %d", v), func(t *testing.T) { f(t, v) })
	}
}

func TestPublishReachesSubscriber(t *testing.T) {
	for qos := byte(0); qos <= 2; qos++ {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			each(t, func(t *testing.T, v mqtt.Version) {
				_, addr := start(t, broker.Config{Log: quiet})
				sub, p := dial(t, addr, v), dial(t, addr, v)
				sub.connect("sub")
				sub.subscribe("a/+", qos)
				p.connect("pub")
				p.publish("a/b", "hello", qos, 7)
				switch qos {
				case 1:
					p.wantAck(mqtt.PUBACK, 7)
				case 2:
					p.wantAck(mqtt.PUBREC, 7)
					p.ack(mqtt.PUBREL, 7)
					p.wantAck(mqtt.PUBCOMP, 7)
				}
				m := sub.want("a/b", "hello")
				if m.QoS != qos {
					t.Fatalf("delivered at QoS %d, want %d", m.QoS, qos)
				}
				if qos == 2 {
					sub.ack(mqtt.PUBREC, m.ID)
					sub.wantAck(mqtt.PUBREL, m.ID)
					sub.ack(mqtt.PUBCOMP, m.ID)
				}
				sub.quiet()
			})
		})
	}
}

func TestOfflineLastingSessionGetsItsQueueInOrder(t *testing.T) {
	each(t, func(t *testing.T, v mqtt.Version) {
		for _, data := range []string{"", t.TempDir()} {
			b, addr := start(t, broker.Config{Log: quiet, Data: data})
			sub := dial(t, addr, v)
			sub.connect("sub", lasting)
			sub.subscribe("q/#", 1)
			sub.nc.Close()
			p := dial(t, addr, v)
			p.connect("pub")
			const n = 500
			for i := range n {
				p.publish("q/x", fmt.Sprint(i), 1, uint16(i+1))
				p.wantAck(mqtt.PUBACK, uint16(i+1))
			}
			if data != "" { // the same over a restart
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				_, addr = start(t, broker.Config{Log: quiet, Data: data})
			}
			sub = dial(t, addr, v)
			if a := sub.connect("sub", lasting); v != mqtt.V31 && !a.SessionPresent {
				t.Fatal("session was not present")
			}
			for i := range n {
				sub.want("q/x", fmt.Sprint(i))
			}
			sub.quiet()
		}
	})
}

func TestReconnectResendsWithIdentifierAndDUP(t *testing.T) {
	_, addr := start(t, broker.Config{Log: quiet, Data: t.TempDir()})
	sub := dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting, func(c *mqtt.Connect) { c.ReceiveMaximum = 3 })
	sub.subscribe("q", 1)
	p := dial(t, addr, mqtt.V5)
	p.connect("pub")
	for i := range 5 {
		p.publish("q", fmt.Sprint(i), 1, uint16(i+1))
		p.wantAck(mqtt.PUBACK, uint16(i+1))
	}
	first := sub.want("q", "0") // acknowledged
	var ids []uint16
	for i := 1; i <= 3; i++ {
		m := sub.message()
		if string(m.Payload) != fmt.Sprint(i) || m.Dup {
			t.Fatalf("got %q dup %v, want %d", m.Payload, m.Dup, i)
		}
		ids = append(ids, m.ID)
	}
	_ = first
	sub.nc.Close()
	sub = dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting, func(c *mqtt.Connect) { c.ReceiveMaximum = 3 })
	for i := 1; i <= 3; i++ {
		m := sub.want("q", fmt.Sprint(i))
		if !m.Dup || m.ID != ids[i-1] {
			t.Fatalf("message %d came with id %d dup %v, want id %d and DUP", i, m.ID, m.Dup, ids[i-1])
		}
	}
	if m := sub.want("q", "4"); m.Dup {
		t.Fatal("a message that was never sent came with DUP")
	}
	sub.quiet()
}

func TestRetainedIsReplayedAndCleared(t *testing.T) {
	each(t, func(t *testing.T, v mqtt.Version) {
		_, addr := start(t, broker.Config{Log: quiet})
		p := dial(t, addr, v)
		p.connect("pub")
		for i, topic := range []string{"r/a", "r/b", "other"} {
			p.publish(topic, "stays", 1, uint16(i+1), retain)
			p.wantAck(mqtt.PUBACK, uint16(i+1))
		}
		p.publish("r/a", "", 1, 9, retain)
		p.wantAck(mqtt.PUBACK, 9)
		sub := dial(t, addr, v)
		sub.connect("sub")
		sub.subscribe("r/#", 1)
		if m := sub.want("r/b", "stays"); !m.Retain {
			t.Fatal("a replayed message came without the retain flag [MQTT-3.3.1-8]")
		}
		sub.quiet()
	})
}

func TestWillIsSentWhenTheConnectionIsLost(t *testing.T) {
	each(t, func(t *testing.T, v mqtt.Version) {
		_, addr := start(t, broker.Config{Log: quiet})
		sub := dial(t, addr, v)
		sub.connect("sub")
		sub.subscribe("will/#", 1)
		c := dial(t, addr, v)
		c.connect("mortal", func(c *mqtt.Connect) {
			c.Will = &mqtt.Will{Topic: "will/mortal", Payload: []byte("gone"), QoS: 1}
		})
		c.nc.Close()
		sub.want("will/mortal", "gone")
		sub.quiet()
	})
}

func TestTakeOver(t *testing.T) {
	_, addr := start(t, broker.Config{Log: quiet})
	old := dial(t, addr, mqtt.V5)
	old.connect("same")
	fresh := dial(t, addr, mqtt.V5)
	fresh.connect("same")
	first, body := old.read()
	d, err := mqtt.DecodeDisconnect(first, body, mqtt.V5)
	if err != nil || d.Reason != mqtt.SessionTakenOver {
		t.Fatalf("old connection got %v, %v; want 0x8E", d, err)
	}
	fresh.quiet()
}

func TestSharedSubscriptionSharesAndReturnsClaims(t *testing.T) {
	_, addr := start(t, broker.Config{Log: quiet})
	a, b, p := dial(t, addr, mqtt.V5), dial(t, addr, mqtt.V5), dial(t, addr, mqtt.V5)
	a.connect("a")
	b.connect("b")
	p.connect("p")
	a.subscribe("$share/g/t", 1)
	b.subscribe("$share/g/t", 1)
	for i := range 4 {
		p.publish("t", fmt.Sprint(i), 1, uint16(i+1))
		p.wantAck(mqtt.PUBACK, uint16(i+1))
	}
	got := map[string]bool{}
	for range 2 {
		got[string(a.message().Payload)] = true // never acknowledged
		m := b.message()
		got[string(m.Payload)] = true
		b.ack(mqtt.PUBACK, m.ID)
	}
	if len(got) != 4 {
		t.Fatalf("members got %v, want 4 different messages", got)
	}
	a.nc.Close()
	for range 2 {
		m := b.message()
		if !m.Dup {
			t.Error("a returned claim came without DUP")
		}
		b.ack(mqtt.PUBACK, m.ID)
	}
	b.quiet()
}

func TestWindowOfOneNeverStalls(t *testing.T) {
	_, addr := start(t, broker.Config{Log: quiet})
	sub, p := dial(t, addr, mqtt.V5), dial(t, addr, mqtt.V5)
	sub.connect("sub", func(c *mqtt.Connect) { c.ReceiveMaximum = 1 })
	sub.subscribe("t", 1)
	p.connect("pub")
	for i := range 200 {
		p.publish("t", fmt.Sprint(i), 1, uint16(i+1))
	}
	for i := range 200 {
		sub.want("t", fmt.Sprint(i))
	}
	sub.quiet()
}

// A batch that overflowed would end the process: many sessions that go at once,
// wide fan-outs and large bodies must all fit, or be refused.
func TestNothingOverflowsABatch(t *testing.T) {
	b, addr := start(t, broker.Config{Log: quiet, Data: t.TempDir(), Memory: 64 << 20})
	const n = 300
	subs := make([]*client, n)
	for i := range subs {
		subs[i] = dial(t, addr, mqtt.V5)
		subs[i].connect(fmt.Sprint("s", i), lasting)
		subs[i].subscribe("wide/#", 1)
	}
	large := make([]byte, 250<<10)
	for range 20 {
		pub(t, b, &mqtt.Message{Topic: "wide/x", Payload: large, QoS: 1, Retain: true})
	}
	for _, s := range subs {
		s.nc.Close()
	}
	pub(t, b, &mqtt.Message{Topic: "wide/x", Payload: []byte("last"), QoS: 1})
	s := dial(t, addr, mqtt.V5)
	s.connect("s7", lasting)
	for {
		m := s.message()
		s.ack(mqtt.PUBACK, m.ID)
		if string(m.Payload) == "last" {
			return
		}
	}
}

func TestNoLocalKeepsOwnMessagesOnly(t *testing.T) {
	_, addr := start(t, broker.Config{Log: quiet})
	a, b := dial(t, addr, mqtt.V5), dial(t, addr, mqtt.V5)
	for i, c := range []*client{a, b} {
		c.connect(fmt.Sprint("c", i))
		c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: "t", QoS: 2, NoLocal: true}}}, mqtt.V5))
		if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.SUBACK {
			t.Fatalf("got %v", mqtt.Type(first>>4))
		}
	}
	a.publish("t", "hello", 1, 1)
	a.wantAck(mqtt.PUBACK, 1)
	b.want("t", "hello")
	a.quiet()
	b.quiet()
}

// P6: a publish to more lasting sessions than one step serves reaches each once,
// in the publisher's order with what follows it, also over a restart in between.
func TestAFanOutReachesEachOnceInOrder(t *testing.T) {
	cfg := broker.Config{Data: t.TempDir()}
	b, addr := start(t, cfg)
	const n = 1000
	for i := range n {
		c := dial(t, addr, mqtt.V5)
		c.connect(fmt.Sprint("s", i), lasting)
		c.subscribe("news", 1)
		if i%100 != 0 { // the others stay online
			c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5))
			c.nc.Close()
		} else {
			t.Cleanup(func() { c.nc.Close() })
		}
	}
	p := dial(t, addr, mqtt.V5)
	p.connect("pub")
	p.publish("news", "1", 1, 1)
	p.publish("news", "2", 1, 2)
	p.wantAck(mqtt.PUBACK, 1)
	p.wantAck(mqtt.PUBACK, 2)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	_, addr = start(t, cfg)
	p = dial(t, addr, mqtt.V5)
	p.connect("pub")
	p.publish("news", "3", 1, 1)
	p.wantAck(mqtt.PUBACK, 1)
	for i := range n {
		c := dial(t, addr, mqtt.V5)
		c.connect(fmt.Sprint("s", i), lasting)
		last := 0
		for last < 3 {
			m := c.message()
			k, err := strconv.Atoi(string(m.Payload))
			if err != nil || k != last+1 && (!m.Dup || k > last) {
				t.Fatalf("session %d: got %q (dup %v) after %d", i, m.Payload, m.Dup, last)
			}
			last = max(last, k)
			c.ack(mqtt.PUBACK, m.ID)
		}
		c.quiet()
		c.nc.Close()
	}
}
