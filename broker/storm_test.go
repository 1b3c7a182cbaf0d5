package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// peer is a client as the specification wants it, with a session of its own that
// outlives its connections: what it sent and is not acknowledged, and the QoS 2
// identifiers that it has received.
type peer struct {
	id   string
	user string // empty for none
	// clean asks for a session that ends with the connection.
	clean bool
	addr  net.Addr
	v     mqtt.Version
	rnd   *rand.Rand
	nc    net.Conn
	in    []byte
}

// dial connects, with patience: the broker may be starting.
func (p *peer) dial(window uint16) (err error) {
	for range 200 {
		if err = p.connect(window); err == nil || errors.Is(err, errEarly) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

var errEarly = errors.New("a packet before CONNACK")

func (p *peer) connect(window uint16) error {
	nc, err := net.Dial("tcp", p.addr.String())
	if err != nil {
		return err
	}
	if p.nc != nil && p.rnd.IntN(2) == 0 {
		p.nc.Close() // else the old one is taken over
	}
	p.nc, p.in = nc, nil
	c := &mqtt.Connect{Version: p.v, ClientID: p.id, HasUsername: p.user != "", Username: p.user, KeepAlive: 60, SessionExpiry: 3600, ReceiveMaximum: window}
	if p.clean {
		c.CleanStart, c.SessionExpiry = true, 0
	}
	if err := p.send(mqtt.AppendConnect(nil, c)); err != nil {
		return err
	}
	first, body, err := p.read()
	if err == nil && mqtt.Type(first>>4) != mqtt.CONNACK {
		err = fmt.Errorf("%w: %v", errEarly, mqtt.Type(first>>4))
	}
	if err == nil {
		_, err = mqtt.DecodeConnack(body, p.v)
	}
	return err
}

func (p *peer) send(b []byte) error { _, err := p.nc.Write(b); return err }

func (p *peer) ack(t mqtt.Type, id uint16) error {
	return p.send(mqtt.AppendAck(nil, mqtt.Ack{Type: t, ID: id}, p.v))
}

func (p *peer) read() (first byte, body []byte, err error) {
	for {
		f, b, n, err := mqtt.Frame(p.in, 1<<28)
		if err != nil {
			return 0, nil, err
		}
		if n > 0 {
			p.in = p.in[n:]
			return f, b, nil
		}
		if err := p.nc.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return 0, nil, err
		}
		buf := make([]byte, 4096)
		k, err := p.nc.Read(buf)
		if k == 0 {
			return 0, nil, err
		}
		p.in = append(p.in, buf[:k]...)
	}
}

// publisher publishes n messages at a QoS, some of them at a time, and loses its
// connection again and again.
type publisher struct {
	peer
	to   string // a topic other than t/{id}
	qos  byte
	n    int
	next int            // the next message
	open []uint16       // identifiers that are not acknowledged, in order
	msgs map[uint16]int // their messages
	rel  map[uint16]bool
}

func (p *publisher) run() error {
	p.msgs, p.rel, p.next = make(map[uint16]int), make(map[uint16]bool), 1
	for p.next <= p.n || len(p.open) > 0 {
		if err := p.dial(100); err != nil {
			return err
		}
		for _, id := range p.open {
			if p.rel[id] {
				_ = p.ack(mqtt.PUBREL, id)
			} else {
				_ = p.publish(id, true)
			}
		}
		for lives := 20 + p.rnd.IntN(200); lives > 0 && (p.next <= p.n || len(p.open) > 0); lives-- {
			if err := p.step(); err != nil {
				break
			}
		}
	}
	return nil
}

func (p *publisher) publish(id uint16, dup bool) error {
	topic := "t/" + p.id
	if p.to != "" {
		topic = p.to
	}
	m := &mqtt.Publish{Topic: []byte(topic), Payload: []byte(strconv.Itoa(p.msgs[id])), QoS: p.qos, ID: id, Dup: dup}
	return p.send(mqtt.AppendPublish(nil, m, p.v))
}

func (p *publisher) step() error {
	if p.next <= p.n && len(p.open) < 16 {
		id := uint16(p.next%60000 + 1)
		p.open = append(p.open, id)
		p.msgs[id] = p.next
		p.next++
		return p.publish(id, false)
	}
	first, body, err := p.read()
	if err != nil {
		return err
	}
	var a mqtt.Ack
	if err := a.Decode(first, body, p.v); err != nil {
		return err
	}
	switch a.Type {
	case mqtt.PUBREC:
		p.rel[a.ID] = true
		return p.ack(mqtt.PUBREL, a.ID)
	case mqtt.PUBACK, mqtt.PUBCOMP:
		delete(p.msgs, a.ID)
		delete(p.rel, a.ID)
		for i, id := range p.open {
			if id == a.ID {
				p.open = append(p.open[:i], p.open[i+1:]...)
				break
			}
		}
	}
	return nil
}

// subscriber records what it gets until it has all of it.
type subscriber struct {
	peer
	qos  byte
	want map[string]int // by publisher
	got  map[string][]int
	had2 map[uint16]bool
	crew *crew // set for a member of a shared subscription
}

func (s *subscriber) done() bool {
	if s.crew != nil {
		return s.crew.done()
	}
	for who, n := range s.want {
		last := 0
		for _, k := range s.got[who] {
			last = max(last, k)
		}
		if last < n {
			return false
		}
	}
	return true
}

func (s *subscriber) run(deadline time.Time) error {
	s.got, s.had2 = make(map[string][]int), make(map[uint16]bool)
	for !s.done() && time.Now().Before(deadline) {
		if err := s.dial(uint16(1 + s.rnd.IntN(30))); err != nil {
			return err
		}
		for lives := 20 + s.rnd.IntN(400); lives > 0 && !s.done(); lives-- {
			if err := s.step(); err != nil {
				break
			}
		}
		if s.crew != nil && s.rnd.IntN(2) == 0 {
			s.nc.Close() // the others have work meanwhile
		}
	}
	return nil
}

// number is the message's number: the payload, or an inbox event's seq.
func number(payload []byte) int {
	var e event
	if json.Unmarshal(payload, &e) == nil && e.Seq != 0 {
		return e.Seq
	}
	n, _ := strconv.Atoi(string(payload))
	return n
}

func (s *subscriber) step() error {
	first, body, err := s.read()
	if err != nil {
		return err
	}
	if mqtt.Type(first>>4) == mqtt.PUBREL {
		var a mqtt.Ack
		if err := a.Decode(first, body, s.v); err != nil {
			return err
		}
		delete(s.had2, a.ID)
		return s.ack(mqtt.PUBCOMP, a.ID)
	}
	if mqtt.Type(first>>4) != mqtt.PUBLISH {
		return nil
	}
	var p mqtt.Publish
	if err := p.Decode(first, body, s.v); err != nil {
		return err
	}
	if p.QoS < 2 || !s.had2[p.ID] {
		n := number(p.Payload)
		who := strings.TrimPrefix(string(p.Topic), "t/")
		s.got[who] = append(s.got[who], n)
		if s.crew != nil {
			s.crew.take(who, n)
		}
	}
	if p.QoS == 2 {
		s.had2[p.ID] = true
	}
	if s.rnd.IntN(40) == 0 {
		return fmt.Errorf("gone before the acknowledgement")
	}
	if p.QoS == 2 {
		return s.ack(mqtt.PUBREC, p.ID)
	}
	return s.ack(mqtt.PUBACK, p.ID)
}

// check compares what came with what was published: nothing lost, in order, and
// at QoS 2 nothing twice.
func (s *subscriber) check(t *testing.T, exactly map[string]bool) {
	for who, n := range s.want {
		next := 1
		for i, k := range s.got[who] {
			switch {
			case k == next:
				next++
			case k < next && !exactly[who]:
			default:
				t.Errorf("%s got %d of %s after %d (the %d. message; exactly once: %v)", s.id, k, who, next-1, i+1, exactly[who])
				t.Logf("around it: %v", s.got[who][max(0, i-40):min(len(s.got[who]), i+60)])
				return
			}
		}
		if next != n+1 {
			t.Errorf("%s got %d of %d of %s", s.id, next-1, n, who)
		}
	}
}

// storm is publishers and subscribers of all levels that lose their connections,
// take themselves over and leave without acknowledging. STORM_SEED repeats a run.
func storm(t *testing.T, addr net.Addr, n int, beside func(rnd *rand.Rand, done <-chan struct{})) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("STORM_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("STORM_SEED=%d", seed)
	levels := []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}
	var pubs []*publisher
	var subs []*subscriber
	want := make(map[string]int)
	mk := func(id string, i int) peer {
		return peer{id: id, addr: addr, v: levels[i%3], rnd: rand.New(rand.NewPCG(seed, uint64(len(id)*1000+i)))}
	}
	for i := range 4 {
		p := &publisher{peer: mk(fmt.Sprint("pub", i), i), qos: byte(1 + i%2), n: n}
		want[p.id] = n
		pubs = append(pubs, p)
	}
	for i := range 6 {
		s := &subscriber{peer: mk(fmt.Sprint("s", i), i), qos: byte(1 + i/3), want: want}
		c := dial(t, addr, s.v)
		c.connect(s.id, lasting)
		c.subscribe("t/#", s.qos)
		c.nc.Close()
		subs = append(subs, s)
	}
	done, besideDone := make(chan struct{}), make(chan struct{})
	go func() { beside(rand.New(rand.NewPCG(seed, 0)), done); close(besideDone) }()
	var wg sync.WaitGroup
	fail := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	for _, p := range pubs {
		wg.Go(func() { fail(p.run()) })
	}
	deadline := time.Now().Add(60 * time.Second)
	for _, s := range subs {
		wg.Go(func() { fail(s.run(deadline)) })
	}
	wg.Wait()
	close(done)
	<-besideDone
	for _, s := range subs {
		exactly := make(map[string]bool)
		for _, p := range pubs {
			exactly[p.id] = s.qos == 2 && p.qos == 2
		}
		s.check(t, exactly)
	}
}

func TestStorm(t *testing.T) {
	_, addr := start(t, broker.Config{Data: t.TempDir()})
	storm(t, addr, 600, func(*rand.Rand, <-chan struct{}) {})
}

// The same while the broker is killed and started again.
func TestStormOverKills(t *testing.T) {
	dir := t.TempDir()
	cmd, addr := child(t, dir)
	storm(t, addr, 600, killing(t, &cmd, dir, addr))
}

// inboxStorm: a person's devices of all levels come and go while events arrive;
// each sees the numbers without a hole.
func inboxStorm(t *testing.T, addr net.Addr, n int, beside func(rnd *rand.Rand, done <-chan struct{})) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := &publisher{peer: peer{id: "pub", addr: addr, v: mqtt.V5, rnd: rand.New(rand.NewPCG(seed, 1))}, to: "tell/ann", qos: 2, n: n}
	var devices []*subscriber
	for i, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		d := &subscriber{peer: peer{id: fmt.Sprint("dev", i), user: "ann", addr: addr, v: v, rnd: rand.New(rand.NewPCG(seed, uint64(10+i)))},
			want: map[string]int{"users/ann/inbox": n}}
		c := dial(t, addr, d.v)
		c.connect(d.id, user("ann"), lasting)
		c.subscribe("users/ann/inbox", 1)
		c.nc.Close()
		devices = append(devices, d)
	}
	done, besideDone := make(chan struct{}), make(chan struct{})
	go func() { beside(rand.New(rand.NewPCG(seed, 0)), done); close(besideDone) }()
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	run(p.run)
	deadline := time.Now().Add(2 * time.Minute) // only a broken broker or a very busy machine needs it
	for _, d := range devices {
		run(func() error { return d.run(deadline) })
	}
	wg.Wait()
	close(done)
	<-besideDone
	for _, d := range devices {
		d.check(t, nil)
	}
}

func TestInboxStorm(t *testing.T) {
	_, addr := start(t, broker.Config{Data: t.TempDir(), Hooks: []any{teller{}}})
	inboxStorm(t, addr, 2000, func(*rand.Rand, <-chan struct{}) {})
}

func TestInboxStormOverKills(t *testing.T) {
	dir := t.TempDir()
	cmd, addr := child(t, dir)
	inboxStorm(t, addr, 2000, killing(t, &cmd, dir, addr))
}

// killing kills the broker again and again, and starts another.
func killing(t *testing.T, cmd **exec.Cmd, dir string, addr net.Addr) func(*rand.Rand, <-chan struct{}) {
	return func(rnd *rand.Rand, done <-chan struct{}) {
		for range 10 {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(50+rnd.IntN(300)) * time.Millisecond):
			}
			(*cmd).Process.Kill() //nolint:errcheck // it runs
			(*cmd).Wait()         //nolint:errcheck // it was killed
			*cmd, _ = childAt(t, dir, addr.String())
		}
	}
}
