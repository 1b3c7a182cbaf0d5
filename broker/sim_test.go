package broker_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// sim is a broker over the store's twin, in a bubble of synctest: its clients are
// pipes, its time is the bubble's, and it can crash.
type sim struct {
	t    testing.TB
	cfg  broker.Config
	mem  *store.Memory
	b    *broker.Broker
	live []net.Conn
	goOn func() // lets held commits go on
}

// simulate runs f in a bubble.
func simulate(t *testing.T, cfg broker.Config, f func(s *sim)) {
	synctest.Test(t, func(t *testing.T) {
		cfg.Log = quiet
		s := &sim{t: t, cfg: cfg, mem: store.NewMemory(), goOn: func() {}}
		s.start()
		defer s.stop()
		defer func() { s.goOn() }() // also of a test that failed
		f(s)
	})
}

func (s *sim) start() {
	s.t.Helper()
	var err error
	if s.b, err = broker.NewOver(s.cfg, s.mem); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the broker as SIGTERM does.
func (s *sim) stop() {
	s.t.Helper()
	if err := s.b.Close(); err != nil {
		s.t.Error(err)
	}
	s.hangUp()
}

func (s *sim) restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

// later lets much time pass: the broker sleeps through it, so that no timer runs.
func (s *sim) later(d time.Duration) {
	s.t.Helper()
	s.stop()
	time.Sleep(d)
	s.start()
}

func (s *sim) hangUp() {
	for _, nc := range s.live {
		nc.Close()
	}
	s.live = nil
	synctest.Wait()
}

// errCrash ends a broker whose disk is not ours any more.
var errCrash = errors.New("crash")

// crash leaves what is committed now, and starts another broker over it.
func (s *sim) crash() {
	s.t.Helper()
	old, after := s.mem, s.mem.Crash()
	old.FailNext(errCrash) // what the old one still does is seen by nobody
	s.goOn()
	for _, nc := range s.live {
		nc.Close()
	}
	s.live = nil
	if err := s.b.Close(); err != nil && !errors.Is(err, errCrash) && !errors.Is(err, store.ErrFailed) {
		s.t.Error(err)
	}
	s.mem = after
	s.start()
}

// dial connects a client by a pipe.
func (s *sim) dial(v mqtt.Version) *client {
	here, there := net.Pipe()
	go s.b.ServeConn(context.Background(), there)
	s.live = append(s.live, here)
	return &client{t: s.t, nc: here, v: v}
}

// hold makes every commit wait; the function that it returns lets them go on.
func (s *sim) hold() (goOn func()) {
	gate, mem := make(chan struct{}), s.mem
	mem.Hold(gate)
	s.goOn = sync.OnceFunc(func() { close(gate); mem.Hold(nil); synctest.Wait() })
	return s.goOn
}

// still turns the keep alive off: time is nothing in a bubble.
func still(p *mqtt.Connect) { p.KeepAlive = 0 }

// nothing wants that no packet comes within a while.
func (c *client) nothing() {
	c.t.Helper()
	if first, _, err := c.next(2 * time.Second); err == nil {
		c.t.Fatalf("got %v, want nothing", mqtt.Type(first>>4))
	}
}

// joins opens a connection and sends its CONNECT, which must be taken.
func (s *sim) joins(v mqtt.Version, id string, change ...func(*mqtt.Connect)) *client {
	s.t.Helper()
	c := s.dial(v)
	if a := c.connect(id, change...); a.Reason != mqtt.Success {
		s.t.Fatalf("CONNECT of %s: %v", id, a.Reason)
	}
	return c
}

// stays keeps a connection alive for d.
func (c *client) stays(d, every time.Duration) {
	c.t.Helper()
	for ; d > 0; d -= every {
		time.Sleep(every)
		c.quiet()
	}
}
