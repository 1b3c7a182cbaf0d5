// Package client is an MQTT client for the program's own commands and for
// examples: 3.1 and 3.1.1 over package mqtt, 5 over paho.golang, behind one type.
//
//	c, err := client.Dial(ctx, client.Config{Address: "localhost:1883", User: "ann", Client: "phone", Receive: show})
//	err = c.Subscribe(ctx, "users/ann/inbox")
//	err = c.Publish(ctx, "users/bob/chat", []byte("hello"), false)
//	err = c.Close()
//
// A connection that ends stays ended: dial again. To lose and repeat nothing over
// that, hand the same Session to each Dial.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// Config says who connects where.
type Config struct {
	// Address is host:port, or a URL: mqtt://, mqtts://, ws:// or wss:// with a
	// host, and a port if it is not the usual one.
	Address string
	// Version is the protocol level; the zero value means 3.1.1.
	Version mqtt.Version
	// Client is the client identifier; in 3.x the session is clean with an empty
	// one.
	Client string
	// User and Password are sent if they are not empty; 3.x sends no password
	// without a user.
	User, Password string
	// Clean begins a new session; in 3.x the session also ends with the
	// connection.
	Clean bool
	// SessionExpiry is how long the server keeps the session after the
	// connection, in seconds; 5 only, in 3.x Clean decides.
	SessionExpiry uint32
	// KeepAlive is in seconds, 0 for none. The client sends the PINGREQs and ends
	// the connection if the server does not answer.
	KeepAlive uint16
	// ReceiveMaximum is how many QoS 1 and 2 messages the server may send ahead
	// of acknowledgements, default 1,024; 5 only.
	ReceiveMaximum uint16
	// Will is what the server publishes if the connection breaks; nil for none.
	Will *mqtt.Will
	// UserProps are sent in CONNECT; 5 only.
	UserProps []mqtt.UserProp
	// TLS is used for mqtts:// and wss://; nil trusts the system's roots.
	TLS *tls.Config
	// Session carries what must outlive the connection; nil for nothing.
	Session *Session
	// Receive gets each message, on a goroutine of the client, one after the
	// other, before it is acknowledged. It must not wait for this client. Expires
	// is by this machine's clock. nil drops them.
	Receive func(m *mqtt.Message)
}

// Client is one connection. Its methods may be called concurrently.
type Client struct {
	link
	connack *mqtt.Connack
	done    chan struct{} // closed when the connection has ended

	mu  sync.Mutex // guards err
	err error
}

// link is a connection of one protocol family.
type link interface {
	publish(ctx context.Context, m *mqtt.Message) error
	subscribe(ctx context.Context, s *mqtt.Subscribe) ([]mqtt.Reason, error)
	unsubscribe(ctx context.Context, filters []string) error
	// leave sends DISCONNECT and closes; drop only closes. Both wait for what the
	// link has started.
	leave(r mqtt.Reason) error
	drop()
}

// ErrRefused is what every RefusedError is.
var ErrRefused = errors.New("client: refused")

// ErrClosed is returned by what was waiting when this side closed the
// connection, and by calls after that.
var ErrClosed = errors.New("client: closed")

// RefusedError is a no of the server.
type RefusedError struct {
	// Packet is what was refused: CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, or
	// DISCONNECT if the server ended the connection.
	Packet mqtt.Type
	// Reason is the reason code; in 3.x what the return code stands for.
	Reason mqtt.Reason
	// Text is the server's reason string, or empty.
	Text string
}

// Error says what was refused and why.
func (e *RefusedError) Error() string {
	s := fmt.Sprintf("the server refused %v: %v", e.Packet, e.Reason)
	if e.Packet == mqtt.DISCONNECT {
		s = fmt.Sprintf("the server ended the connection: %v", e.Reason)
	}
	if e.Text != "" {
		s += " (" + e.Text + ")"
	}
	return s
}

// Is makes errors.Is(err, ErrRefused) true.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// Later reports whether the no is for now only, so that it makes sense to try
// again after a while.
func (e *RefusedError) Later() bool {
	switch e.Reason {
	case mqtt.ServerShuttingDown, mqtt.ServerBusy, mqtt.ServerUnavailable, mqtt.KeepAliveTimeout, mqtt.QuotaExceeded,
		mqtt.MessageRateTooHigh, mqtt.ReceiveMaximumExceeded:
		return true
	}
	return false
}

// Dial connects and waits for CONNACK, for as long as ctx allows and at most 10
// seconds. A no of the server is a *RefusedError.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if cfg.Version == 0 {
		cfg.Version = mqtt.V311
	}
	if cfg.ReceiveMaximum == 0 {
		cfg.ReceiveMaximum = 1024
	}
	if cfg.Session == nil {
		cfg.Session = new(Session)
	}
	nc, err := dial(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() }) //nolint:errcheck // it unblocks the handshake
	c := &Client{done: make(chan struct{})}
	open := openThree
	if cfg.Version == mqtt.V5 {
		open = openFive
	}
	c.link, c.connack, err = open(ctx, &cfg, nc, c.end)
	if err == nil && !stop() {
		err = ctx.Err()
		c.drop()
	}
	if err != nil {
		stop()
		nc.Close() //nolint:errcheck // err says more
		return nil, fmt.Errorf("client: %s: %w", cfg.Address, err)
	}
	return c, nil
}

// end notes why the connection ended; the first reason stays.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
	}
}

// Connack is the server's answer to CONNECT; it must not be written to.
func (c *Client) Connack() *mqtt.Connack { return c.connack }

// Done is closed when the connection has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the connection ended, or nil while it has not: ErrClosed after
// Close, a *RefusedError after a DISCONNECT of the server.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// during runs a call that ends early when the connection does.
func (c *Client) during(ctx context.Context, call func(context.Context) error) error {
	if err := c.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.done:
			cancel(c.Err())
		case <-ctx.Done():
		}
	}()
	err := call(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Send publishes m at its QoS and waits until the server has taken it over:
// written at QoS 0, PUBACK at 1, PUBCOMP at 2. Expires is by this machine's
// clock. If the connection ends meanwhile and the Session goes on, the next Dial
// sends it again: do not send it a second time.
func (c *Client) Send(ctx context.Context, m *mqtt.Message) error {
	return c.during(ctx, func(ctx context.Context) error { return c.publish(ctx, m) })
}

// Publish publishes at QoS 1 and waits for the PUBACK.
func (c *Client) Publish(ctx context.Context, topic string, payload []byte, retain bool) error {
	return c.Send(ctx, &mqtt.Message{Topic: topic, Payload: payload, QoS: 1, Retain: retain})
}

// Subscribe subscribes at QoS 1 and waits for the SUBACK.
func (c *Client) Subscribe(ctx context.Context, filter string) error {
	_, err := c.SubscribeTo(ctx, 0, mqtt.Subscription{Filter: filter, QoS: 1})
	return err
}

// SubscribeTo subscribes to filters with their options and waits for the SUBACK;
// id is the subscription identifier, 0 for none. It returns a reason for each
// filter, and a *RefusedError if one of them is a no.
func (c *Client) SubscribeTo(ctx context.Context, id uint32, filters ...mqtt.Subscription) (reasons []mqtt.Reason, err error) {
	err = c.during(ctx, func(ctx context.Context) error {
		reasons, err = c.subscribe(ctx, &mqtt.Subscribe{SubID: id, Filters: filters})
		return err
	})
	return reasons, err
}

// Unsubscribe ends subscriptions and waits for the UNSUBACK.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) error {
	return c.during(ctx, func(ctx context.Context) error { return c.unsubscribe(ctx, filters) })
}

// Disconnect says goodbye with a reason (5 only) and ends the connection:
// mqtt.DisconnectWithWill has the will sent.
func (c *Client) Disconnect(r mqtt.Reason) error {
	if c.Err() != nil {
		c.drop()
		return nil
	}
	c.end(ErrClosed)
	return c.leave(r)
}

// Close sends DISCONNECT and ends the connection. On one that has ended it does
// nothing.
func (c *Client) Close() error { return c.Disconnect(mqtt.Success) }

// Drop ends the connection without DISCONNECT, as a broken network would: the
// server sends the will.
func (c *Client) Drop() {
	c.end(ErrClosed)
	c.drop()
}

// refusal is the error of the first reason that is a no.
func refusal(t mqtt.Type, text string, reasons ...mqtt.Reason) error {
	for _, r := range reasons {
		if r >= 0x80 {
			return &RefusedError{t, r, text}
		}
	}
	return nil
}

// lost is the error of a connection that broke.
func lost(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return ErrClosed
	}
	return fmt.Errorf("client: the connection ended: %w", err)
}
