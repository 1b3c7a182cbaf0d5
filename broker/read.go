package broker

import (
	"errors"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// errEnd ends a connection that has said all it has to say.
var errEnd = errors.New("broker: connection ended by its client")

// errNoConnect ends a connection that does not begin as it must.
var errNoConnect = &mqtt.Error{Reason: mqtt.ProtocolError, Clause: "MQTT-3.1.0-1", Text: "the first packet is not CONNECT"}

// errClosing ends the reading of a connection that the broker is closing.
var errClosing = errors.New("broker: the connection is being closed")

// serve reads a connection until it ends.
func (c *conn) serve() {
	c.limit = c.b.after(c.b.cfg.Limits.Connect, c.connectTimeout)
	var err error
	if c.under != nil {
		err = c.readTLS(c.under)
	} else {
		err = c.readPlain()
	}
	if c.end(err) {
		c.discard()
	}
}

// unlimit ends the wait for CONNECT.
func (c *conn) unlimit() {
	if c.limit != nil {
		c.limit.Stop()
		c.limit = nil // most of a connection's life it would only take memory
	}
}

// connectTimeout closes a connection that has not sent its CONNECT in time.
func (c *conn) connectTimeout() {
	if !c.isConnected.Load() {
		c.b.stats.malformed.Add(1)
		c.logRefused("", "", &hooks.Refusal{Reason: mqtt.UnspecifiedError, Text: "no CONNECT came in time"})
		c.shut()
	}
}

// end tells the client what was wrong, if something was, and the core that the
// connection is no more. It reports whether to read on for a while, so that a client
// that is still sending comes to read why.
func (c *conn) end(err error) (readOn bool) {
	c.unlimit()
	c.submit()
	c.partial = nil
	c.unclaim()
	c.needs = 0
	_ = c.holdPartial(0) // less never fails
	reason, text := mqtt.Success, ""
	var perr *mqtt.Error
	if errors.As(err, &perr) {
		reason, text = perr.Reason, perr.Text
		c.b.stats.malformed.Add(1)
	}
	if perr != nil && !c.connected && !c.refused {
		c.logRefused("", "", err)
	}
	if c.connected {
		c.logGone(err)
		gone := command{kind: cmdGone, conn: c}
		switch {
		case perr != nil && !c.isGreeted():
			gone.any = perr // the core says it, after CONNACK
		case !errors.Is(err, errEnd): // the core closes it, after what it is owed
			c.closeWith(reason, text)
		}
		c.inCore.Add(1)
		c.b.core.mail.post(gone)
	} else {
		c.close()
	}
	return perr != nil || errors.Is(err, errClosing)
}

// readPlain reads a transport that can only block. It waits with a small buffer, and
// takes a large one while that is too small.
func (c *conn) readPlain() error {
	small := make([]byte, 256)
	for b := small; ; {
		if err := c.mayRead(); err != nil {
			return err
		}
		n, err := c.nc.Read(b)
		if n > 0 {
			if err := c.input(b[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		full := n == len(b)
		if len(b) > len(small) {
			putBuffer(b)
		}
		if b = small; full {
			b = getBuffer()
			b = b[:cap(b)]
		}
	}
}

// mayRead waits until the connection may send more.
func (c *conn) mayRead() error {
	c.await()
	return c.claim()
}

// errWorker says that a packet is for a worker, not for the reader.
var errWorker = errors.New("broker: a packet for a worker")

// input takes what was read. The reader deals with acknowledgements and plain
// publishes itself; from the first other packet on a worker has the rest, which
// the reader waits for, so that order holds.
func (c *conn) input(b []byte) error {
	busy := c.isBusy()
	b, err := c.whole(b)
	if err != nil {
		return err
	}
	rest, err := b, errWorker
	if busy {
		rest, err = c.parse(b, true)
	}
	if err == errWorker { //nolint:errorlint // it is not wrapped
		err = c.elsewhere(func() error {
			_, err := c.parse(rest, false)
			return err
		})
	}
	return err
}

// isBusy reports whether the client sends so much that its reader, which is the
// cheapest, should do the work. The stack of a reader that has done so stays twice as
// large, and nearly all clients send a fix now and then: theirs never does.
func (c *conn) isBusy() bool {
	if c.silent() > time.Second {
		c.lately = 0
	}
	c.lately = min(c.lately+1, busyFrom)
	return c.lately == busyFrom
}

// busyFrom is how many reads without a second's pause make a connection busy.
const busyFrom = 16

// whole notes that the client has sent something, and puts it behind the beginning
// of a packet that came before.
func (c *conn) whole(b []byte) ([]byte, error) {
	if c.closing.Load() {
		return nil, errClosing
	}
	c.hear()
	c.b.stats.bytesIn.Add(uint64(len(b)))
	if len(c.partial) > 0 {
		c.partial = append(c.partial, b...)
		b = c.partial
	}
	return b, nil
}

// elsewhere has a job done by a worker and waits for it. It is apart so that the
// reader's stack stays small.
//
//go:noinline
func (c *conn) elsewhere(job func() error) error {
	done := make(chan error, 1)
	c.delegate(func() { done <- job() })
	return <-done
}

// delegate gives a job of the connection to a worker.
func (c *conn) delegate(job func()) {
	if c.connected {
		c.b.work(job)
	} else { // a handshake or authentication may take long; the workers are for those who are in
		c.b.wg.Go(job)
	}
}

// parse cuts packets off the input and makes commands of them. On the reader it
// ends with errWorker, and what is left, at a packet that needs a worker.
func (c *conn) parse(b []byte, reader bool) (rest []byte, err error) {
	defer c.flushStraight()
	for len(b) > 0 {
		if !c.connected && mqtt.Type(b[0]>>4) != mqtt.CONNECT { // told at its first byte: it may never send the rest
			return nil, errNoConnect
		}
		first, body, n, err := mqtt.Frame(b, c.b.cfg.Limits.Packet)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if reader && !c.light(first, n) {
			return b, errWorker
		}
		had := len(c.out)
		if err := c.packet(first, body, reader); err != nil {
			return b, err
		}
		if had <= len(c.out) { // else they were handed over
			weigh(c.out[had:], n)
			c.handOver(c.out[had:])
		} else {
			c.unclaim()
		}
		if b = b[n:]; !reader {
			c.flushStraight() // the next packet may have to wait for something
		}
	}
	c.flushStraight()
	c.submit()
	return nil, c.remember(b)
}

// smallPacket is the largest SUBSCRIBE or UNSUBSCRIBE that the reader deals with, in bytes.
const smallPacket = 256

// light reports whether a packet of n bytes may be one for the reader: a publish (if all
// Authorizers are prompt, and no Gate wants to see it), an acknowledgement, a ping, or few
// filters, of a connected client. A worker would be as good for those, but another
// connection's publish, that came later, might overtake a SUBSCRIBE there.
func (c *conn) light(first byte, n int) bool {
	if !c.connected {
		return false
	}
	switch mqtt.Type(first >> 4) {
	case mqtt.PUBLISH:
		return c.b.hooks.prompt
	case mqtt.SUBSCRIBE, mqtt.UNSUBSCRIBE:
		return n <= smallPacket && c.b.hooks.prompt
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP, mqtt.PINGREQ:
		return true
	}
	return false
}

// remember keeps the beginning of a packet for the next read. That of a large one
// has a buffer for all of it once it has room; see claim.
func (c *conn) remember(rest []byte) error {
	switch {
	case len(rest) == 0:
		c.partial = nil
	case c.lease != nil: // rest is partial, which has grown
		c.partial = rest
		return nil
	default:
		c.partial = append(make([]byte, 0, len(rest)), rest...)
	}
	c.needs = 0
	if n := mqtt.Length(rest); n > bufferSize {
		c.needs = n
	}
	return c.holdPartial(len(c.partial))
}
