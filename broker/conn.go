package broker

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// conn is one client's connection: a transport and the protocol state at it.
type conn struct {
	// Static after newConn.
	b      *Broker
	nc     net.Conn
	raw    syscall.RawConn // nil unless plain TCP
	number uint64

	// Owned by whoever has the connection's input: its reader, or the worker
	// that works on its buffer.
	version   mqtt.Version
	connected bool // CONNECT was taken
	partial   []byte
	aliases   mqtt.Aliases
	out       []command // of the buffer that is being read

	// Set when CONNECT is applied, before anything else of the connection is.
	identity  hooks.Identity
	silence   time.Duration
	maxPacket int // the largest packet that the client takes, 0 for any

	// Owned by the core.
	sess    *session
	pend    uint64 // the last batch that holds an effect of this connection
	parked  []command
	unacked int

	spoke   atomic.Int64 // when it last sent something, Unix ns
	inCore  atomic.Int32 // commands that the core has not applied
	room    chan struct{}
	closing atomic.Bool
	// isConnected is connected, for the timer that waits for CONNECT.
	isConnected atomic.Bool
	finished    chan struct{} // closed when the reader has ended

	mu      sync.Mutex // guards the following
	buf     []byte     // output that waits
	writing bool       // a flusher or writer has the connection
	ended   bool       // nothing more is taken; close when buf is empty
	closed  bool
}

// inFlight is how many commands a connection may have in the core before its
// reader waits: TCP then slows the sender.
const inFlight = 512

func newConn(b *Broker, nc net.Conn) *conn {
	c := &conn{b: b, nc: nc, number: b.conns.Add(1), room: make(chan struct{}, 1), finished: make(chan struct{})}
	if tc, ok := nc.(*net.TCPConn); ok {
		c.raw, _ = tc.SyscallConn()
	}
	c.spoke.Store(time.Now().UnixNano())
	return c
}

func (c *conn) heard() time.Time { return time.Unix(0, c.spoke.Load()) }

// admitted takes over what CONNECT said about the connection.
func (c *conn) admitted(id hooks.Identity, p *mqtt.Connect, l Limits) {
	c.identity = id
	keep := p.KeepAlive
	if l.ServerKeepAlive != 0 && p.Version == mqtt.V5 {
		keep = l.ServerKeepAlive
	}
	c.silence = mqtt.KeepAliveLimit(keep)
	c.maxPacket = int(p.MaximumPacketSize)
}

// left notes that the core has applied n commands of the connection.
func (c *conn) left(n int32) {
	if now := c.inCore.Add(-n); now < inFlight && now+n >= inFlight {
		select {
		case c.room <- struct{}{}:
		default:
		}
	}
}

// submit hands the buffer's commands to the core, and waits while the core has
// too many of this connection.
func (c *conn) submit() {
	if len(c.out) == 0 {
		return
	}
	n := c.inCore.Add(int32(len(c.out)))
	c.b.core.mail.post(c.out...)
	clear(c.out)
	c.out = c.out[:0]
	for n >= inFlight && !c.closing.Load() {
		select {
		case <-c.room:
		case <-time.After(time.Second): // a closed connection looks again
		}
		n = c.inCore.Load()
	}
}

// remote is the peer's address, for the log.
func (c *conn) remote() string { return c.nc.RemoteAddr().String() }

// refuse answers a packet in its place among the connection's acknowledgements.
func (c *conn) refuse(a mqtt.Ack) { c.out = append(c.out, command{kind: cmdRefuse, conn: c, ack: a}) }

// closeWith tells the client why, where its protocol can, and closes.
func (c *conn) closeWith(r mqtt.Reason) {
	if c.version == mqtt.V5 && r != mqtt.Success {
		c.write(func(dst []byte) []byte { return mqtt.AppendDisconnect(dst, &mqtt.Disconnect{Reason: r}, c.version) })
	}
	c.close()
}

// close ends the connection once what waits for it is written, or soon.
func (c *conn) close() {
	c.closing.Store(true)
	c.mu.Lock()
	c.ended = true
	idle := !c.writing && len(c.buf) == 0
	c.mu.Unlock()
	if idle {
		c.shut()
		return
	}
	c.b.after(time.Second, c.shut) // a reader that has stopped reading
}

// shut closes the socket; the reader then ends.
func (c *conn) shut() {
	c.mu.Lock()
	was := c.closed
	c.closed, c.ended, c.buf = true, true, nil
	c.mu.Unlock()
	c.closing.Store(true)
	if !was {
		go c.nc.Close() //nolint:errcheck // nothing can be done about it; may wait for a write
	}
}
