package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// three is a connection of 3.1 or 3.1.1.
type three struct {
	v       mqtt.Version
	nc      net.Conn
	in      reader // owned by read
	session *Session
	receive func(*mqtt.Message)
	end     func(error)

	order sync.Mutex // identifiers are written in the order they were given
	owed  sync.Mutex // held from receive to the acknowledgement
	heard atomic.Bool
	quit  chan struct{} // closed by read
	wg    sync.WaitGroup
}

// openThree sends CONNECT, waits for CONNACK and starts reading.
func openThree(_ context.Context, cfg *Config, nc net.Conn, end func(error)) (link, *mqtt.Connack, error) {
	t := &three{v: cfg.Version, nc: nc, in: reader{nc: nc}, session: cfg.Session, receive: cfg.Receive, end: end, quit: make(chan struct{})}
	p := &mqtt.Connect{Version: t.v, ClientID: cfg.Client, CleanStart: cfg.Clean || cfg.Client == "", KeepAlive: cfg.KeepAlive,
		HasUsername: cfg.User != "", Username: cfg.User,
		HasPassword: cfg.User != "" && cfg.Password != "", Password: []byte(cfg.Password), Will: cfg.Will}
	if _, err := nc.Write(mqtt.AppendConnect(nil, p)); err != nil {
		return nil, nil, err
	}
	a, err := t.connack()
	if err != nil {
		return nil, nil, err
	}
	present := a.SessionPresent || t.v == mqtt.V31 && !p.CleanStart // 3.1 does not say
	if packets := t.session.resume(present); len(packets) > 0 {
		if _, err := nc.Write(packets); err != nil {
			return nil, nil, err
		}
	}
	t.wg.Go(t.read)
	if cfg.KeepAlive > 0 {
		t.wg.Go(func() { t.keep(time.Duration(cfg.KeepAlive) * time.Second) })
	}
	return t, a, nil
}

func (t *three) connack() (*mqtt.Connack, error) {
	first, body, err := t.in.next()
	if err != nil {
		return nil, fmt.Errorf("no CONNACK: %w", err)
	}
	if typ := mqtt.Type(first >> 4); typ != mqtt.CONNACK {
		return nil, fmt.Errorf("the server answered CONNECT with %v", typ)
	}
	a, err := mqtt.DecodeConnack(body, t.v)
	if err != nil {
		return nil, err
	}
	return a, refusal(mqtt.CONNECT, a.ReasonString, a.Reason)
}

// reader cuts packets off a connection.
type reader struct {
	nc  net.Conn
	buf []byte
}

// next returns a packet's first byte and body, which nothing overwrites.
func (r *reader) next() (first byte, body []byte, err error) {
	for {
		first, body, n, err := mqtt.Frame(r.buf, 256<<20)
		if err != nil {
			return 0, nil, err
		}
		if n > 0 {
			r.buf = r.buf[n:]
			return first, body, nil
		}
		chunk := make([]byte, 8192)
		k, err := r.nc.Read(chunk)
		if err != nil {
			return 0, nil, err
		}
		r.buf = append(r.buf, chunk[:k]...)
	}
}

// read handles what the server sends, until the connection ends.
func (t *three) read() {
	defer close(t.quit)
	for {
		first, body, err := t.in.next()
		if err == nil {
			t.heard.Store(true)
			err = t.packet(first, body)
		}
		if err != nil {
			t.session.dropQuestions()
			t.end(lost(err))
			t.nc.Close() //nolint:errcheck // it has ended
			return
		}
	}
}

func (t *three) packet(first byte, body []byte) error {
	switch typ := mqtt.Type(first >> 4); typ {
	case mqtt.PUBLISH:
		return t.message(first, body)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		var a mqtt.Ack
		if err := a.Decode(first, body, t.v); err != nil {
			return err
		}
		return t.ack(a)
	case mqtt.SUBACK:
		a, err := mqtt.DecodeSuback(body, t.v)
		if err != nil {
			return err
		}
		t.session.acked(a.ID, answer{a.Reasons, refusal(mqtt.SUBSCRIBE, "", a.Reasons...)})
	case mqtt.UNSUBACK:
		a, err := mqtt.DecodeUnsuback(body, t.v)
		if err != nil {
			return err
		}
		t.session.acked(a.ID, answer{})
	}
	return nil
}

// message hands a PUBLISH on, a QoS 2 one at its first coming only, and
// acknowledges it.
func (t *three) message(first byte, body []byte) error {
	var p mqtt.Publish
	if err := p.Decode(first, body, t.v); err != nil {
		return err
	}
	t.owed.Lock()
	defer t.owed.Unlock()
	if t.receive != nil && (p.QoS < 2 || t.session.first(p.ID)) {
		t.receive(p.Message(time.Now().UnixMilli()))
	}
	switch p.QoS {
	case 1:
		return t.write(mqtt.AppendAck(nil, mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID}, t.v))
	case 2:
		return t.write(mqtt.AppendAck(nil, mqtt.Ack{Type: mqtt.PUBREC, ID: p.ID}, t.v))
	}
	return nil
}

func (t *three) ack(a mqtt.Ack) error {
	switch a.Type {
	case mqtt.PUBREC:
		t.session.released(a.ID)
		return t.write(mqtt.AppendAck(nil, mqtt.Ack{Type: mqtt.PUBREL, ID: a.ID}, t.v))
	case mqtt.PUBREL:
		t.session.forget(a.ID)
		return t.write(mqtt.AppendAck(nil, mqtt.Ack{Type: mqtt.PUBCOMP, ID: a.ID}, t.v))
	}
	t.session.acked(a.ID, answer{})
	return nil
}

func (t *three) write(b []byte) error {
	_, err := t.nc.Write(b)
	return err
}

// keep sends PINGREQs; a server that says nothing for a whole period is gone.
func (t *three) keep(period time.Duration) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for t.heard.Store(true); ; {
		select {
		case <-t.quit:
			return
		case <-tick.C:
		}
		if !t.heard.Swap(false) {
			t.end(errors.New("client: the server does not answer PINGREQ"))
			t.nc.Close() //nolint:errcheck // read ends
			return
		}
		if t.write(mqtt.AppendPingreq(nil)) != nil {
			return // read ends, too
		}
	}
}

// ask sends a packet that has an identifier and waits for its answer.
func (t *three) ask(ctx context.Context, qos byte, p *mqtt.Publish, packet func(id uint16) []byte) ([]mqtt.Reason, error) {
	t.order.Lock()
	id, f, ok := t.session.add(qos, p)
	if !ok {
		t.order.Unlock()
		return nil, errors.New("client: 65,535 packets wait for their acknowledgement")
	}
	err := t.write(packet(id))
	t.order.Unlock()
	if err != nil {
		return nil, lost(err)
	}
	select {
	case a := <-f.answer:
		return a.reasons, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (t *three) publish(ctx context.Context, m *mqtt.Message) error {
	p := &mqtt.Publish{Topic: []byte(m.Topic), Payload: m.Payload, QoS: m.QoS, Retain: m.Retain}
	if p.QoS == 0 {
		return t.write(mqtt.AppendPublish(nil, p, t.v))
	}
	_, err := t.ask(ctx, m.QoS, p, func(id uint16) []byte {
		q := *p
		q.ID = id
		return mqtt.AppendPublish(nil, &q, t.v)
	})
	return err
}

func (t *three) subscribe(ctx context.Context, s *mqtt.Subscribe) ([]mqtt.Reason, error) {
	return t.ask(ctx, 1, nil, func(id uint16) []byte {
		s.ID = id
		return mqtt.AppendSubscribe(nil, s, t.v)
	})
}

func (t *three) unsubscribe(ctx context.Context, filters []string) error {
	_, err := t.ask(ctx, 1, nil, func(id uint16) []byte {
		return mqtt.AppendUnsubscribe(nil, &mqtt.Unsubscribe{ID: id, Filters: filters}, t.v)
	})
	return err
}

// leave says goodbye, after the acknowledgement of what receive has. It lets the
// server close first, for up to a second: closing with something unread would reset
// the connection, and DISCONNECT might be lost with it.
func (t *three) leave(mqtt.Reason) error {
	t.owed.Lock()
	err := t.write(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, t.v))
	t.owed.Unlock()
	if err == nil && t.nc.SetReadDeadline(time.Now().Add(time.Second)) == nil {
		t.wg.Wait()
	}
	t.drop()
	return err
}

func (t *three) drop() {
	t.nc.Close() //nolint:errcheck // nothing was promised
	t.wg.Wait()
}
