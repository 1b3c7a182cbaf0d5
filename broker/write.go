package broker

import (
	"errors"
	"sync"
	"syscall"

	"github.com/geocast/geocast/mqtt"
)

// write appends output and sees to it that somebody writes it. Packets of one
// connection leave in the order of these calls.
func (c *conn) write(encode func(dst []byte) []byte) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	if c.buf == nil {
		c.buf = getBuffer()
	}
	c.buf = encode(c.buf)
	start := !c.writing
	c.writing = true
	c.mu.Unlock()
	if start {
		c.b.flush(c)
	}
}

// deliver writes a PUBLISH, or reports that it is larger than the client takes.
func (c *conn) deliver(m *mqtt.Message, d mqtt.Delivery) bool {
	fits := true
	c.write(func(dst []byte) []byte {
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
	return fits
}

// buffered is how many bytes of output wait.
func (c *conn) buffered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.buf)
}

// take returns what waits, or nil when the connection can rest.
func (c *conn) take() []byte {
	c.mu.Lock()
	if len(c.buf) > 0 {
		b := c.buf
		c.buf = nil
		c.mu.Unlock()
		return b
	}
	if c.buf != nil {
		putBuffer(c.buf)
		c.buf = nil
	}
	c.writing = false
	end := c.ended && !c.closed
	c.mu.Unlock()
	if end {
		c.finish()
	}
	return nil
}

// drain writes without blocking until nothing waits. What the socket does not
// take is left to a goroutine of its own.
func (c *conn) drain() {
	for {
		b := c.take()
		if b == nil {
			return
		}
		n, err := c.tryWrite(b)
		if err != nil {
			c.shut()
		}
		if err == nil && n < len(b) {
			c.b.wg.Go(func() { c.drainBlocking(b, n) })
			return
		}
		putBuffer(b)
		c.b.wrote(c)
	}
}

// drainBlocking writes, waiting for the peer, until nothing waits.
func (c *conn) drainBlocking(b []byte, from int) {
	for b != nil {
		if _, err := c.nc.Write(b[from:]); err != nil {
			c.shut()
		}
		putBuffer(b)
		c.b.wrote(c)
		b, from = c.take(), 0
	}
}

// tryWrite writes what the socket takes at once.
func (c *conn) tryWrite(b []byte) (n int, err error) {
	if c.raw == nil {
		return 0, nil
	}
	werr := c.raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			k, e := syscall.Write(int(fd), b[n:])
			switch {
			case e == nil:
				n += k
			case errors.Is(e, syscall.EINTR):
			case errors.Is(e, syscall.EAGAIN):
				return true
			default:
				err = e
				return true
			}
		}
		return true
	})
	if werr != nil {
		return n, werr
	}
	return n, err
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

func (f *flusher) add(c *conn) {
	f.mu.Lock()
	f.dirty = append(f.dirty, c)
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

// flush gives the connection to a flusher, or to a goroutine of its own if its
// transport can only block (TLS, WebSocket, a pipe).
func (b *Broker) flush(c *conn) {
	if c.raw != nil {
		b.flushers[c.number%uint64(len(b.flushers))].add(c)
		return
	}
	b.wg.Go(c.drain)
}

// buffers are shared by everything that reads and writes sockets.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

func getBuffer() []byte { return (*buffers.Get().(*[]byte))[:0] }

func putBuffer(b []byte) {
	if cap(b) > 64<<10 {
		return
	}
	b = b[:0]
	buffers.Put(&b)
}
