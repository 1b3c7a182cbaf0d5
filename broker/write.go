package broker

import (
	"sync"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// write appends output and sees to it that somebody writes it. Packets of one
// connection leave in the order of these calls. It is for everybody but the core,
// which gathers what it has to write: see core.write.
func (c *conn) write(encode func(dst []byte) []byte) {
	if c.append(encode) {
		c.b.flush(c)
	}
}

// outMost is how much output may wait at all, in bytes: messages stop at outCap, but
// a client that asks and never reads is owed answers without end.
const outMost = 2 << 20

// append appends output, one packet, and reports whether somebody must be told to
// write it. A packet that is larger than the client takes is left out as if it had
// been sent [MQTT-3.1.2-25]; a client that is owed too much is hung up on.
func (c *conn) append(encode func(dst []byte) []byte) (start bool) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return false
	}
	if c.buf == nil {
		c.buf = getBuffer()
	}
	n := len(c.buf)
	if c.buf = encode(c.buf); c.maxPacket > 0 && len(c.buf)-n > c.maxPacket {
		c.buf = c.buf[:n]
		c.b.stats.tooLarge.Add(1)
	}
	start = !c.writing
	c.writing = true
	c.account()
	over := len(c.buf) > outMost || len(c.buf) > 2*outCap+c.b.cfg.Limits.Packet && c.b.outputFull()
	c.mu.Unlock()
	if over {
		c.b.stats.overflow.Add(1)
		c.b.often.warn("a client that does not read what it is answered was hung up on", "client", c.identity.Client, "remote", c.remote())
		c.shut()
	}
	return start
}

// deliver appends a PUBLISH. fits is false if it is larger than the client takes;
// start is as for append.
func (c *conn) deliver(m *mqtt.Message, d mqtt.Delivery) (fits, start bool) {
	fits = true
	start = c.append(func(dst []byte) []byte {
		n := len(dst)
		if c.maxPacket > 0 { // with its topic, before it is given an alias
			if dst = mqtt.AppendDelivery(dst, m, d, c.version); len(dst)-n+3 > c.maxPacket {
				fits = len(dst)-n <= c.maxPacket
				if !fits {
					dst = dst[:n]
				}
				return dst
			}
			dst = dst[:n]
		}
		d.Alias, d.AliasOnly = c.outAliases.Use(m.Topic)
		return mqtt.AppendDelivery(dst, m, d, c.version)
	})
	return fits, start
}

// smallOutput is what a connection to which nothing is being written takes in any case.
const smallOutput = bufferSize / 2

// full reports whether so much output waits that size bytes more are too many; idle,
// that none does here, but too much for others.
func (c *conn) full(size int) (full, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	full = c.isFull(size)
	return full, full && !c.writing
}

// isFull is full under mu. What a connection may have shrinks with what is left of the
// room for all.
func (c *conn) isFull(size int) bool {
	used, most := c.b.output.Load(), c.b.mostOutput
	switch n := int64(len(c.buf)); {
	case n == 0 && !c.writing && size <= smallOutput:
		return false
	case n >= outCap || used >= 2*most:
		return true
	case used >= most:
		return c.writing
	default:
		return n > (most-used)/8
	}
}

// outputFull reports whether output takes all of its room.
func (b *Broker) outputFull() bool { return b.output.Load() >= 2*b.mostOutput }

// account notes what the output takes that is large, or that the client does not read;
// mu is held.
func (c *conn) account() {
	n := int64(0)
	for _, b := range [...]int{cap(c.buf), c.inHand} {
		if b > bufferSize || c.stalled != 0 {
			n += int64(b)
		}
	}
	if grown := n - c.counted; grown != 0 {
		c.counted = n
		c.b.output.Add(grown)
	}
}

// stall notes that the transport does not take what is written, until it has.
func (c *conn) stall() {
	c.mu.Lock()
	c.stalls()
	c.mu.Unlock()
}

// stalls is stall under mu.
func (c *conn) stalls() {
	c.stalled = int64(time.Since(c.b.began)) + 1
	c.account()
}

// stalledFor is how long the client has read nothing of what is being written.
func (c *conn) stalledFor(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stalled == 0 {
		return 0
	}
	return now.Sub(c.b.began) - time.Duration(c.stalled)
}

// roomy reports whether the core may write more; if not, the core hears of it when
// there is room again, unless the connection is idle: see core.queueUp.
func (c *conn) roomy(size int) (ok, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	full := c.isFull(size)
	c.awaited = full && c.writing
	return !full, full && !c.writing
}

// wrote tells the core that there is room, if it waits for that.
func (c *conn) wrote() {
	c.mu.Lock()
	tell := c.awaited && len(c.buf) < outCap
	if tell {
		c.awaited = false
	}
	c.mu.Unlock()
	if tell {
		c.tellRoom()
	}
}

// take returns what waits, or nil when the connection can rest.
func (c *conn) take() []byte {
	c.mu.Lock()
	if len(c.buf) > 0 {
		b := c.buf
		c.buf, c.inHand, c.stalled = nil, cap(b), 0
		c.account()
		c.mu.Unlock()
		c.b.stats.bytesOut.Add(uint64(len(b)))
		return b
	}
	if c.buf != nil {
		putBuffer(c.buf)
	}
	c.buf, c.inHand, c.stalled, c.writing = nil, 0, 0, false
	c.account()
	end, tell := c.ended && !c.closed, c.awaited
	c.awaited = false
	c.mu.Unlock()
	if tell || c.b.short.Load() && c.b.short.CompareAndSwap(true, false) {
		c.tellRoom()
	}
	if end {
		c.finish()
	}
	return nil
}

// tellRoom tells the core that there is room.
func (c *conn) tellRoom() {
	c.inCore.Add(1)
	c.b.core.mail.post(command{kind: cmdRoom, conn: c})
}

// drain writes without blocking until nothing waits. What the socket does not
// take is left to the poller.
func (c *conn) drain() {
	for {
		b := c.take()
		if b == nil {
			return
		}
		n, err := c.tcp.write(b)
		if err != nil {
			c.shut()
		}
		if err == nil && n < len(b) {
			c.writeLater(b, n)
			return
		}
		putBuffer(b)
		c.wrote()
	}
}

// drainBlocking writes, waiting for the peer, until nothing waits.
func (c *conn) drainBlocking(b []byte, from int) {
	for b != nil {
		c.stall()
		if _, err := c.nc.Write(b[from:]); err != nil {
			c.shut()
		}
		putBuffer(b)
		c.wrote()
		b, from = c.take(), 0
	}
}

// flusher writes for the connections of its share, in turn.
type flusher struct {
	mu     sync.Mutex
	dirty  []*conn
	spare  []*conn
	wake   chan struct{}
	closed bool
}

func newFlusher() *flusher { return &flusher{wake: make(chan struct{}, 1)} }

func (f *flusher) add(conns ...*conn) {
	f.mu.Lock()
	f.dirty = append(f.dirty, conns...)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// loop drains dirty connections until stop is called and nothing is left.
func (f *flusher) loop() {
	for range f.wake {
		for {
			f.mu.Lock()
			work, closed := f.dirty, f.closed
			f.dirty, f.spare = f.spare[:0], work
			f.mu.Unlock()
			if len(work) == 0 {
				if closed {
					return
				}
				break
			}
			for i, c := range work {
				c.drain()
				work[i] = nil
			}
		}
	}
}

func (f *flusher) stop() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// write appends output of the core to a connection; flush has it written.
func (c *core) write(cn *conn, encode func(dst []byte) []byte) {
	if cn.append(encode) {
		c.soon(cn)
	}
}

// soon notes that a connection has output for flush.
func (c *core) soon(cn *conn) {
	if cn.tcp == nil {
		c.b.flush(cn)
		return
	}
	n := cn.number % uint64(len(c.b.flushers))
	c.outputs[n] = append(c.outputs[n], cn)
}

// flush wakes the flushers for what the core has written since the last flush:
// once for many connections, and many packets to one of them leave together.
func (c *core) flush() {
	c.lighten()
	for n, conns := range c.outputs {
		if len(conns) > 0 {
			c.b.flushers[n].add(conns...)
			clear(conns)
			c.outputs[n] = conns[:0]
		}
	}
}

// lighten takes what was applied off the weight that waits.
func (c *core) lighten() {
	if c.applied > 0 {
		c.b.weight.Add(-c.applied)
		c.applied = 0
	}
}

// flush gives the connection to a flusher, or to a goroutine of its own if its
// transport can only block (TLS, WebSocket, a pipe).
func (b *Broker) flush(c *conn) {
	if c.tcp != nil {
		b.flushers[c.number%uint64(len(b.flushers))].add(c)
		return
	}
	b.wg.Go(func() { c.drainBlocking(c.take(), 0) })
}
