package broker_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// actor is a client of the model: as a publisher it knows what it sent and what was
// acknowledged, as a subscriber what it got. Its session outlives its connections.
type actor struct {
	s   *sim
	rnd *rand.Rand
	id  string
	v   mqtt.Version
	qos byte
	nc  *client // nil while it is offline

	mu sync.Mutex // guards in, which the connection's reader fills
	in []packet

	n    int // messages published
	sent []sending

	held []mqtt.Publish // got and not acknowledged
	had2 map[uint16]bool
	got  map[string][]string // payloads by topic
}

type packet struct {
	from  *client
	first byte
	body  []byte
}

// sending is a message that its publisher has not forgotten. At QoS 2 received says
// that PUBREC came; rel is the connection that PUBREL went out on last, and again says
// that it was not the first.
type sending struct {
	id       uint16
	n        int
	received bool
	rel      *client
	again    bool
}

func (a *actor) send(b []byte) {
	if a.nc != nil {
		_, _ = a.nc.nc.Write(b) // a broken connection is found out by its reader
	}
}

func (a *actor) ack(t mqtt.Type, id uint16) {
	a.send(mqtt.AppendAck(nil, mqtt.Ack{Type: t, ID: id}, a.v))
}

// connect goes on with the session: what was not acknowledged is sent again.
func (a *actor) connect() {
	c := a.s.dial(a.v)
	if a.nc != nil && a.rnd.IntN(2) == 0 {
		a.nc.nc.Close() // else it is taken over
	}
	a.nc, a.held = c, nil
	a.send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: a.v, ClientID: a.id, HasUsername: true, Username: "ann",
		SessionExpiry: 1 << 20, ReceiveMaximum: uint16(1 + a.rnd.IntN(12))}))
	go func() {
		for {
			first, body, err := c.next(10000 * time.Hour)
			if err != nil {
				return
			}
			a.mu.Lock()
			a.in = append(a.in, packet{c, first, body})
			a.mu.Unlock()
		}
	}()
	for _, f := range a.sent {
		if !f.received {
			a.publish(f, true)
		}
	}
	a.release(a.rnd.IntN(2) * len(a.sent)) // the others later, maybe over a crash
}

// release sends PUBREL for at most n of the messages whose PUBREC came.
func (a *actor) release(n int) {
	for i := range a.sent {
		if f := &a.sent[i]; f.received && f.rel != a.nc && n > 0 {
			f.again, f.rel = f.rel != nil, a.nc
			a.ack(mqtt.PUBREL, f.id)
			n--
		}
	}
}

// free is an identifier that is not in use; they come again soon.
func (a *actor) free() uint16 {
	for {
		id := uint16(1 + a.rnd.IntN(25))
		if !slices.ContainsFunc(a.sent, func(f sending) bool { return f.id == id }) {
			return id
		}
	}
}

// kinds are what message n is by n % kinds: a plain one, an event for ann's inbox, a
// retained one, or one that no lasting session gets.
const kinds = 4

func (a *actor) publish(f sending, dup bool) {
	topic := [kinds]string{"t/" + a.id, "tell/ann", "r/" + a.id, "nobody/" + a.id}[f.n%kinds]
	a.send(mqtt.AppendPublish(nil, &mqtt.Publish{Topic: []byte(topic), Payload: fmt.Appendf(nil, "%s.%d", a.id, f.n),
		QoS: a.qos, ID: f.id, Dup: dup, Retain: f.n%kinds == 2}, a.v))
}

// take deals with what came.
func (a *actor) take() (some bool) {
	a.mu.Lock()
	in := a.in
	a.in = nil
	a.mu.Unlock()
	for _, p := range in {
		if p.from == a.nc {
			a.packet(p.first, p.body)
			some = true
		}
	}
	return some
}

func (a *actor) packet(first byte, body []byte) {
	if mqtt.Type(first>>4) == mqtt.PUBLISH {
		var p mqtt.Publish
		if err := p.Decode(first, body, a.v); err != nil {
			a.s.t.Fatal(err)
		}
		if p.QoS < 2 || !a.had2[p.ID] {
			a.got[string(p.Topic)] = append(a.got[string(p.Topic)], string(p.Payload))
		}
		if p.QoS == 2 {
			a.had2[p.ID] = true
		}
		a.held = append(a.held, p)
		return
	}
	var k mqtt.Ack
	if t := mqtt.Type(first >> 4); t < mqtt.PUBACK || t > mqtt.PUBCOMP || k.Decode(first, body, a.v) != nil {
		return
	}
	if k.Type == mqtt.PUBREL {
		delete(a.had2, k.ID)
		a.ack(mqtt.PUBCOMP, k.ID)
		return
	}
	for i := range a.sent {
		if f := &a.sent[i]; f.id == k.ID {
			if k.Type == mqtt.PUBREC {
				f.received = true
				return
			}
			if k.Type == mqtt.PUBCOMP && k.Reason != mqtt.Success && !f.again {
				a.s.t.Fatalf("%s: PUBCOMP of %d says %v at its first PUBREL: the broker has forgotten its PUBREC", a.id, f.n, k.Reason)
			}
			a.sent = append(a.sent[:i], a.sent[i+1:]...)
			return
		}
	}
}

// answer acknowledges at most n of what it holds.
func (a *actor) answer(n int) {
	for ; n > 0 && len(a.held) > 0; n-- {
		switch p := a.held[0]; p.QoS {
		case 1:
			a.ack(mqtt.PUBACK, p.ID)
		case 2:
			a.ack(mqtt.PUBREC, p.ID)
		}
		a.held = a.held[1:]
	}
}

// step does something at random.
func (a *actor) step(subscriber bool) {
	switch x := a.rnd.IntN(20); {
	case a.nc == nil || x == 0:
		a.connect()
	case x == 1:
		a.nc.nc.Close()
		a.nc = nil
	case subscriber:
		a.answer(a.rnd.IntN(6))
	case x < 8:
		a.release(a.rnd.IntN(6))
	default:
		for range a.rnd.IntN(4) {
			if len(a.sent) < 20 {
				a.n++
				f := sending{id: a.free(), n: a.n}
				a.sent = append(a.sent, f)
				a.publish(f, false)
			}
		}
	}
}

// The core against a dumb oracle, at random: clients of all levels publish plain
// messages, events and retained ones, come, go, acknowledge some, take themselves
// over; the disk stalls; the broker is killed with what it had not synced, or
// restarted. What was acknowledged reaches every session, in order, at QoS 2 once; an
// inbox is dense and no number means two events; what is retained is the last; and a
// PUBREC that left is remembered until its PUBREL.
// MODEL_SEED repeats a run.
func TestTheCoreAgreesWithAnOracle(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MODEL_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	for round := range uint64(40) {
		t.Run(fmt.Sprint("MODEL_SEED=", seed+round), func(t *testing.T) {
			simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) { model(s, seed+round) })
		})
	}
}

func model(s *sim, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	var pubs, subs []*actor
	for i, v := range []mqtt.Version{mqtt.V311, mqtt.V5, mqtt.V31, mqtt.V5, mqtt.V5} {
		a := &actor{s: s, rnd: rnd, v: v, id: fmt.Sprint("a", i), qos: byte(1 + i%2),
			had2: make(map[uint16]bool), got: make(map[string][]string)}
		if i < 2 {
			pubs = append(pubs, a)
			continue
		}
		c := s.dial(v)
		c.connect(a.id, lasting, user("ann"), func(p *mqtt.Connect) { p.SessionExpiry = 1 << 20 })
		c.subscribe("t/#", a.qos)
		c.subscribe("users/ann/inbox", 1)
		c.nc.Close()
		subs = append(subs, a)
	}
	all := append(pubs[:2:2], subs...)
	fall := func() {
		for _, a := range all {
			a.nc = nil
		}
	}
	for range 400 {
		switch x := rnd.IntN(60); x {
		case 0:
			s.crash()
			fall()
		case 1:
			s.goOn()
			s.restart()
			fall()
		case 2, 3:
			s.goOn()
			s.hold()
		case 4, 5, 6:
			s.goOn()
		case 7:
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		default:
			i := rnd.IntN(len(all))
			all[i].step(i >= len(pubs))
		}
		synctest.Wait()
		for _, a := range all {
			a.take()
		}
	}
	s.goOn()
	for _, a := range all {
		a.connect()
	}
	for quiet := 0; quiet < 5; quiet++ {
		time.Sleep(time.Second)
		for _, a := range all {
			if a.take() {
				quiet = 0
			}
			a.answer(1000)
			a.release(1000)
		}
	}
	for _, a := range subs {
		for _, p := range pubs {
			a.checkPlain(p)
		}
		a.checkInbox()
	}
	for _, p := range pubs {
		p.checkRetained()
		s.t.Logf("%s published %d, %s got %d of its plain ones", p.id, p.n, subs[0].id, len(subs[0].got["t/"+p.id]))
	}
}

// checkPlain compares the plain messages that came from p with what it published.
func (a *actor) checkPlain(p *actor) {
	exactly, last := a.qos == 2 && p.qos == 2, 0
	for i, payload := range a.got["t/"+p.id] {
		n, err := strconv.Atoi(payload[strings.Index(payload, ".")+1:])
		if err != nil || n > last+kinds || n <= last && exactly {
			a.s.t.Fatalf("%s got %s after %d (exactly once: %v): %v", a.id, payload, last, exactly, a.got["t/"+p.id][:i+1])
		}
		last = max(last, n)
	}
	if want := p.n / kinds * kinds; last != want {
		a.s.t.Errorf("%s ended at %d of %s, want %d; %d are not acknowledged", a.id, last, p.id, want, len(p.sent))
	}
}

// checkInbox sees that the numbers are dense and each means one event.
func (a *actor) checkInbox() {
	body, last := make(map[int]string), 0
	for _, payload := range a.got["users/ann/inbox"] {
		var e event
		if err := json.Unmarshal([]byte(payload), &e); err != nil {
			a.s.t.Fatal(err)
		}
		if had, ok := body[e.Seq]; e.Seq > last+1 && last > 0 || ok && had != e.Body {
			a.s.t.Fatalf("%s got event %d %q after %d; it had %q", a.id, e.Seq, e.Body, last, had)
		}
		body[e.Seq], last = e.Body, max(last, e.Seq)
	}
}

// checkRetained looks at what stays on the publisher's topic.
func (a *actor) checkRetained() {
	last := (a.n+2)/kinds*kinds - 2
	if last < 2 {
		return
	}
	c := a.s.dial(mqtt.V5)
	c.connect("fresh", still)
	c.subscribe("r/"+a.id, 1)
	c.want("r/"+a.id, fmt.Sprintf("%s.%d", a.id, last))
	c.nc.Close()
}
