package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// Retained is topics that each hold a message, and subscribers that ask for all of
// them.
type Retained struct {
	Topics int
	Size   int // payload in bytes
	// Publishers fill the topics, each with Window messages unacknowledged.
	Publishers, Window int
}

// retainedFilter matches the topics of Retained.
const retainedFilter = "bench/retained/#"

func retainedTopic(i int) []byte { return fmt.Appendf(nil, "bench/retained/%03d/%07d", i%1000, i) }

// Fill retains a message at QoS 1 on each topic; peak is as Replay's.
func (r Retained) Fill(t Target) (res Result, peak int64, err error) {
	res = Result{Name: fmt.Sprintf("%d retained topics of %d B", r.Topics, r.Size), Messages: r.Topics}
	most := watch(t.PID)
	err = measured(t, &res, r.Publishers, func(k int) error {
		c, err := connect(t.Address, fmt.Sprintf("retain-%d", k), true)
		if err != nil {
			return err
		}
		defer c.close()
		return r.fill(c, k)
	})
	return res, most(), err
}

// fill publishes every Publishers-th topic from k on.
func (r Retained) fill(c *conn, k int) error {
	payload := make([]byte, r.Size)
	for next, open := k, 0; next < r.Topics || open > 0; {
		for ; next < r.Topics && open < r.Window; next += r.Publishers {
			c.next = max(c.next+1, 1)
			c.out = mqtt.AppendPublish(c.out, &mqtt.Publish{Topic: retainedTopic(next), Payload: payload, QoS: 1, Retain: true, ID: c.next}, mqtt.V311)
			open++
		}
		if err := c.flush(); err != nil {
			return err
		}
		if err := c.read(func(first byte, _ []byte) error { open -= isType(first, mqtt.PUBACK); return nil }); err != nil {
			return fmt.Errorf("publisher at topic %d: %w", next, err)
		}
	}
	return nil
}

// isType is 1 for a packet of type t, else 0.
func isType(first byte, t mqtt.Type) int {
	if mqtt.Type(first>>4) == t {
		return 1
	}
	return 0
}

// Replay is what subscribing to all retained topics came to. Messages and Took are of
// all subscribers together.
type Replay struct {
	Result
	// Suback and First are from the SUBSCRIBE to SUBACK and to the first message, the
	// longest of all subscribers.
	Suback, First time.Duration
	// Peak is the most that the broker held meanwhile, RssAnon and RssShmem in bytes.
	Peak int64
	// All is true if every subscriber got every topic.
	All bool
}

// Replay lets some clients subscribe to all topics at once, at QoS 1, and reads until
// each has every message, at most for a time. Messages out of topic order, and
// messages that come twice, are errors.
func (r Retained) Replay(t Target, v mqtt.Version, subscribers int, atMost time.Duration) (Replay, error) {
	p := Replay{Result: Result{Name: fmt.Sprintf("replay of %d topics to %d clients, MQTT %d", r.Topics, subscribers, v)}}
	most := watch(t.PID)
	var mu sync.Mutex
	var n atomic.Int64
	end := time.Now().Add(atMost)
	err := measured(t, &p.Result, subscribers, func(k int) error {
		s := replaying{want: r.Topics, end: end}
		err := s.run(t.Address, v, fmt.Sprintf("replay-%d", k))
		n.Add(int64(s.got))
		mu.Lock()
		defer mu.Unlock()
		p.Suback, p.First = max(p.Suback, s.suback), max(p.First, s.first)
		return err
	})
	p.Messages, p.Peak = int(n.Load()), most()
	p.All = p.Messages == r.Topics*subscribers
	return p, err
}

// replaying is one subscriber.
type replaying struct {
	want, got     int
	end           time.Time
	suback, first time.Duration
	last          string
}

func (s *replaying) run(address string, v mqtt.Version, id string) error {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	c, err := handshakeAs(nc, id, true, v)
	if err != nil {
		return err
	}
	defer c.nc.Close() //nolint:errcheck // it was read to its end
	sub := &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: retainedFilter, QoS: 1}}}
	began := time.Now()
	if _, err := c.nc.Write(mqtt.AppendSubscribe(nil, sub, v)); err != nil {
		return err
	}
	for s.got < s.want && time.Now().Before(s.end) {
		err := c.read(func(first byte, body []byte) error { return s.take(c, first, body, began) })
		if err != nil {
			return fmt.Errorf("%s at %d of %d: %w", id, s.got, s.want, err)
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
	return nil
}

var (
	errOrder  = errors.New("bench: a retained message came out of topic order, or twice")
	errSuback = errors.New("bench: a retained message came before SUBACK")
)

func (s *replaying) take(c *conn, first byte, body []byte, began time.Time) error {
	switch mqtt.Type(first >> 4) {
	case mqtt.SUBACK:
		s.suback = time.Since(began)
	case mqtt.PUBLISH:
		n := 2 + int(binary.BigEndian.Uint16(body))
		topic := string(body[2:n])
		switch {
		case s.suback == 0:
			return errSuback
		case topic <= s.last:
			return errOrder
		case s.got == 0:
			s.first = time.Since(began)
		}
		s.got++
		s.last = topic
		c.ack(mqtt.PUBACK, binary.BigEndian.Uint16(body[n:]))
	}
	return nil
}

// Watch samples the broker's memory until the function that it returns is called, which
// returns the most that it held, RssAnon and RssShmem in bytes.
func (t *Target) Watch() (most func() int64) { return watch(t.PID) }

// watch samples a process's memory until the function that it returns is called, which
// returns the most that was held.
func watch(pid int) (most func() int64) {
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		peak := int64(0)
		for {
			peak = max(peak, Memory(pid).Held())
			select {
			case <-tick.C:
			case <-stop:
				done <- peak
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-done }
}
