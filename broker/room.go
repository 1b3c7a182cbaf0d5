package broker

import (
	"container/list"
	"sync"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// room is memory for large packets, in bytes, that all connections share. Who finds
// none waits in line and does not read meanwhile, so that TCP slows its client. A
// packet has its room from its first bytes until the core has applied it.
type room struct {
	most    int64
	mu      sync.Mutex // guards the following
	used    int64
	line    list.List // of *lease: who waits
	partial list.List // of *lease: who has room and has not sent all of its packet
}

// lease is the room of one packet.
type lease struct {
	conn  *conn
	size  int64
	since time.Time
	at    *list.Element // in line or partial
	ready chan struct{} // closed when the room is granted
}

// ask puts a packet at the end of the line.
func (r *room) ask(c *conn, size int) *lease {
	l := &lease{conn: c, size: min(int64(size), r.most), ready: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	l.at = r.line.PushBack(l)
	r.grant()
	return l
}

// grant gives room to those at the front of the line; mu is held.
func (r *room) grant() {
	for e := r.line.Front(); e != nil; e = r.line.Front() {
		l := e.Value.(*lease)
		if r.used+l.size > r.most {
			return
		}
		r.line.Remove(e)
		r.used += l.size
		l.since, l.at = time.Now(), r.partial.PushBack(l)
		close(l.ready)
		if c := l.conn; c.tcp != nil {
			c.b.work(func() { c.granted(l) })
		}
	}
}

// whole notes that a packet has been sent completely: the room is with its command now.
func (r *room) whole(l *lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.partial.Remove(l.at)
}

// give takes room back.
func (r *room) give(size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= size
	r.grant()
}

// leave ends a lease whose packet will not come to its end.
func (r *room) leave(l *lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-l.ready:
		r.partial.Remove(l.at)
		r.used -= l.size
		r.grant()
	default:
		r.line.Remove(l.at)
	}
}

// waiting is how many wait in line.
func (r *room) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.line.Len()
}

// tardy is the connection that has had room for longer than most for a packet that
// it has not sent yet, while others wait for room; nil if there is none.
func (r *room) tardy(now time.Time, most time.Duration) *conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.partial.Front()
	if r.line.Len() == 0 || e == nil {
		return nil
	}
	if l := e.Value.(*lease); now.Sub(l.since) > most {
		l.since = now // it is told once
		r.partial.MoveToBack(e)
		return l.conn
	}
	return nil
}

// packetWithin is how long a large packet may take from its beginning to its end while
// others wait for its room.
const packetWithin = 10 * time.Second

const tardyText = "a connection was closed: others wait for the room of a packet that it does not complete"

// hurry closes who holds room for packets that do not come.
func (b *Broker) hurry() {
	for _, r := range []*room{&b.packets, &b.connects} {
		for c := r.tardy(time.Now(), packetWithin); c != nil; c = r.tardy(time.Now(), packetWithin) {
			b.stats.malformed.Add(1)
			if !c.isConnected.Load() { // its CONNECT is being read: who it is, nobody may ask yet
				b.often.warn(tardyText, "remote", c.remote())
				c.close()
				continue
			}
			b.often.warn(tardyText, "client", c.identity.Client, "remote", c.remote())
			c.closeWith(mqtt.QuotaExceeded, "a packet was not completed while others waited for its room")
		}
	}
}

// packetRoom is the room that the connection's packets share.
func (c *conn) packetRoom() *room {
	if c.connected {
		return &c.b.packets
	}
	return &c.b.connects
}

// claim waits for the room of the packet that has begun, if it is a large one, and
// makes a buffer for all of it. Only the reader may call it.
func (c *conn) claim() error {
	if !c.needsRoom() {
		return nil
	}
	r := c.packetRoom()
	l := r.ask(c, c.needs)
	for waits := true; waits; {
		select {
		case <-l.ready:
			waits = false
		case <-time.After(time.Second): // a closed connection looks again
			if c.closing.Load() {
				r.leave(l)
				return errClosing
			}
		}
	}
	c.leased = r
	c.begin(l)
	return nil
}

// needsRoom reports whether a large packet has begun that has no room yet.
func (c *conn) needsRoom() bool { return c.needs > 0 && c.lease == nil }

// begin takes the room for the packet that has begun.
func (c *conn) begin(l *lease) {
	c.lease = l
	c.partial = append(make([]byte, 0, c.needs+bufferSize), c.partial...)
	_ = c.holdPartial(0) // less never fails
}

// unclaim gives back the room of a packet that has led to no command.
func (c *conn) unclaim() {
	if c.lease != nil {
		c.leased.leave(c.lease)
		c.lease, c.needs = nil, 0
	}
}

// handOver lets the room of a whole packet go with its command; without one it is
// given back.
func (c *conn) handOver(cmds []command) {
	if c.lease == nil {
		return
	}
	if len(cmds) == 0 || c.leased != &c.b.packets {
		c.unclaim()
		return
	}
	c.leased.whole(c.lease)
	cmds[0].room = int32(c.lease.size)
	c.lease, c.needs = nil, 0
}
