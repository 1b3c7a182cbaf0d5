package broker_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// client is a scripted MQTT client: it sends packets and says what it got.
type client struct {
	t  testing.TB
	nc net.Conn
	v  mqtt.Version
	in []byte
}

// dial connects over TCP to a listening broker.
func dial(t testing.TB, addr net.Addr, v mqtt.Version) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &client{t: t, nc: nc, v: v}
}

func start(t testing.TB, cfg broker.Config) (*broker.Broker, net.Addr) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b, err := broker.New(cfg)
	return listening(t, b, err)
}

// over starts a broker over a store in memory that the test has in its hands.
func over(t *testing.T, st *store.Memory, all ...any) (*broker.Broker, net.Addr) {
	t.Helper()
	b, err := broker.NewOver(broker.Config{Log: quiet, Hooks: all}, st)
	return listening(t, b, err)
}

// listening is a new broker, at a port that is closed when the test has ended.
func listening(t testing.TB, b *broker.Broker, err error) (*broker.Broker, net.Addr) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	addr, err := b.Listen("mqtt://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return b, addr
}

// hold makes commits wait until they are released, or the test has ended.
func hold(t *testing.T, st *store.Memory) (release func()) {
	t.Helper()
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	st.Hold(gate)
	t.Cleanup(release)
	return release
}

// until waits for a state that comes by itself; it fails the test after ten seconds.
func until(t testing.TB, state string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after ten seconds it is not so that %s", state)
		}
	}
}

// connect sends CONNECT and returns the CONNACK.
func (c *client) connect(id string, change ...func(*mqtt.Connect)) *mqtt.Connack {
	c.t.Helper()
	p := &mqtt.Connect{Version: c.v, ClientID: id, CleanStart: true, KeepAlive: 60, ReceiveMaximum: 65535}
	for _, f := range change {
		f(p)
	}
	c.send(mqtt.AppendConnect(nil, p))
	first, body := c.read()
	if mqtt.Type(first>>4) != mqtt.CONNACK {
		c.t.Fatalf("got packet type %v, want CONNACK", mqtt.Type(first>>4))
	}
	a, err := mqtt.DecodeConnack(body, c.v)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// read returns the next packet; it fails the test after five seconds.
func (c *client) read() (first byte, body []byte) {
	c.t.Helper()
	first, body, err := c.next(5 * time.Second)
	if err != nil {
		c.t.Fatal(err)
	}
	return first, body
}

func (c *client) next(wait time.Duration) (first byte, body []byte, err error) {
	for {
		f, b, n, err := mqtt.Frame(c.in, 1<<28)
		if err != nil {
			return 0, nil, err
		}
		if n > 0 {
			b = append([]byte(nil), b...)
			c.in = c.in[n:]
			return f, b, nil
		}
		if err := c.nc.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return 0, nil, err
		}
		buf := make([]byte, 4096)
		k, err := c.nc.Read(buf)
		if k == 0 && err != nil {
			return 0, nil, err
		}
		c.in = append(c.in, buf[:k]...)
	}
}

func (c *client) subscribe(filter string, qos byte) {
	c.t.Helper()
	c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: filter, QoS: qos}}}, c.v))
	first, body := c.read()
	if mqtt.Type(first>>4) != mqtt.SUBACK {
		c.t.Fatalf("got packet type %v, want SUBACK", mqtt.Type(first>>4))
	}
	a, err := mqtt.DecodeSuback(body, c.v)
	if err != nil {
		c.t.Fatal(err)
	}
	if a.Reasons[0] > 2 {
		c.t.Fatalf("SUBSCRIBE %s refused: %v", filter, a.Reasons[0])
	}
}

// publish sends one message; it does not wait for the acknowledgement.
func (c *client) publish(topic, payload string, qos byte, id uint16, change ...func(*mqtt.Publish)) {
	c.t.Helper()
	p := &mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, ID: id}
	for _, f := range change {
		f(p)
	}
	c.send(mqtt.AppendPublish(nil, p, c.v))
}

func retain(p *mqtt.Publish) { p.Retain = true }

// message reads the next packet, which must be a PUBLISH.
func (c *client) message() *mqtt.Publish {
	c.t.Helper()
	first, body := c.read()
	if mqtt.Type(first>>4) != mqtt.PUBLISH {
		c.t.Fatalf("got packet type %v, want PUBLISH", mqtt.Type(first>>4))
	}
	p := &mqtt.Publish{}
	if err := p.Decode(first, body, c.v); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// expect reads a PUBLISH and compares it.
func (c *client) expect(topic, payload string) *mqtt.Publish {
	c.t.Helper()
	p := c.message()
	if string(p.Topic) != topic || string(p.Payload) != payload {
		c.t.Fatalf("got %s %q, want %s %q", p.Topic, p.Payload, topic, payload)
	}
	return p
}

// want reads a PUBLISH, compares it and acknowledges it at QoS 1.
func (c *client) want(topic, payload string) *mqtt.Publish {
	c.t.Helper()
	p := c.expect(topic, payload)
	if p.QoS == 1 {
		c.ack(mqtt.PUBACK, p.ID)
	}
	return p
}

func (c *client) ack(t mqtt.Type, id uint16) {
	c.t.Helper()
	c.send(mqtt.AppendAck(nil, mqtt.Ack{Type: t, ID: id}, c.v))
}

// wantAck reads an acknowledgement.
func (c *client) wantAck(t mqtt.Type, id uint16) mqtt.Ack {
	c.t.Helper()
	first, body := c.read()
	var a mqtt.Ack
	if err := a.Decode(first, body, c.v); err != nil {
		c.t.Fatalf("packet type %v: %v", mqtt.Type(first>>4), err)
	}
	if a.Type != t || a.ID != id {
		c.t.Fatalf("got %v %d, want %v %d", a.Type, a.ID, t, id)
	}
	return a
}

// quiet sends a PINGREQ and wants nothing before its answer.
func (c *client) quiet() {
	c.t.Helper()
	c.send(mqtt.AppendPingreq(nil))
	if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.PINGRESP {
		c.t.Fatalf("got packet type %v, want nothing", mqtt.Type(first>>4))
	}
}

func lasting(p *mqtt.Connect) { p.CleanStart, p.SessionExpiry = false, 3600 }

func pub(t testing.TB, b *broker.Broker, m *mqtt.Message) {
	t.Helper()
	if err := b.Publish(context.Background(), m); err != nil {
		t.Fatal(err)
	}
}

// join dials and connects.
func join(t *testing.T, addr net.Addr, id string, change ...func(*mqtt.Connect)) *client {
	t.Helper()
	c := dial(t, addr, mqtt.V5)
	if a := c.connect(id, change...); a.Reason >= 0x80 {
		t.Fatalf("%s refused: %v", id, a.Reason)
	}
	return c
}

// say publishes at QoS 1 and returns the reason.
func (c *client) say(topic, payload string) mqtt.Reason {
	c.t.Helper()
	c.publish(topic, payload, 1, 1)
	return c.wantAck(mqtt.PUBACK, 1).Reason
}
