package broker

import (
	"net"
	"syscall"
)

// poll has a poller serve nc. It returns nil, and nc is as it was, if none can. closed
// may be nil; it is closed when the connection is.
func (b *Broker) poll(nc *net.TCPConn, closed chan struct{}) *conn {
	c := newConn(b, nil)
	p := b.poller(c.number)
	if p == nil {
		return nil
	}
	t := takeOver(nc)
	if t == nil {
		return nil
	}
	c.tcp, t.conn, t.closed, t.poller = t, c, closed, p
	if !b.track(c) {
		c.neverWas()
		return c
	}
	c.limit = b.after(b.cfg.Limits.Connect, c.connectTimeout)
	if err := p.add(c); err != nil {
		p.end(c, err)
	}
	return c
}

// poller is the one for the connection of that number. They are made when the first
// comes; while there is none, connections are served by goroutines.
func (b *Broker) poller(number uint64) *poller {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pollers) == 0 && !b.closed { // Close stops those that are there by then
		b.startPollers()
	}
	if len(b.pollers) == 0 {
		return nil
	}
	return b.pollers[number%uint64(len(b.pollers))]
}

// neverWas ends a connection that came when the broker was closed already.
func (c *conn) neverWas() {
	c.mu.Lock()
	c.closed, c.ended = true, true // the descriptor is not to be touched any more
	c.mu.Unlock()
	syscall.Close(c.tcp.fd) //nolint:errcheck // closed before it was used
	if c.tcp.closed != nil {
		close(c.tcp.closed)
	}
}

// lend notes that somebody else than the poller has the input, until giveBack or
// endInput.
func (c *conn) lend() {
	c.mu.Lock()
	c.tcp.lent = true
	c.mu.Unlock()
}

// mustWait reports whether nothing more should be read of the connection for now.
func (c *conn) mustWait() bool { return c.needsRoom() || c.ahead() }

// giveBack gives the input back to the poller: once a large packet that has begun has
// its room, and the core has few enough commands.
func (c *conn) giveBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.needsRoom() && !c.closed {
		c.leased = c.packetRoom()
		c.tcp.inLine = c.leased.ask(c, c.needs)
		return
	}
	c.awaits.Store(true)
	if c.ahead() && !c.closed { // in this order: see doneWith
		c.tcp.awaitsCore = true
		return
	}
	c.back()
}

// granted goes on with the packet that has its room now.
func (c *conn) granted(l *lease) {
	c.mu.Lock()
	ours := c.tcp.inLine == l // else the connection was shut meanwhile
	if ours {
		c.tcp.inLine = nil
	}
	c.mu.Unlock()
	if ours {
		c.begin(l)
		c.giveBack()
	}
}

// back is giveBack at once; mu is held.
func (c *conn) back() {
	c.awaits.Store(false)
	c.tcp.lent, c.tcp.awaitsCore, c.tcp.unread = false, false, false
	c.tcp.poller.watch(c)
}

// goOn gives the input back if that waits for the core.
func (c *conn) goOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tcp.awaitsCore {
		c.back()
	}
}

// ends is endInput in a goroutine of its own, since that writes a line of the log, which
// may be slow.
func (c *conn) ends(err error) { c.b.wg.Go(func() { c.endInput(err) }) }

// endInput is the last that is done with the input, but for what a client may still
// send while it reads why it is being closed. Whoever calls it has the input.
func (c *conn) endInput(err error) {
	if !c.discarding && c.end(err) {
		c.discarding = true
		c.giveBack()
		return
	}
	if c.discarding {
		c.shut()
	}
	c.mu.Lock()
	c.tcp.inputEnded = true
	c.tcp.poller.watch(c)
	c.mu.Unlock()
	c.b.reading.Done()
	c.tcp.leave()
}

// hangUp ends the socket: the poller hears of it, and the input ends. mu is held, the
// descriptor open.
func (c *conn) hangUp() {
	syscall.Shutdown(c.tcp.fd, syscall.SHUT_RDWR) //nolint:errcheck // it may be down already
	if c.tcp.unsent != nil {
		c.tcp.unsent, c.inHand, c.stalled, c.writing = nil, 0, 0, false
	}
	if l := c.tcp.inLine; l != nil {
		c.tcp.inLine = nil
		c.leased.leave(l)
		c.back()
	}
	if c.tcp.awaitsCore {
		c.back()
	}
	c.tcp.poller.watch(c)
}

// writeLater leaves what the socket did not take to the poller.
func (c *conn) writeLater(b []byte, from int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.inHand, c.writing = 0, false
		c.account()
		return
	}
	c.tcp.unsent, c.tcp.sent = b, from
	c.stalls()
	c.tcp.poller.watch(c)
}

// writeOn goes on writing; only the poller calls it.
func (c *conn) writeOn() {
	c.mu.Lock()
	b, from := c.tcp.unsent, c.tcp.sent
	c.mu.Unlock()
	n, err := c.tcp.write(b[from:])
	if err != nil {
		c.shut()
		return
	}
	c.mu.Lock()
	c.tcp.sent += n
	if n > 0 && c.tcp.unsent != nil {
		c.stalls() // anew
	}
	done := c.tcp.unsent != nil && c.tcp.sent == len(b) // else it was shut
	if done {
		c.tcp.unsent = nil
		c.tcp.poller.watch(c)
	}
	c.mu.Unlock()
	if done {
		putBuffer(b)
		c.wrote()
		c.drain()
	}
}
