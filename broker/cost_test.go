package broker_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// memory is what the heap has now, after a collection.
func memory() runtime.MemStats {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools and finalizers held goes with the second
	runtime.ReadMemStats(&m)
	return m
}

// What waits in queues and stays on topics is not looked at while nothing happens: no scan
// each second, no copy. A minute costs what it costs a broker that has nothing.
func TestWhatWaitsCostsNothingMeanwhile(t *testing.T) {
	minute := func(fill func(s *sim)) (allocated uint64) {
		simulate(t, broker.Config{}, func(s *sim) {
			fill(s)
			time.Sleep(time.Second)
			before := memory()
			time.Sleep(time.Minute)
			allocated = memory().TotalAlloc - before.TotalAlloc
		})
		return allocated
	}
	empty := minute(func(*sim) {})
	const sessions, messages, topics = 100, 100, 5000
	full := minute(func(s *sim) {
		for i := range sessions {
			c := s.joins(mqtt.V5, fmt.Sprint(i), lasting)
			c.subscribe("q", 1)
			c.nc.Close()
		}
		p := s.joins(mqtt.V5, "p", still)
		p.publishAll("q", messages, 1)
		for i := range topics {
			p.publish(fmt.Sprint("r/", i), "x", 1, 1, retain)
			p.wantAck(mqtt.PUBACK, 1)
		}
	})
	if full > empty+1<<20 { // a copy of all of it each second were a hundred times as much
		t.Errorf("a minute with %d messages in queues and %d retained topics allocates %d KB, one without %d KB", sessions*messages, topics, full>>10, empty>>10)
	}
}

// An idle connection has no goroutine, and no buffer that waits for what may come; also
// after many have come and gone.
func TestAnIdleConnectionHoldsLittle(t *testing.T) {
	const n = 300
	_, addr := start(t, broker.Config{})
	connect := func() (all []net.Conn) {
		for i := range n {
			c := dial(t, addr, mqtt.V5)
			c.connect(fmt.Sprint(i))
			c.subscribe(fmt.Sprintf("users/%d/inbox", i), 1)
			all = append(all, c.nc)
		}
		return all
	}
	for range 3 {
		for _, nc := range connect() {
			nc.Close()
		}
	}
	before, goroutines := memory(), runtime.NumGoroutine()
	all := connect()
	var after runtime.MemStats
	each := func() int64 { return (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n }
	const most = 8 << 10 // the client's end in this process is in it
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if after = memory(); each() < most && runtime.NumGoroutine() < goroutines+n/10 {
			break
		}
	}
	if each() >= most || runtime.NumGoroutine() >= goroutines+n/10 {
		t.Errorf("each of %d connections holds %d bytes, and there are %d goroutines more", n, each(), runtime.NumGoroutine()-goroutines)
	}
	runtime.KeepAlive(all)
}

// cost is how often something is allocated for each of n deliveries that follow from
// publishing.
func cost(t *testing.T, b *broker.Broker, n int, publish func()) float64 {
	t.Helper()
	delivered := b.Stats().Delivered
	before := memory()
	publish()
	until(t, "all is delivered", func() bool { return b.Stats().Delivered == delivered+uint64(n) })
	return float64(memory().Mallocs-before.Mallocs) / float64(n)
}

// A delivery is written into its connection's output: the message is not copied, boxed
// and queued for each who gets it.
func TestADeliveryOfAFanOutIsNoAllocation(t *testing.T) {
	const n, messages = 200, 20
	for qos := range byte(2) {
		b, addr := start(t, broker.Config{})
		for i := range n {
			c := dial(t, addr, mqtt.V5)
			c.connect(fmt.Sprint(i))
			c.subscribe("x", qos)
		}
		m := &mqtt.Message{Topic: "x", Payload: []byte(strings.Repeat("x", 200)), QoS: qos}
		each := cost(t, b, n*messages, func() {
			for range messages {
				if err := b.Publish(context.Background(), m); err != nil {
					t.Fatal(err)
				}
			}
		})
		if t.Logf("QoS %d: %.1f allocations a delivery", qos, each); each > 2 {
			t.Errorf("QoS %d: a delivery takes %.1f allocations", qos, each)
		}
	}
}

// One member of a shared group gets a message, at a cost that does not grow with the group.
func TestAGroupsSizeCostsItsMessagesNothing(t *testing.T) {
	costs := func(members int) (allocations float64) {
		b, addr := start(t, broker.Config{})
		for i := range members {
			c := dial(t, addr, mqtt.V5)
			c.connect(fmt.Sprint(i))
			c.subscribe("$share/g/x", 0)
		}
		const messages = 50
		allocations = cost(t, b, messages, func() {
			for range messages {
				if err := b.Publish(context.Background(), &mqtt.Message{Topic: "x", Payload: []byte("y")}); err != nil {
					t.Fatal(err)
				}
			}
		})
		return allocations
	}
	few, many := costs(2), costs(300)
	t.Logf("%.0f allocations a message to one of 2, %.0f to one of 300", few, many)
	if many > few+100 {
		t.Errorf("a message to one of 300 takes %.0f allocations, to one of 2 %.0f", many, few)
	}
}
