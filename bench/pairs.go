package bench

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// Flow is publishers that each send to subscribers of their own.
type Flow struct {
	Name        string
	Publishers  int
	Subscribers int // of each publisher
	QoS         byte
	// Window is how many messages a publisher has unacknowledged; at QoS 0, how
	// many it has sent that its subscribers have not seen.
	Window int
	// Rate, if not 0, is messages a second in all, sent by the clock.
	Rate float64
	// Messages is how many are sent in all.
	Messages int
	// Size is the payload in bytes, at least 8.
	Size int
	// Lasting gives the subscribers sessions that outlive their connections.
	Lasting bool
}

// leadMost is how many messages of QoS 1 or 2 a publisher with a window may be ahead of
// its slowest subscriber: an acknowledgement says that the broker has a message, so that
// the subscribers, in this process, too, could fall behind by more than a broker keeps for
// a session that does not last.
const leadMost = 512

// sub is a subscriber and what it saw.
type sub struct {
	*conn
	seen  atomic.Int64
	gone  atomic.Bool // it has ended with an error
	want  int
	times []time.Duration
	token chan struct{} // at QoS 0: one for each message seen
}

func (s *sub) run() (err error) {
	defer func() { s.gone.Store(err != nil) }()
	for n := 0; n < s.want; {
		err := s.read(func(first byte, body []byte) error {
			if mqtt.Type(first>>4) == mqtt.PUBREL {
				s.ack(mqtt.PUBCOMP, uint16(body[0])<<8|uint16(body[1]))
				return nil
			}
			at, id, qos, ok := sentAt(first, body)
			if !ok {
				return nil
			}
			n++
			s.times = append(s.times, time.Since(at))
			switch qos {
			case 0:
				if s.token != nil {
					s.token <- struct{}{}
				}
			case 1:
				s.ack(mqtt.PUBACK, id)
			case 2:
				s.ack(mqtt.PUBREC, id)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("subscriber at %d of %d: %w", n, s.want, err)
		}
		s.seen.Store(int64(n))
		if err := s.flush(); err != nil {
			return err
		}
	}
	return nil
}

// pub is a publisher.
type pub struct {
	*conn
	flow  *Flow
	topic []byte
	n     int
	every time.Duration // with a rate: between two messages
	token chan struct{}
	subs  []*sub
	seen  int // of its messages, by every subscriber, when it last looked
	acks  []time.Duration
	sent  []time.Time // by identifier, modulo its length
}

func (p *pub) run() error {
	payload := make([]byte, max(p.flow.Size, 8))
	p.sent = make([]time.Time, 1<<16)
	switch {
	case p.every > 0:
		return p.open(payload)
	case p.flow.QoS == 0:
		return p.credit(payload)
	}
	sent, acked := 0, 0
	for acked < p.n {
		for sent < p.n && sent-acked < p.flow.Window && !p.leads(sent) {
			p.send(payload)
			sent++
		}
		if err := p.flush(); err != nil {
			return err
		}
		if sent == acked { // it is too far ahead
			if err := p.lost(); err != nil {
				return err
			}
			time.Sleep(100 * time.Microsecond)
			continue
		}
		if err := p.read(func(first byte, body []byte) error { acked += p.acked(first, body); return nil }); err != nil {
			return fmt.Errorf("publisher, %d of %d acknowledged: %w", acked, p.n, err)
		}
	}
	return p.flush()
}

// leads reports whether the publisher is as far ahead as it may be.
func (p *pub) leads(sent int) bool {
	if sent-p.seen < leadMost {
		return false
	}
	p.seen = sent
	for _, s := range p.subs {
		p.seen = min(p.seen, int(s.seen.Load()))
	}
	return sent-p.seen >= leadMost
}

// lost returns why a subscriber sees nothing any more.
func (p *pub) lost() error {
	for _, s := range p.subs {
		if s.gone.Load() {
			return errors.New("publisher: one of its subscribers has ended")
		}
	}
	return nil
}

func (p *pub) send(payload []byte) {
	now := time.Now()
	p.publish(p.topic, payload, p.flow.QoS, now)
	p.sent[p.next] = now
}

// acked takes an acknowledgement and returns how many messages it ends.
func (p *pub) acked(first byte, body []byte) int {
	id := uint16(body[0])<<8 | uint16(body[1])
	switch mqtt.Type(first >> 4) {
	case mqtt.PUBREC:
		p.ack(mqtt.PUBREL, id)
		return 0
	case mqtt.PUBACK, mqtt.PUBCOMP:
		p.acks = append(p.acks, time.Since(p.sent[id]))
		return 1
	}
	return 0
}

// credit sends at QoS 0 what the subscribers have room for.
func (p *pub) credit(payload []byte) error {
	for sent, seen := 0, 0; sent < p.n; {
		for sent < p.n && sent*p.flow.Subscribers-seen < p.flow.Window*p.flow.Subscribers {
			p.send(payload)
			sent++
		}
		if err := p.flush(); err != nil {
			return err
		}
		<-p.token
		seen += 1 + drain(p.token)
	}
	return nil
}

func drain(c chan struct{}) (n int) {
	for {
		select {
		case <-c:
			n++
		default:
			return n
		}
	}
}

// open sends by the clock; acknowledgements are read beside.
func (p *pub) open(payload []byte) error {
	done := make(chan error, 1)
	var mu sync.Mutex // guards the connection's output and the times
	go func() {
		var err error
		for acked := 0; acked < p.n && p.flow.QoS > 0 && err == nil; {
			err = p.read(func(first byte, body []byte) error {
				mu.Lock()
				defer mu.Unlock()
				acked += p.acked(first, body)
				return p.flush()
			})
		}
		done <- err
	}()
	begin := time.Now()
	for i := range p.n {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * p.every)))
		mu.Lock()
		p.send(payload)
		err := p.flush()
		mu.Unlock()
		if err != nil {
			return err
		}
	}
	return <-done
}

// Run puts the flow's load on a broker.
func (f Flow) Run(t Target) (Result, error) {
	pubs, subs, err := f.connect(t.Address)
	defer func() {
		for _, p := range pubs {
			p.close()
		}
		for _, s := range subs {
			s.close()
		}
	}()
	if err != nil {
		return Result{}, err
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(pubs)+len(subs))
	before, begin := t.usage(), time.Now()
	for _, s := range subs {
		wg.Go(func() { errs <- s.run() })
	}
	for _, p := range pubs {
		wg.Go(func() { errs <- p.run() })
	}
	wg.Wait()
	r := Result{Name: f.Name, Took: time.Since(begin)}
	t.charge(&r, before)
	close(errs)
	for err := range errs {
		if err != nil {
			return r, err
		}
	}
	var times, acks []time.Duration
	for _, s := range subs {
		times = append(times, s.times...)
	}
	for _, p := range pubs {
		acks = append(acks, p.acks...)
	}
	r.Messages = len(times)
	r.P50, r.P99, r.AckP50 = quantile(times, 0.5), quantile(times, 0.99), quantile(acks, 0.5)
	return r, nil
}

func (f *Flow) connect(address string) (pubs []*pub, subs []*sub, err error) {
	each := f.Messages / f.Publishers
	for i := range f.Publishers {
		topic := fmt.Sprintf("bench/%s/%d", f.Name, i)
		token := make(chan struct{}, 2*f.Window*f.Subscribers+1024)
		for j := range f.Subscribers {
			c, err := connect(address, fmt.Sprintf("%.8s-sub-%d-%d", f.Name, i, j), !f.Lasting)
			if err != nil {
				return pubs, subs, err
			}
			s := &sub{conn: c, want: each}
			if f.QoS == 0 {
				s.token = token
			}
			subs = append(subs, s)
			if err := c.subscribe(topic, f.QoS); err != nil {
				return pubs, subs, err
			}
		}
		c, err := connect(address, fmt.Sprintf("%.8s-pub-%d", f.Name, i), true)
		if err != nil {
			return pubs, subs, err
		}
		p := &pub{conn: c, flow: f, topic: []byte(topic), n: each, token: token, subs: subs[len(subs)-f.Subscribers:]}
		if f.Rate > 0 {
			p.every = time.Duration(float64(f.Publishers) / f.Rate * float64(time.Second))
		}
		pubs = append(pubs, p)
	}
	return pubs, subs, nil
}
