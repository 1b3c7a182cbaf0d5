// Package client is a small MQTT client for the program's own commands: 3.1 and
// 3.1.1 over package mqtt, one goroutine that reads, acknowledgements at QoS 1.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// Config says who connects where.
type Config struct {
	// Address is host:port.
	Address string
	// Client is the client identifier; with an empty one the session is clean.
	Client string
	// User and Password are sent if User is not empty.
	User, Password string
	// Clean begins a new session.
	Clean bool
	// KeepAlive is in seconds, 0 for none; the caller sends what keeps it.
	KeepAlive uint16
	// Receive gets each message, on the client's reading goroutine, before it is
	// acknowledged. It must not wait for this client. nil drops them.
	Receive func(m *mqtt.Message)
}

// Client is one connection. Its methods may be called concurrently.
type Client struct {
	cfg  Config
	nc   net.Conn
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex // guards the following
	next    uint16
	waiting map[uint16]chan error
	err     error
}

// ErrRefused is returned by Dial and Subscribe for a no of the server; the text
// holds its reason.
var ErrRefused = errors.New("client: refused")

// Dial connects and waits for CONNACK.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c := &Client{cfg: cfg, nc: nc, done: make(chan struct{}), waiting: make(map[uint16]chan error)}
	p := &mqtt.Connect{Version: mqtt.V311, ClientID: cfg.Client, CleanStart: cfg.Clean || cfg.Client == "", KeepAlive: cfg.KeepAlive,
		HasUsername: cfg.User != "", Username: cfg.User, HasPassword: cfg.Password != "", Password: []byte(cfg.Password)}
	if err := c.open(p); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return c, nil
}

func (c *Client) open(p *mqtt.Connect) error {
	if _, err := c.nc.Write(mqtt.AppendConnect(nil, p)); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if err := c.nc.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	in := reader{nc: c.nc}
	first, body, err := in.next()
	if err != nil {
		return fmt.Errorf("client: no CONNACK: %w", err)
	}
	if t := mqtt.Type(first >> 4); t != mqtt.CONNACK {
		return fmt.Errorf("client: the server answered CONNECT with %v", t)
	}
	a, err := mqtt.DecodeConnack(body, mqtt.V311)
	if err != nil {
		return err
	}
	if a.Reason != mqtt.Success {
		return fmt.Errorf("%w: CONNECT, %v", ErrRefused, a.Reason)
	}
	if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	go c.read(in)
	return nil
}

// reader cuts packets off a connection.
type reader struct {
	nc  net.Conn
	buf []byte
}

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
func (c *Client) read(in reader) {
	defer close(c.done)
	for {
		first, body, err := in.next()
		if err == nil {
			err = c.packet(first, body)
		}
		if err != nil {
			c.end(err)
			return
		}
	}
}

func (c *Client) packet(first byte, body []byte) error {
	switch t := mqtt.Type(first >> 4); t {
	case mqtt.PUBLISH:
		var p mqtt.Publish
		if err := p.Decode(first, body, mqtt.V311); err != nil {
			return err
		}
		if c.cfg.Receive != nil {
			c.cfg.Receive(p.Message(0))
		}
		if p.QoS == 1 {
			return c.write(mqtt.AppendAck(nil, mqtt.Ack{Type: mqtt.PUBACK, ID: p.ID}, mqtt.V311))
		}
	case mqtt.PUBACK:
		var a mqtt.Ack
		if err := a.Decode(first, body, mqtt.V311); err != nil {
			return err
		}
		c.answer(a.ID, nil)
	case mqtt.SUBACK:
		a, err := mqtt.DecodeSuback(body, mqtt.V311)
		if err != nil {
			return err
		}
		for _, r := range a.Reasons {
			if r >= 0x80 {
				err = fmt.Errorf("%w: SUBSCRIBE", ErrRefused)
			}
		}
		c.answer(a.ID, err)
	}
	return nil
}

func (c *Client) write(b []byte) error {
	_, err := c.nc.Write(b)
	return err
}

func (c *Client) answer(id uint16, err error) {
	c.mu.Lock()
	w := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	if w != nil {
		w <- err
	}
}

func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("client: connection ended: %w", err)
	for id, w := range c.waiting {
		w <- c.err
		delete(c.waiting, id)
	}
}

// ask sends a packet that has an identifier and waits for its answer.
func (c *Client) ask(ctx context.Context, packet func(id uint16) []byte) error {
	w := make(chan error, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return c.err
	}
	for c.next++; c.next == 0 || c.waiting[c.next] != nil; c.next++ {
	}
	id := c.next
	c.waiting[id] = w
	c.mu.Unlock()
	if err := c.write(packet(id)); err != nil {
		return err
	}
	select {
	case err := <-w:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Publish publishes at QoS 1 and waits for the PUBACK.
func (c *Client) Publish(ctx context.Context, topic string, payload []byte, retain bool) error {
	return c.ask(ctx, func(id uint16) []byte {
		p := &mqtt.Publish{Topic: []byte(topic), Payload: payload, QoS: 1, ID: id, Retain: retain}
		return mqtt.AppendPublish(nil, p, mqtt.V311)
	})
}

// Subscribe subscribes at QoS 1 and waits for the SUBACK.
func (c *Client) Subscribe(ctx context.Context, filter string) error {
	return c.ask(ctx, func(id uint16) []byte {
		s := &mqtt.Subscribe{ID: id, Filters: []mqtt.Subscription{{Filter: filter, QoS: 1}}}
		return mqtt.AppendSubscribe(nil, s, mqtt.V311)
	})
}

// Close sends DISCONNECT and ends the connection.
func (c *Client) Close() error {
	err := c.write(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V311))
	err = errors.Join(err, c.nc.Close())
	<-c.done
	return err
}
