package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/mqtt"
)

// demoAgain is how long a client of the demo waits before it connects again.
const demoAgain = 50 * time.Millisecond

// demoPhone is a person's phone: MQTT 5 by paho.golang, one subscription, a
// session that lasts. It shows what it receives.
type demoPhone struct {
	cfg client.Config

	mu      sync.Mutex // guards the following
	conn    *client.Client
	end     context.CancelFunc // ends stay
	seqs    []uint64           // the numbers of what came
	got     []string           // its event ids and chat bodies
	changed chan struct{}      // closed and replaced at each change
}

func newDemoPhone(user, address string) *demoPhone {
	p := &demoPhone{changed: make(chan struct{}), end: func() {}}
	p.cfg = client.Config{Address: address, Version: mqtt.V5, Client: user + "-phone", User: user, Password: demoToken,
		SessionExpiry: 3600, KeepAlive: 300, Session: new(client.Session), Receive: p.receive}
	return p
}

// stay keeps the phone connected until off is called or ctx ends.
func (p *demoPhone) stay(ctx context.Context) {
	ctx, end := context.WithCancel(ctx)
	p.change(func() { p.end = end })
	for ctx.Err() == nil {
		if c, err := p.connect(ctx); err == nil {
			p.change(func() { p.conn = c })
			select {
			case <-c.Done():
			case <-ctx.Done():
			}
			p.change(func() { p.conn = nil })
			c.Close() //nolint:errcheck // it is gone, or this is the goodbye
		}
		pause(ctx, demoAgain) //nolint:errcheck // the loop looks
	}
}

func (p *demoPhone) connect(ctx context.Context) (*client.Client, error) {
	c, err := client.Dial(ctx, p.cfg)
	if err != nil {
		return nil, err
	}
	if err := c.Subscribe(ctx, "users/"+p.cfg.User+"/inbox"); err != nil {
		c.Drop()
		return nil, err
	}
	return c, nil
}

// off says goodbye. The session stays at the broker.
func (p *demoPhone) off() {
	p.mu.Lock()
	end := p.end
	p.mu.Unlock()
	end()
	for p.isOn() {
		<-p.next()
	}
}

// say sends a chat message, with an id of its own so that a retry has no second
// effect.
func (p *demoPhone) say(ctx context.Context, to, body string) error {
	p.mu.Lock()
	c := p.conn
	p.mu.Unlock()
	if c == nil {
		return fmt.Errorf("%s is not connected", p.cfg.User)
	}
	return c.Publish(ctx, "users/"+to+"/chat/demo-0001", []byte(body), false)
}

// demoEvent is what a phone reads of an inbox event.
type demoEvent struct {
	Seq                                    uint64
	Type, ID, Rule, Event, Zone, Who, With string
	Text                                   string
	Lat, Lon                               float64
	From, Body, Conv                       string
}

// receive gets each message before it is acknowledged.
func (p *demoPhone) receive(m *mqtt.Message) {
	var e demoEvent
	if err := json.Unmarshal(m.Payload, &e); err != nil {
		fmt.Printf("  %-6s can't read %s: %v\n", p.cfg.User, m.Payload, err)
		return
	}
	p.change(func() {
		if slices.Contains(p.seqs, e.Seq) {
			return // a redelivery keeps its number
		}
		p.seqs = append(p.seqs, e.Seq)
		if e.Type == "msg" {
			p.got = append(p.got, e.Body)
		} else {
			p.got = append(p.got, e.ID)
		}
		fmt.Printf("  %-6s #%-3d %s\n", p.cfg.User, e.Seq, e.line(p.cfg.User))
	})
}

// line is an event in words.
func (e *demoEvent) line(me string) string {
	switch {
	case e.Type == "msg" && e.From == me:
		return fmt.Sprintf("%-18s %q  (her own, for her other devices)", "chat", e.Body)
	case e.Type == "msg":
		return fmt.Sprintf("%-18s %s writes: %q", "chat", e.From, e.Body)
	case e.Type != "geo":
		return e.Type
	}
	text := e.Text
	if text == "" {
		text = strings.Join([]string{e.Who, e.Event, e.Zone}, " ")
	}
	return fmt.Sprintf("%-18s %-38s %s at %.6f, %.6f", e.Rule, text, e.Who, e.Lat, e.Lon)
}

// change changes p and tells who waits.
func (p *demoPhone) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *demoPhone) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *demoPhone) isOn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn != nil
}

// has reports whether all of want came.
func (p *demoPhone) has(want []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(want, func(id string) bool { return !slices.Contains(p.got, id) })
}

// wait waits until ready, which is asked after each change.
func (p *demoPhone) wait(ctx context.Context, ready func() bool) error {
	for {
		next := p.next()
		if ready() {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// demoTally is what came, against what was expected.
type demoTally struct{ arrived, missing, extra, twice int }

func (p *demoPhone) tally(want []string) (t demoTally) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.arrived = len(p.got)
	count := make(map[string]int)
	for _, id := range p.got {
		if count[id]++; count[id] > 1 {
			t.twice++
		} else if !slices.Contains(want, id) {
			t.extra++
		}
	}
	for _, id := range want {
		if count[id] == 0 {
			t.missing++
		}
	}
	return t
}
