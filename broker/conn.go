package broker

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// conn is one client's connection: a transport and the protocol state at it.
type conn struct {
	// Static after newConn.
	b      *Broker
	nc     net.Conn
	tcp    *tcp    // nil unless a poller serves it; nc is nil then
	under  *socket // nil unless TLS over TCP that Listen took
	number uint64

	// Owned by whoever has the connection's input: its reader, or the worker
	// that works on its buffer.
	version    mqtt.Version
	connected  bool        // CONNECT was taken
	refused    bool        // CONNECT was answered with a no
	lasts      bool        // it asked for a session that outlives it
	limit      *time.Timer // waits for CONNECT
	lately     byte        // reads without a second's pause, up to busyFrom
	partial    []byte
	held       int    // of it, what counts in Broker.partials
	needs      int    // the length of the packet that has begun, if it is a large one
	lease      *lease // its room in leased
	leased     *room
	aliases    mqtt.Aliases
	out        []command // of the buffer that is being read
	batched    bool      // the poller has the core look at what is submitted
	discarding bool      // nothing that it sends counts any more
	discarded  int
	straight   []*conn // those to whom bypass wrote

	// Set before the command of CONNECT, and not after.
	identity  hooks.Identity
	silence   time.Duration
	maxPacket int  // the largest packet that the client takes, 0 for any
	mute      bool // it wants no reason strings but with CONNACK and DISCONNECT

	// Owned by the core.
	sess    *session
	parked  []command
	unacked int

	// pend is the last batch that holds an effect of this connection. The core
	// writes it.
	pend atomic.Uint64

	spoke   atomic.Int64  // when it last sent something, since the broker's start
	inCore  atomic.Int32  // commands that the core has not applied
	awaits  atomic.Bool   // the reader waits for room, which is told there is some
	room    chan struct{} // made before awaits is true, but for a poller
	closing atomic.Bool
	// isConnected is connected, for the timer that waits for CONNECT.
	isConnected atomic.Bool

	mu      sync.Mutex // guards the following
	buf     []byte     // output that waits
	writing bool       // a flusher or writer has the connection
	ended   bool       // nothing more is taken; close when buf is empty
	why     ending
	told    bool  // the client was told why: let it read that
	awaited bool  // the core waits for room in buf
	inHand  int   // the capacity of what is being written
	stalled int64 // since when the transport has not taken it, since the broker's start; 0: it is not known to wait
	counted int64 // of its output, what counts in Broker.output
	greeted bool  // CONNACK was written
	pongs   int   // the PINGRESPs that wait for that
	closed  bool
	// outAliases are the topic aliases that the client was sent.
	outAliases mqtt.OutAliases
}

// mostAliases is how many topic aliases are used towards one client.
const mostAliases = 16

// lingerFor is how long a connection that the broker ends is read on, so that
// a client that is still sending comes to read the reason.
const lingerFor = 2 * time.Second

// inFlight is what a connection may have in the core before its reader waits: TCP
// then slows the sender. A command weighs 1, 1 more for each 2 KB of it, and
// 1 for each of its filters.
const inFlight = 512

// weigh notes what the commands of one packet weigh.
func weigh(cmds []command, size int) {
	for i := range cmds {
		cmds[i].more += int32(size >> 11)
	}
}

func newConn(b *Broker, nc net.Conn) *conn {
	c := &conn{b: b, nc: nc, number: b.conns.Add(1)}
	if nc, ok := nc.(*tls.Conn); ok {
		c.under, _ = nc.NetConn().(*socket)
	}
	c.hear()
	return c
}

// hear notes that the client has sent something. It reads the monotonic clock:
// a step of the wall clock silences nobody.
func (c *conn) hear() { c.spoke.Store(int64(time.Since(c.b.began))) }

// unheard reports whether the client may have sent something that is not read yet,
// because of what it had sent before: that is no silence.
func (c *conn) unheard() bool {
	if c.tcp == nil {
		return c.awaits.Load()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tcp.lent && c.tcp.unread
}

// silent is how long the client has sent nothing.
func (c *conn) silent() time.Duration { return time.Since(c.b.began) - time.Duration(c.spoke.Load()) }

// admit takes over what CONNECT says about the connection.
func (c *conn) admit(id hooks.Identity, p *mqtt.Connect, l Limits) {
	c.identity = id
	c.connected, c.lasts = true, p.SessionExpiry != 0
	c.unlimit()
	c.aliases = mqtt.NewAliases(uint16(l.TopicAliases))
	keep := p.KeepAlive
	if l.overridesKeepAlive(p) {
		keep = l.ServerKeepAlive
	}
	c.silence = mqtt.KeepAliveLimit(keep)
	c.mute = !p.RequestProblemInfo // [MQTT-3.1.2-29]
	c.outAliases = mqtt.NewOutAliases(min(p.TopicAliasMaximum, mostAliases))
	c.isConnected.Store(true)
}

// overridesKeepAlive reports whether the client is told to use another keep
// alive than it asked for [MQTT-3.2.2-21].
func (l *Limits) overridesKeepAlive(p *mqtt.Connect) bool {
	return l.ServerKeepAlive != 0 && p.Version == mqtt.V5 && (p.KeepAlive == 0 || p.KeepAlive > l.ServerKeepAlive)
}

// doneWith notes that the core has applied a command of a connection.
func (c *core) doneWith(cn *conn, cmd *command) {
	n := 1 + cmd.more
	now := cn.inCore.Add(-n)
	switch {
	case cmd.room > 0:
		c.b.packets.give(int64(cmd.room))
	case cmd.counted:
		c.applied += int64(n)
	}
	if !cn.awaits.Load() || now > 0 && (now >= inFlight || now+n < inFlight) {
		return
	}
	if cn.tcp != nil {
		cn.goOn()
		return
	}
	select {
	case cn.room <- struct{}{}:
	default:
	}
}

// submit hands the buffer's commands to the core.
func (c *conn) submit() {
	if len(c.out) == 0 {
		return
	}
	sum, small := int32(0), int64(0)
	for i := range c.out {
		n := 1 + c.out[i].more
		if sum += n; c.out[i].room == 0 {
			c.out[i].counted = true
			small += int64(n)
		}
	}
	c.inCore.Add(sum)
	c.b.weight.Add(small)
	if c.batched {
		c.b.core.mail.add(c.out...)
	} else {
		c.b.core.mail.post(c.out...)
	}
	clear(c.out)
	c.out = c.out[:0]
}

// await waits while the core has too many commands of this connection, or of all
// and some of this one. Only the reader does: a worker has others to serve.
func (c *conn) await() {
	if !c.ahead() {
		return
	}
	if c.room == nil { // most never wait
		c.room = make(chan struct{}, 1)
	}
	c.awaits.Store(true)
	for c.ahead() && !c.closing.Load() {
		select {
		case <-c.room:
		case <-time.After(time.Second): // a closed connection looks again
		}
	}
	c.awaits.Store(false)
}

// ahead reports whether the core has so many commands that no more should be read.
// Who has none there goes on.
func (c *conn) ahead() bool {
	n := c.inCore.Load()
	return n >= inFlight || n > 0 && c.b.weight.Load() > c.b.mostWeight
}

// remote is the peer's address, for the log.
func (c *conn) remote() string {
	if c.tcp != nil {
		return c.tcp.peer.String()
	}
	return c.nc.RemoteAddr().String()
}

// closeWith tells the client why, where its protocol can, and closes.
func (c *conn) closeWith(r mqtt.Reason, text string) {
	if r != mqtt.Success {
		c.because(r, text)
	}
	if c.version == mqtt.V5 && r != mqtt.Success && c.isGreeted() { // [MQTT-3.14.0-1]
		d := &mqtt.Disconnect{Reason: r}
		if c.takes(len(text)) {
			d.ReasonString = text
		}
		c.write(func(dst []byte) []byte { return mqtt.AppendDisconnect(dst, d, c.version) })
		c.mu.Lock()
		c.told = r != mqtt.ServerShuttingDown
		c.mu.Unlock()
	}
	c.close()
}

// takes reports whether a reason string of n bytes fits into what the client
// takes, and is short enough to be one.
func (c *conn) takes(n int) bool {
	const around = 32 // the rest of an acknowledgement or DISCONNECT
	return n > 0 && n < 1024 && (c.maxPacket == 0 || n+around <= c.maxPacket)
}

// close ends the connection once what waits for it is written, or soon.
func (c *conn) close() {
	c.closing.Store(true)
	c.mu.Lock()
	c.ended = true
	idle := !c.writing && len(c.buf) == 0
	c.mu.Unlock()
	if idle {
		c.finish()
		return
	}
	c.b.after(lingerFor, c.shut) // a reader that has stopped reading
}

// finish ends a connection whose output is written. One that was told why is
// read on for a while: closing at once would reset it under the client's hands,
// before it has read the reason.
func (c *conn) finish() {
	c.mu.Lock()
	told, closed := c.told, c.closed
	c.mu.Unlock()
	if closed || !told || !c.closeWrite() {
		c.shut()
		return
	}
	c.b.after(lingerFor, c.shut)
}

// closeWrite tells the peer that nothing more comes, if the transport can.
func (c *conn) closeWrite() bool {
	if c.tcp != nil {
		return c.tcp.closeWrite()
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return false
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerFor)) //nolint:errcheck // then shut does it
	return true
}

// mostDiscarded is how much a connection that the broker ends may still send, in bytes.
const mostDiscarded = 1 << 20

// discard reads what a client still sends, for a bounded time and length, then
// closes.
func (c *conn) discard() {
	defer c.shut()
	b := getBuffer()
	defer putBuffer(b)
	for n := 0; n < mostDiscarded; {
		k, err := c.nc.Read(b[:cap(b)])
		if err != nil {
			return
		}
		n += k
	}
}

// shut closes the socket; the reader then ends.
func (c *conn) shut() {
	c.mu.Lock()
	was := c.closed
	c.closed, c.ended, c.buf = true, true, nil
	c.closing.Store(true)
	if c.tcp != nil && !was {
		c.hangUp()
	}
	c.account()
	c.mu.Unlock()
	switch {
	case was:
	case c.tcp != nil:
		c.tcp.leave() // for the output
	default:
		c.b.hangUp(c.nc)
	}
}
