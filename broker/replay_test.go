package broker_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// A wildcard subscription brings every retained message, in topic order, at QoS 0
// too: the replay waits for the reader and drops nothing.
func TestAWildcardReplayDropsNothing(t *testing.T) {
	const n = 20_000
	b, addr := start(t, broker.Config{})
	for i := range n {
		pub(t, b, &mqtt.Message{Topic: fmt.Sprintf("r/%05d", i), Payload: []byte("x"), QoS: 1, Retain: true})
	}
	for qos := byte(0); qos <= 1; qos++ {
		c := dial(t, addr, mqtt.V5)
		c.connect("c")
		c.subscribe("r/#", qos)
		for i := range n {
			if m := c.want(fmt.Sprintf("r/%05d", i), "x"); !m.Retain || m.QoS != qos {
				t.Fatalf("%s at QoS %d, retain %v", m.Topic, m.QoS, m.Retain)
			}
		}
		c.quiet()
	}
}

// A new subscriber gets what is retained, also while every batch retains something.
func TestAReplayBeginsWhileEveryBatchRetainsSomething(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		p, c := s.joins(mqtt.V5, "p"), s.joins(mqtt.V5, "c")
		p.publish("old", "x", 1, 1, retain)
		p.wantAck(mqtt.PUBACK, 1)
		one := s.oneByOne()
		p.publish("r", "first", 0, 0, retain) // there is always one more in the open batch
		synctest.Wait()
		for i := range 6 {
			p.publish("r", fmt.Sprint(i), 0, 0, retain)
			synctest.Wait()
			if i == 1 {
				c.subscribe("old", 1)
			}
			one()
		}
		c.expect("old", "x")
	})
}

// slowReads is a store whose scans are answered late, by what stood when they began.
type slowReads struct {
	store.Store
	mu   sync.Mutex
	gate chan struct{} // if set, a scan waits for it
	held int           // scans that wait
}

func (s *slowReads) hold() (goOn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gate = nil
		close(gate)
	})
}

func (s *slowReads) Scan(t store.Table, prefix, from []byte, fn func(key, value []byte) store.Next) error {
	err := s.Store.Scan(t, prefix, from, fn)
	s.mu.Lock()
	gate := s.gate
	if gate != nil {
		s.held++
	}
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return err
}

// simulateSlow is simulate over a store that can be slow to read.
func simulateSlow(t *testing.T, f func(t *testing.T, s *sim, slow *slowReads)) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMemory()
		slow := &slowReads{Store: mem}
		b, err := broker.NewOver(broker.Config{Log: quiet}, slow)
		if err != nil {
			t.Fatal(err)
		}
		s := &sim{t: t, b: b, mem: mem, goOn: func() {}}
		defer s.stop()
		f(t, s, slow)
	})
}

// A page that was read before a change was on disk, and comes after it was delivered,
// brings nothing old: what is live never moves back.
func TestAReplayBringsNothingOlderThanWhatWasDelivered(t *testing.T) {
	simulateSlow(t, func(t *testing.T, s *sim, slow *slowReads) {
		b := s.b
		const n = 300 // more than is read ahead
		for i := range n {
			stay(t, b, fmt.Sprintf("t/%03d", i), "old", 0)
		}
		sub, p := s.joins(mqtt.V5, "sub", still), s.joins(mqtt.V5, "p", still)
		sub.subscribe("t/#", 1)
		first := sub.expect("t/000", "old")
		goOn := s.hold()
		p.publish("t/299", "new", 1, 1, retain) // it waits for the disk
		synctest.Wait()
		sub.ack(mqtt.PUBACK, first.ID)
		synctest.Wait()
		read := slow.hold()
		defer read()
		defer goOn()
		got := ""
		for i := 1; i < 192; i++ { // the next page is read, and held
			sub.want(fmt.Sprintf("t/%03d", i), "old")
		}
		synctest.Wait()
		goOn()
		p.wantAck(mqtt.PUBACK, 1)
		synctest.Wait()
		read()
		for range n - 192 {
			m := sub.message()
			if sub.ack(mqtt.PUBACK, m.ID); string(m.Topic) == "t/299" {
				got += string(m.Payload)
			}
		}
		sub.nothing()
		if got != "new" {
			t.Errorf("t/299 came as %q", got)
		}
	})
}

// Who subscribes again and again before a replay can begin has one, not as many as
// it has asked for.
func TestOneFilterHasOneReplay(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		for i := range 10 {
			stay(t, s.b, fmt.Sprint("t/", i), "x", 0)
		}
		c, p := s.joins(mqtt.V5, "c", still), s.joins(mqtt.V5, "p", still)
		goOn := s.hold()
		p.publish("u", "x", 1, 1, retain) // replays wait for it
		synctest.Wait()
		for range 50 {
			c.subscribe("t/#", 1)
		}
		c.nothing()
		goOn()
		for i := range 10 {
			c.want(fmt.Sprint("t/", i), "x")
		}
		c.nothing()
	})
}

// What changed at QoS 0 while a session was away is in no queue: its replay brings it
// when it goes on.
func TestAReplayThatGoesOnBringsWhatNoQueueKept(t *testing.T) {
	for _, test := range []struct {
		name    string
		restart func(*sim)
	}{{"in one run", func(*sim) {}}, {"over a crash", (*sim).crash}} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, broker.Config{}, func(s *sim) {
				const n = 300
				for i := range n {
					stay(t, s.b, fmt.Sprintf("t/%03d", i), "old", 0)
				}
				c := s.joins(mqtt.V5, "c", month)
				c.subscribe("t/#", 1)
				c.want("t/000", "old")
				c.nc.Close()
				time.Sleep(2 * time.Second) // it is gone, and so is noted
				for _, m := range []mqtt.Message{{Topic: "t/298", QoS: 0}, {Topic: "t/299", QoS: 1}} {
					m.Payload, m.Retain = []byte("new"), true
					pub(t, s.b, &m)
				}
				test.restart(s)
				c = s.joins(mqtt.V5, "c", month)
				got := map[string]string{}
				for range n { // what was under way comes again
					m := c.message()
					if m.QoS == 1 {
						c.ack(mqtt.PUBACK, m.ID)
					}
					got[string(m.Topic)] += fmt.Sprintf("%s %v,", m.Payload, m.Retain)
					if len(got) == n-1 || len(got) == n && got["t/299"] != "" {
						break
					}
				}
				if got["t/297"] != "old true," || got["t/298"] != "new true," || got["t/299"] != "new false," {
					t.Errorf("got %q, %q and %q", got["t/297"], got["t/298"], got["t/299"])
				}
				c.nothing()
			})
		})
	}
}

// What is replayed, with every option and whatever goes on meanwhile.
func TestWhatIsReplayed(t *testing.T) {
	const n = 400 // a window and what is read ahead, and more
	topic := func(i int) string { return fmt.Sprintf("t/%03d", i) }
	ask := func(change ...func(*mqtt.Subscription)) []mqtt.Subscription {
		f := mqtt.Subscription{Filter: "t/#", QoS: 1}
		for _, do := range change {
			do(&f)
		}
		return []mqtt.Subscription{f}
	}
	one := func(p *mqtt.Connect) { still(p); p.ReceiveMaximum = 1 }
	for _, test := range []struct {
		name    string
		connect func(*mqtt.Connect)
		filters []mqtt.Subscription
		after   int // what was received when `then` is done
		then    func(s *sim, c *client)
		want    func(topic string) int // how often each topic comes, nil: once; below 0: any number
	}{
		{name: "all of it", connect: still, filters: ask()},
		{name: "with a window of 1", connect: one, filters: ask()},
		{name: "two filters that both match", connect: still, filters: append(ask(), mqtt.Subscription{Filter: "+/+", QoS: 1}), want: func(string) int { return 2 }},
		{name: "the same filter twice", connect: still, filters: append(ask(), ask()...)},
		{name: "a shared subscription", connect: still, filters: []mqtt.Subscription{{Filter: "$share/g/t/#", QoS: 1}}, want: func(string) int { return 0 }},
		{name: "retain handling 2", connect: still, filters: ask(func(f *mqtt.Subscription) { f.RetainHandling = 2 }), want: func(string) int { return 0 }},
		{name: "retain handling 1", connect: still, filters: ask(func(f *mqtt.Subscription) { f.RetainHandling = 1 })},
		{name: "retain handling 1 once more, half way", connect: still, filters: ask(), after: 10, then: func(_ *sim, c *client) {
			c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 9, Filters: ask(func(f *mqtt.Subscription) { f.RetainHandling = 1 })}, c.v))
		}},
		{name: "No Local, what others published", connect: still, filters: ask(func(f *mqtt.Subscription) { f.NoLocal = true })},
		{name: "an unsubscribe half way", connect: one, filters: ask(), after: 10, then: func(_ *sim, c *client) {
			c.send(mqtt.AppendUnsubscribe(nil, &mqtt.Unsubscribe{ID: 9, Filters: []string{"t/#"}}, c.v))
		}, want: func(topic string) int {
			if topic > "t/200" {
				return 0
			}
			return -1
		}},
		{name: "topics that are cleared half way", connect: one, filters: ask(), after: 10, then: func(s *sim, _ *client) {
			for i := 300; i < n; i++ {
				pub(s.t, s.b, &mqtt.Message{Topic: topic(i), Retain: true})
			}
		}},
		{name: "topics that change half way", connect: one, filters: ask(), after: 10, then: func(s *sim, _ *client) {
			for i := 300; i < n; i++ {
				stay(s.t.(*testing.T), s.b, topic(i), "new", 0)
			}
		}},
		{name: "topics that expire half way", connect: one, filters: ask(), after: 10, then: func(*sim, *client) { time.Sleep(2 * time.Minute) },
			want: func(topic string) int {
				if strings.HasSuffix(topic, "7") && topic > "t/200" {
					return 0
				}
				return -1
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, broker.Config{Limits: broker.Limits{Window: 16}}, func(s *sim) {
				for i := range n {
					seconds := 0
					if i%10 == 7 {
						seconds = 60
					}
					stay(t, s.b, topic(i), "x", seconds)
				}
				c := s.joins(mqtt.V5, "c", test.connect)
				c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: test.filters}, c.v))
				if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.SUBACK {
					t.Fatalf("%v came before SUBACK", mqtt.Type(first>>4))
				}
				got := map[string]int{}
				for k := 0; ; k++ {
					if k == test.after && test.then != nil {
						test.then(s, c)
					}
					first, body, err := c.next(3 * time.Second)
					if err != nil {
						break
					}
					if mqtt.Type(first>>4) != mqtt.PUBLISH {
						continue
					}
					var m mqtt.Publish
					if err := m.Decode(first, body, c.v); err != nil {
						t.Fatal(err)
					}
					if got[string(m.Topic)]++; m.QoS == 1 {
						c.ack(mqtt.PUBACK, m.ID)
					}
				}
				for i := range n {
					want := 1
					if test.want != nil {
						want = test.want(topic(i))
					}
					if k := got[topic(i)]; want >= 0 && k != want {
						s.t.Fatalf("%s came %d times, want %d", topic(i), k, want)
					}
				}
			})
		})
	}
}

// No Local leaves out what the client itself has retained, also after a restart and on
// another connection [MQTT-3.8.3-3].
func TestNoLocalHoldsForRetainedMessages(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		c := s.joins(mqtt.V5, "c", still)
		c.publish("t/own", "x", 1, 1, retain)
		c.wantAck(mqtt.PUBACK, 1)
		other := s.joins(mqtt.V5, "other", still)
		other.publish("t/other", "x", 1, 1, retain)
		other.wantAck(mqtt.PUBACK, 1)
		s.restart()
		c = s.joins(mqtt.V5, "c", still)
		c.subscribeWith(0, mqtt.Subscription{Filter: "t/#", QoS: 1, NoLocal: true})
		c.want("t/other", "x")
		c.nothing()
	})
}

// What was sent and is not acknowledged is on disk: of it only the topics are held in
// memory, however large the messages are.
func TestAReplayHoldsNoMessageThatWasSent(t *testing.T) {
	const n, size = 60, 200_000
	_, addr := start(t, broker.Config{Data: t.TempDir()})
	p, c := dial(t, addr, mqtt.V5), dial(t, addr, mqtt.V5)
	p.connect("p")
	c.connect("c")
	for i := range n {
		p.publish(fmt.Sprint("t/", i), strings.Repeat("x", size), 1, 1, retain)
		p.wantAck(mqtt.PUBACK, 1)
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	c.subscribe("t/#", 1)
	for range n {
		if m := c.message(); len(m.Payload) != size {
			t.Fatalf("got %d bytes", len(m.Payload))
		}
	}
	c.in = nil
	held := heap() - before
	for end := time.Now().Add(5 * time.Second); held > n*size/3 && time.Now().Before(end); held = heap() - before { // what the store does beside takes memory, too
	}
	if held > n*size/3 {
		t.Errorf("%d MB more are held, for %d MB that were sent", held>>20, n*size>>20)
	}
}

// Who asks for a thousand filters again and again gets each once more, not as often as
// it has asked.
func TestManyFiltersAskedForAgainAndAgain(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		const filters, times = 100, 20
		var all []mqtt.Subscription
		for i := range filters {
			stay(t, s.b, fmt.Sprintf("t/%03d", i), "x", 0)
			all = append(all, mqtt.Subscription{Filter: fmt.Sprintf("+/%03d", i), QoS: 1})
		}
		c := s.joins(mqtt.V5, "c", func(p *mqtt.Connect) { still(p); p.ReceiveMaximum = 1 })
		for range times {
			c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: all}, c.v))
			synctest.Wait()
		}
		got, total := map[string]int{}, 0
		for {
			first, body, err := c.next(2 * time.Second)
			if err != nil {
				break
			}
			if mqtt.Type(first>>4) != mqtt.PUBLISH {
				continue
			}
			var m mqtt.Publish
			if err := m.Decode(first, body, c.v); err != nil {
				s.t.Fatal(err)
			}
			c.ack(mqtt.PUBACK, m.ID)
			got[string(m.Topic)]++
			total++
		}
		if len(got) != filters || total > 2*filters+128 { // and what was read ahead before
			s.t.Errorf("%d topics came, %d messages; want %d, and not %d times that", len(got), total, filters, times)
		}
	})
}

// A page whose reading lasts longer than it is known what changed meanwhile is read
// once more.
func TestAPageThatTookTooLongIsReadOnceMore(t *testing.T) {
	simulateSlow(t, func(t *testing.T, s *sim, slow *slowReads) {
		stay(t, s.b, "t/a", "old", 0)
		stay(t, s.b, "t/b", "old", 0)
		sub := s.joins(mqtt.V5, "sub", still)
		read := slow.hold()
		defer read()
		sub.subscribe("t/#", 1)
		synctest.Wait()
		stay(t, s.b, "t/a", "new", 0)
		sub.want("t/a", "new")
		for i := range 1<<16 + 1 { // more changes than are known
			stay(t, s.b, fmt.Sprint("u/", i), "x", 0)
		}
		read()
		sub.want("t/b", "old")
		sub.nothing()
	})
}

// However many replay, pages are read for a few at once, in turn; the others' commands
// find workers.
func TestReplaysTakeTurns(t *testing.T) {
	simulateSlow(t, func(t *testing.T, s *sim, slow *slowReads) {
		stay(t, s.b, "t/a", "x", 0)
		read := slow.hold()
		defer read()
		var all []*client
		for i := range 10 * runtime.GOMAXPROCS(0) {
			c := s.joins(mqtt.V5, fmt.Sprint(i), still)
			c.subscribe("t/#", 1)
			all = append(all, c)
		}
		synctest.Wait()
		if most := max(runtime.GOMAXPROCS(0)/2, 1); slow.held != most {
			t.Errorf("%d pages are read at once, want %d", slow.held, most)
		}
		all[0].nc.Close() // its turn comes to nothing
		read()
		for _, c := range all[1:] {
			c.want("t/a", "x")
		}
	})
}

// At QoS 2 the replay of a lasting session goes by its queue, a little at a time: what
// else waits there is not cut for it.
func TestAReplayDoesNotFillTheQueue(t *testing.T) {
	simulate(t, broker.Config{}, func(s *sim) {
		const n = 2000
		for i := range n {
			pub(t, s.b, &mqtt.Message{Topic: fmt.Sprintf("t/%04d", i), Payload: []byte("x"), QoS: 2, Retain: true})
		}
		c := s.joins(mqtt.V5, "c", month, window(1))
		c.subscribe("t/#", 2)
		for i := range n {
			m := c.expect(fmt.Sprintf("t/%04d", i), "x")
			if i%500 == 499 {
				time.Sleep(3 * time.Second)
				held := 0
				if err := s.mem.Logs('q', func(_ uint64, _ store.Pos, v []byte) bool { held += bytes.Count(v, []byte("t/")); return true }); err != nil {
					t.Fatal(err)
				}
				if held > 300 {
					s.t.Fatalf("after %d messages %d stand in the queue", i, held)
				}
			}
			c.done(m)
		}
	})
}
