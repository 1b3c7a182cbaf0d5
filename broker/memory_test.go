package broker_test

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// A topic becomes a key of the store, which has a bound that is lower than MQTT's: it
// is refused, and the broker goes on.
func TestTopicsAreBounded(t *testing.T) {
	long, deep := strings.Repeat("x", 65_500), strings.Repeat("a/", 200)
	for _, topic := range []string{long, deep} {
		t.Run(topic[:2], func(t *testing.T) {
			_, addr := start(t, broker.Config{Data: t.TempDir()})
			c := dial(t, addr, mqtt.V5)
			c.connect("c", lasting)
			c.publish(topic, "x", 1, 1, retain)
			if a := c.wantAck(mqtt.PUBACK, 1); a.Reason != mqtt.TopicNameInvalid {
				t.Errorf("a retained message: %v", a.Reason)
			}
			if r := c.asks(topic); r != mqtt.TopicFilterInvalid {
				t.Errorf("a subscription: %v", r)
			}
			will := func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: topic, Retain: true} }
			if a := dial(t, addr, mqtt.V5).connect("d", will); a.Reason != mqtt.TopicNameInvalid {
				t.Errorf("a will: %v", a.Reason)
			}
			if r := c.asks("a/b"); r != 1 {
				t.Errorf("what is within the bounds: %v", r)
			}
		})
	}
}

// asks subscribes at QoS 1 and returns the answer.
func (c *client) asks(filter string) mqtt.Reason {
	c.t.Helper()
	c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 7, Filters: []mqtt.Subscription{{Filter: filter, QoS: 1}}}, c.v))
	first, body := c.read()
	a, err := mqtt.DecodeSuback(body, c.v)
	if err != nil || mqtt.Type(first>>4) != mqtt.SUBACK || len(a.Reasons) != 1 {
		c.t.Fatalf("no SUBACK of one filter: %v %v", a, err)
	}
	return a.Reasons[0]
}

// The end of a session deletes all of its subscriptions in one command, which may be
// more than one commit usually holds.
func TestASessionWithManyLongFiltersEnds(t *testing.T) {
	runtime.GC() // what other tests have left counts against so little memory
	_, addr := start(t, broker.Config{Data: t.TempDir(), Memory: 192 << 20, Limits: broker.Limits{Topic: 60_000}})
	c := dial(t, addr, mqtt.V5)
	c.connect("c", lasting)
	for i := range 60 {
		if r := c.asks(fmt.Sprint(i, strings.Repeat("x", 50_000))); r != 1 {
			t.Fatalf("filter %d: %v", i, r)
		}
	}
	c.nc.Close()
	c = dial(t, addr, mqtt.V5)
	if a := c.connect("c"); a.Reason != 0 || a.SessionPresent {
		t.Fatalf("got %+v", a)
	}
	c.publish("a", "x", 1, 1, retain)
	c.wantAck(mqtt.PUBACK, 1)
}

func TestSessionsAreBounded(t *testing.T) {
	_, addr := start(t, broker.Config{Limits: broker.Limits{Sessions: 2}})
	for i, want := range []mqtt.Reason{0, 0, mqtt.QuotaExceeded} {
		if a := dial(t, addr, mqtt.V5).connect(fmt.Sprint(i), lasting); a.Reason != want || want != 0 && a.ReasonString == "" {
			t.Errorf("session %d: %v %q, want %v", i, a.Reason, a.ReasonString, want)
		}
	}
	if a := dial(t, addr, mqtt.V5).connect("1", lasting); a.Reason != 0 {
		t.Errorf("a session that is there can't be resumed: %v", a.Reason)
	}
}

// Beginnings of packets that never end take no more than their part of the memory: who
// finds no room waits, before CONNECT as long as that may take.
func TestIncompletePacketsAreBounded(t *testing.T) {
	b, addr := start(t, broker.Config{Memory: 64 << 20, Limits: broker.Limits{Connect: 500 * time.Millisecond}})
	whole := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: strings.Repeat("c", 60_000), Username: strings.Repeat("u", 60_000), HasUsername: true})
	var open []net.Conn
	closed := 0
	for range 200 {
		c := dial(t, addr, mqtt.V5)
		if _, err := c.nc.Write(whole[:len(whole)-1]); err != nil {
			closed++
		}
		open = append(open, c.nc)
	}
	until(t, "all are closed; 4 MB have room for 35 at a time", func() bool { return b.Stats().Malformed+uint64(closed) >= 200 })
	for _, nc := range open {
		nc.Close()
	}
	until(t, "no connection is left", func() bool { return b.Stats().Connections == 0 })
	c := dial(t, addr, mqtt.V5)
	if _, err := c.nc.Write(whole[:100_000]); err != nil {
		t.Fatal(err)
	}
	c.send(whole[100_000:])
	if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.CONNACK {
		t.Errorf("got %v; what the others held was not given back", mqtt.Type(first>>4))
	}
}

// While the process holds as much as it may nothing new is taken, and what is there
// goes on.
func TestWhenMemoryIsUsedUpNothingNewIsTaken(t *testing.T) {
	b, addr := start(t, broker.Config{Memory: 1 << 30})
	c, sub := dial(t, addr, mqtt.V5), dial(t, addr, mqtt.V5)
	c.connect("c", lasting)
	sub.connect("sub")
	sub.subscribe("a/#", 1)
	c.publish("r/old", "x", 1, 1, retain)
	c.wantAck(mqtt.PUBACK, 1)
	runtime.GC() // it is what the last one found in use that counts
	broker.SetMemory(b, 1)
	defer broker.SetMemory(b, 1<<40)
	if r := c.asks("new"); r != mqtt.QuotaExceeded {
		t.Errorf("a filter: %v", r)
	}
	if r := sub.asks("a/#"); r != 1 {
		t.Errorf("a filter that is there: %v", r)
	}
	for topic, want := range map[string]mqtt.Reason{"r/new": mqtt.QuotaExceeded, "r/old": 0} {
		c.publish(topic, "y", 1, 2, retain)
		if a := c.wantAck(mqtt.PUBACK, 2); a.Reason != want && (want != 0 || a.Reason >= 0x80) {
			t.Errorf("a retained message on %s: %v", topic, a.Reason)
		}
	}
	if a := dial(t, addr, mqtt.V5).connect("d"); a.Reason != mqtt.ServerBusy {
		t.Errorf("a new session: %v", a.Reason)
	}
	if a := dial(t, addr, mqtt.V5).connect("c", lasting); a.Reason != 0 {
		t.Errorf("a session that is there: %v", a.Reason)
	}
	for i := range 100 {
		p := strings.Repeat(fmt.Sprint(i%10), 100_000)
		sub.publish("a/x", p, 1, 3)
		got := map[mqtt.Type]bool{}
		for range 2 {
			first, body := sub.read()
			got[mqtt.Type(first>>4)] = true
			if mqtt.Type(first>>4) == mqtt.PUBLISH {
				var m mqtt.Publish
				if err := m.Decode(first, body, mqtt.V5); err != nil {
					t.Fatal(err)
				}
				sub.ack(mqtt.PUBACK, m.ID)
			}
		}
		if !got[mqtt.PUBLISH] || !got[mqtt.PUBACK] {
			t.Fatalf("message %d: got %v", i, got)
		}
	}
}

// More large packets at once than there is room for wait: nobody is refused.
func TestLargePacketsWaitForRoom(t *testing.T) {
	b, addr := start(t, broker.Config{Memory: 32 << 20}) // 4 MB of them have room for 20
	p := mqtt.AppendPublish(nil, &mqtt.Publish{Topic: []byte("t"), Payload: make([]byte, 200_000), QoS: 1, ID: 1}, mqtt.V5)
	var all []*client
	for i := range 60 {
		c := dial(t, addr, mqtt.V5)
		c.connect(fmt.Sprint(i))
		if _, err := c.nc.Write(p[:100_000]); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	until(t, "20 have room, 40 wait", func() bool { return b.Stats().PacketsWaiting == 40 })
	var wg sync.WaitGroup
	for i, c := range all {
		wg.Go(func() {
			if _, err := c.nc.Write(p[100_000:]); err != nil {
				t.Error(err)
			}
			if a := c.wantAck(mqtt.PUBACK, 1); a.Reason >= 0x80 {
				t.Errorf("client %d: %v", i, a.Reason)
			}
		})
	}
	wg.Wait()
	if s := b.Stats(); s.Malformed != 0 {
		t.Errorf("%d were closed", s.Malformed)
	}
}

// What was used for a moment keeps nobody out for longer: a broker that refuses
// allocates so little that no collection would come by itself.
func TestMemoryThatIsFreeAgainIsSeen(t *testing.T) {
	log := &logText{}
	start(t, broker.Config{Memory: 192 << 20, Log: log.logger()})
	used := make([]byte, 180<<20)
	runtime.GC()
	until(t, "it is crowded", func() bool { return log.have("memory is nearly used up") })
	runtime.KeepAlive(used)
	until(t, "it is not any more", func() bool { return log.have("there is memory again") })
}
