package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// conn is one MQTT 3.1.1 connection under load. It is for one goroutine.
type conn struct {
	nc   net.Conn
	in   []byte // read and not yet parsed
	buf  []byte
	out  []byte
	next uint16
}

// wait bounds every read: a broker that loses a message ends the run with an error.
const wait = 30 * time.Second

// connect opens a connection; clean false is a lasting session.
func connect(address, id string, clean bool) (*conn, error) {
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return handshake(nc, id, clean)
}

func handshake(nc net.Conn, id string, clean bool) (*conn, error) {
	c := &conn{nc: nc, buf: make([]byte, 16<<10)}
	p := &mqtt.Connect{Version: mqtt.V311, ClientID: id, CleanStart: clean, KeepAlive: 600}
	if err := c.request(mqtt.AppendConnect(nil, p), mqtt.CONNACK); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

func (c *conn) subscribe(filter string, qos byte) error {
	p := &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: filter, QoS: qos}}}
	return c.request(mqtt.AppendSubscribe(nil, p, mqtt.V311), mqtt.SUBACK)
}

// request sends a packet and reads until its answer; publishes on the way are
// dropped.
func (c *conn) request(packet []byte, want mqtt.Type) error {
	if _, err := c.nc.Write(packet); err != nil {
		return err
	}
	for done := false; !done; {
		err := c.read(func(first byte, _ []byte) error { done = done || mqtt.Type(first>>4) == want; return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// read waits for input and calls fn for each whole packet in it.
func (c *conn) read(fn func(first byte, body []byte) error) error {
	if err := c.nc.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	n, err := c.nc.Read(c.buf)
	if n == 0 && err != nil {
		return err
	}
	b := c.buf[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, b...)
		b = c.in
	}
	for {
		first, body, n, err := mqtt.Frame(b, 1<<28)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := fn(first, body); err != nil {
			return err
		}
		b = b[n:]
	}
	c.in = append(c.in[:0], b...)
	return nil
}

// publish appends a PUBLISH whose payload begins with the time of sending.
func (c *conn) publish(topic []byte, payload []byte, qos byte, at time.Time) {
	binary.BigEndian.PutUint64(payload, uint64(at.UnixNano()))
	p := mqtt.Publish{Topic: topic, Payload: payload, QoS: qos}
	if qos > 0 {
		if c.next++; c.next == 0 {
			c.next = 1
		}
		p.ID = c.next
	}
	c.out = mqtt.AppendPublish(c.out, &p, mqtt.V311)
}

func (c *conn) ack(t mqtt.Type, id uint16) {
	c.out = mqtt.AppendAck(c.out, mqtt.Ack{Type: t, ID: id}, mqtt.V311)
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// sentAt is when a received PUBLISH was sent; ok is false for other packets.
func sentAt(first byte, body []byte) (at time.Time, id uint16, qos byte, ok bool) {
	if mqtt.Type(first>>4) != mqtt.PUBLISH || len(body) < 2 {
		return at, 0, 0, false
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if qos = first >> 1 & 3; qos > 0 && len(body) >= n+2 {
		id = binary.BigEndian.Uint16(body[n:])
		n += 2
	}
	if len(body) < n+8 {
		return at, 0, 0, false
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(body[n:]))), id, qos, true
}

func (c *conn) close() {
	c.nc.Write([]byte{byte(mqtt.DISCONNECT) << 4, 0}) //nolint:errcheck // it ends either way
	c.nc.Close()                                      //nolint:errcheck // it ends either way
}
