package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// Strain is clients that make a broker hold as much as they can, beside a quiet pair.
// What the broker refuses and closes is no error: they come back.
type Strain struct {
	Name string
	// Transport is tcp, tls or ws: what its clients use.
	Transport string
	run       func(s *straining)
}

// Strained is what a Strain came to.
type Strained struct {
	Name string
	// Peak is the most that the broker held, RssAnon and RssShmem in bytes.
	Peak int64
	// Pair is a publisher and a subscriber that send ten messages a second at QoS 1;
	// Err says that they lost one.
	Pair Result
	Err  error
	// Connected is how many connections the broker let in, Closed how many it ended
	// or refused, Sent how many packets it took from those that flood.
	Connected, Closed, Sent int64
}

// Run strains the broker at t for about a time; address is its listener of the
// Strain's transport.
func (s Strain) Run(t Target, address string, took time.Duration) Strained {
	r := Strained{Name: s.Name}
	most := watch(t.PID)
	pair := Flow{Name: "quiet pair", Publishers: 1, Subscribers: 1, QoS: 1, Window: 1000, Rate: 10, Messages: int(10 * took.Seconds()), Size: 64}
	var wg sync.WaitGroup
	wg.Go(func() { r.Pair, r.Err = pair.Run(t) })
	time.Sleep(300 * time.Millisecond) // the pair is connected
	ctx, cancel := context.WithTimeout(context.Background(), took)
	defer cancel()
	x := &straining{ctx: ctx, address: address, dial: dials[s.Transport]}
	s.run(x)
	<-ctx.Done()
	wg.Wait()
	r.Peak = most()
	x.close()
	r.Connected, r.Closed, r.Sent = x.connected.Load(), x.closed.Load(), x.sent.Load()
	return r
}

var dials = map[string]func(address string) (net.Conn, error){
	"tcp": func(a string) (net.Conn, error) { return net.Dial("tcp", a) },
	"tls": DialTLS,
	"ws":  DialWebSocket,
}

// straining is a Strain that goes on.
type straining struct {
	ctx                     context.Context
	address                 string
	dial                    func(address string) (net.Conn, error)
	connected, closed, sent atomic.Int64
	mu                      sync.Mutex // guards the following
	open                    []net.Conn
	ended                   bool
}

// errEnded says that the time is over.
var errEnded = errors.New("bench: the time is over")

// client opens a connection with a session.
func (s *straining) client(id string, change ...func(*mqtt.Connect)) (*conn, error) {
	nc, err := s.transport()
	if err != nil {
		return nil, err
	}
	p := &mqtt.Connect{Version: mqtt.V311, ClientID: id, CleanStart: true, KeepAlive: 600, ReceiveMaximum: 65535}
	for _, f := range change {
		f(p)
	}
	c := &conn{nc: nc, buf: make([]byte, 512)}
	if _, err := nc.Write(mqtt.AppendConnect(nil, p)); err != nil {
		return nil, s.lost(nc, err)
	}
	letIn := false
	for err == nil && !letIn {
		err = c.read(func(first byte, body []byte) error {
			if letIn = first>>4 == byte(mqtt.CONNACK) && len(body) > 1 && body[1] == 0; !letIn {
				return errAnswered
			}
			return nil
		})
	}
	if err != nil {
		return nil, s.lost(nc, err)
	}
	s.connected.Add(1)
	return c, nil
}

// transport opens a connection without a session.
func (s *straining) transport() (net.Conn, error) {
	nc, err := s.dial(s.address)
	if err != nil {
		s.closed.Add(1)
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		nc.Close() //nolint:errcheck // it ends either way
		return nil, errEnded
	}
	s.open = append(s.open, nc)
	return nc, nil
}

// lost notes that the broker has ended a connection.
func (s *straining) lost(nc net.Conn, err error) error {
	if s.ctx.Err() == nil {
		s.closed.Add(1)
	}
	nc.Close() //nolint:errcheck // it ends either way
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.open, nc); i >= 0 {
		s.open = slices.Delete(s.open, i, i+1)
	}
	return err
}

func (s *straining) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, nc := range s.open {
		nc.Close() //nolint:errcheck // it ends either way
	}
}

// each does something for n clients, some of them at a time, until the time is over.
func (s *straining) each(n int, do func(i int)) {
	var wg sync.WaitGroup
	for k := range together {
		wg.Go(func() {
			for i := k; i < n && s.ctx.Err() == nil; i += together {
				do(i)
			}
		})
	}
	wg.Wait()
}

// again does something for each of n clients, and again, until the time is over.
func (s *straining) again(n int, do func(i int)) {
	for i := range n {
		go func() {
			for s.ctx.Err() == nil {
				do(i)
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
}

// stalled are subscribers that never read what they are sent.
func (s *straining) stalled(n int, filter string, qos byte, lasting bool) {
	s.each(n, func(i int) {
		c, err := s.client(fmt.Sprintf("stalled-%d", i), lasts(lasting))
		if err != nil {
			return
		}
		if err := c.subscribe(filter, qos); err != nil {
			s.lost(c.nc, err) //nolint:errcheck // noted
		}
	})
}

// readers are subscribers that acknowledge all they are sent.
func (s *straining) readers(n int, filter string, qos byte, lasting bool) {
	s.each(n, func(i int) {
		c, err := s.client(fmt.Sprintf("reader-%d", i), lasts(lasting))
		if err != nil {
			return
		}
		if err := c.subscribe(filter, qos); err != nil {
			s.lost(c.nc, err) //nolint:errcheck // noted
			return
		}
		go s.answer(c)
	})
}

func lasts(yes bool) func(*mqtt.Connect) { return func(p *mqtt.Connect) { p.CleanStart = !yes } }

// answer acknowledges what comes until the connection ends.
func (s *straining) answer(c *conn) {
	c.buf = make([]byte, 4<<10)
	var mu sync.Mutex
	s.acknowledge(c, &mu)
}

// acknowledge answers PUBLISH, PUBREC and PUBREL; mu guards writing. Large packets are
// not kept: of a PUBLISH its head is enough.
func (s *straining) acknowledge(c *conn, mu *sync.Mutex) {
	err := eachHead(c.nc, c.in, c.buf, func(first byte, head []byte) error {
		var t mqtt.Type
		id := uint16(0)
		switch mqtt.Type(first >> 4) {
		case mqtt.PUBLISH:
			_, n, qos, ok := sentAt(first, head)
			if !ok || qos == 0 {
				return nil
			}
			t, id = mqtt.PUBACK, n
			if qos == 2 {
				t = mqtt.PUBREC
			}
		case mqtt.PUBREC:
			t, id = mqtt.PUBREL, uint16(head[0])<<8|uint16(head[1])
		case mqtt.PUBREL:
			t, id = mqtt.PUBCOMP, uint16(head[0])<<8|uint16(head[1])
		default:
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		c.ack(t, id)
		return c.flush()
	})
	s.lost(c.nc, err) //nolint:errcheck // noted
}

// headMost is how much of a packet eachHead hands on.
const headMost = 256

// eachHead calls fn with the beginning of each packet of a stream; in was read before.
func eachHead(r io.Reader, in, buf []byte, fn func(first byte, head []byte) error) error {
	in, skip := slices.Clone(in), 0
	for {
		for {
			n := min(skip, len(in))
			in, skip = in[n:], skip-n
			first, length, head, ok := cutHead(in)
			if !ok || len(in) < head+min(length, headMost) {
				break
			}
			if err := fn(first, in[head:head+min(length, headMost)]); err != nil {
				return err
			}
			skip = head + length
		}
		n, err := r.Read(buf)
		if err != nil {
			return err
		}
		in = append(slices.Clip(in), buf[:n]...)
	}
}

// cutHead reads a packet's first byte and remaining length.
func cutHead(b []byte) (first byte, length, head int, ok bool) {
	for k := 1; k < len(b) && k <= 4; k++ {
		length |= int(b[k]&0x7f) << (7 * (k - 1))
		if b[k] < 0x80 {
			return b[0], length, 1 + k, true
		}
	}
	return 0, 0, 0, false
}
