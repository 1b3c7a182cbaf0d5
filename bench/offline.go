package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Offline is publishers that fill the queues of lasting sessions which are away,
// and then the sessions' return.
type Offline struct {
	Name       string
	Publishers int // each with one session
	Window     int
	Messages   int
	Size       int
}

// Run fills the queues and drains them; the second result is the drain. The broker still
// deletes what was drained when it returns.
func (o Offline) Run(t Target) (fill, drain Result, err error) {
	f := &Flow{Name: o.Name, QoS: 1, Window: o.Window, Size: o.Size}
	each := o.Messages / o.Publishers
	var pubs []*pub
	id := func(i int) string { return fmt.Sprintf("%.8s-away-%d", o.Name, i) }
	for i := range o.Publishers {
		topic := fmt.Sprintf("bench/%s/%d", o.Name, i)
		s, err := connect(t.Address, id(i), false)
		if err != nil {
			return fill, drain, err
		}
		if err := s.subscribe(topic, 1); err != nil {
			return fill, drain, err
		}
		s.close()
		c, err := connect(t.Address, fmt.Sprintf("%.8s-pub-%d", o.Name, i), true)
		if err != nil {
			return fill, drain, err
		}
		defer c.close()
		pubs = append(pubs, &pub{conn: c, flow: f, topic: []byte(topic), n: each})
	}
	fill = Result{Name: o.Name + ": to offline sessions"}
	if err := measured(t, &fill, len(pubs), func(i int) error { return pubs[i].run() }); err != nil {
		return fill, drain, err
	}
	for _, p := range pubs {
		fill.Messages += len(p.acks)
	}
	var acks []time.Duration
	for _, p := range pubs {
		acks = append(acks, p.acks...)
	}
	fill.AckP50, fill.P50, fill.P99 = quantile(acks, 0.5), quantile(acks, 0.5), quantile(acks, 0.99)
	drain = Result{Name: o.Name + ": drain", Messages: each * o.Publishers}
	err = measured(t, &drain, o.Publishers, func(i int) error {
		c, err := connect(t.Address, id(i), false)
		if err != nil {
			return err
		}
		s := &sub{conn: c, want: each}
		defer c.close()
		return s.run()
	})
	return fill, drain, err
}

// measured runs n goroutines and notes what they cost the broker.
func measured(t Target, r *Result, n int, run func(i int) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	before, begin := t.usage(), time.Now()
	for i := range n {
		wg.Go(func() { errs <- run(i) })
	}
	wg.Wait()
	r.Took = time.Since(begin)
	t.charge(r, before)
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Idle is connections that have sent one SUBSCRIBE and one fix, and then nothing.
type Idle struct {
	Name        string
	Connections int
	// Dial opens a transport to an address; nil is TCP.
	Dial func(address string) (net.Conn, error)
	// Rest is how long they are left alone before memory is read.
	Rest time.Duration
}

// DialWebSocket opens a WebSocket at the path /mqtt.
func DialWebSocket(address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+address+"/mqtt", &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
}

// DialTLS opens a TLS connection without looking at the certificate: it is for a
// broker on the same machine.
func DialTLS(address string) (net.Conn, error) {
	return tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above
}

// DialTLSAgain is DialTLS for clients that keep their session tickets: who comes back
// resumes, if the broker knows the ticket. All of them share one, the newest.
func DialTLSAgain() func(address string) (net.Conn, error) {
	c := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)} //nolint:gosec // see above
	return func(address string) (net.Conn, error) { return tls.Dial("tcp", address, c) }
}

// Run opens the connections, many at a time, and measures memory for each one;
// Took and CPU are those of connecting.
func (o Idle) Run(t Target) (r Result, err error) {
	before := Memory(t.PID).Anon
	r = Result{Name: o.Name, Messages: o.Connections}
	conns := make([]*conn, o.Connections)
	err = measured(t, &r, together, func(k int) error {
		for i := k; i < o.Connections; i += together {
			c, err := o.one(t.Address, i)
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			conns[i] = c
		}
		return nil
	})
	if err == nil {
		time.Sleep(o.Rest)
		after := Memory(t.PID)
		r.Bytes, r.RSS = (after.Anon-before)/int64(o.Connections), after.RSS
	}
	for _, c := range conns {
		if c != nil {
			c.nc.Close() //nolint:errcheck // it ends either way
		}
	}
	return r, err
}

func (o Idle) one(address string, i int) (*conn, error) {
	dial := o.Dial
	if dial == nil {
		dial = func(a string) (net.Conn, error) { return net.Dial("tcp", a) }
	}
	nc, err := dial(address)
	if err != nil {
		return nil, err
	}
	c, err := handshake(nc, fmt.Sprintf("idle-%06d", i), true)
	if err != nil {
		return nil, err
	}
	c.buf = make([]byte, 64)
	if err := c.subscribe(fmt.Sprintf("idle/%06d/inbox", i), 1); err != nil {
		return nil, err
	}
	c.publish([]byte(fmt.Sprintf("fix/%06d", i)), []byte(`12345678{"lat":48.2082,"lon":16.3738,"tst":1790000060}`), 1, time.Now())
	err = c.flush()
	for err == nil {
		seen := false
		if err = c.read(func(first byte, _ []byte) error { seen = first>>4 == 4; return nil }); seen {
			break
		}
	}
	return c, err
}
