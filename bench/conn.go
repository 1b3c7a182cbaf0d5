package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// conn is one MQTT connection under load, of level 4 where nothing else is said. It is for one goroutine.
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
	return handshakeAs(nc, id, clean, mqtt.V311)
}

func handshakeAs(nc net.Conn, id string, clean bool, v mqtt.Version) (*conn, error) {
	c := &conn{nc: nc, buf: make([]byte, 16<<10)}
	p := &mqtt.Connect{Version: v, ClientID: id, CleanStart: clean, KeepAlive: 600}
	if err := c.request(mqtt.AppendConnect(nil, p), mqtt.CONNACK); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

func (c *conn) subscribe(filter string, qos byte) error {
	p := &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: filter, QoS: qos}}}
	return c.request(mqtt.AppendSubscribe(nil, p, mqtt.V311), mqtt.SUBACK)
}

// errAnswered ends a read at the answer that was waited for.
var errAnswered = errors.New("bench: answered")

// request sends a packet and reads until its answer; publishes before it are
// dropped, what follows it is for the next read.
func (c *conn) request(packet []byte, want mqtt.Type) error {
	if _, err := c.nc.Write(packet); err != nil {
		return err
	}
	for {
		err := c.read(func(first byte, _ []byte) error {
			if mqtt.Type(first>>4) == want {
				return errAnswered
			}
			return nil
		})
		switch {
		case errors.Is(err, errAnswered):
			return nil
		case err != nil:
			return err
		}
	}
}

// read calls fn for each whole packet that is there, or else waits for input. An
// error of fn ends it behind that packet.
func (c *conn) read(fn func(first byte, body []byte) error) error {
	if seen, err := c.parse(fn); seen || err != nil {
		return err
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	n, err := c.nc.Read(c.buf)
	if n == 0 && err != nil {
		return err
	}
	c.in = append(c.in, c.buf[:n]...)
	_, err = c.parse(fn)
	return err
}

// parse calls fn for the whole packets that were read.
func (c *conn) parse(fn func(first byte, body []byte) error) (seen bool, err error) {
	b := c.in
	defer func() { c.in = append(c.in[:0], b...) }()
	for {
		first, body, n, err := mqtt.Frame(b, 1<<28)
		if n == 0 || err != nil {
			return seen, err
		}
		b, seen = b[n:], true
		if err := fn(first, body); err != nil {
			return seen, err
		}
	}
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
