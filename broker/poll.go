package broker

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller serves many plain TCP connections from one goroutine, so that an idle one
// costs neither stack nor buffer. It reads, parses in place what is light, hands the
// rest to workers, and goes on writing where a socket was full. It waits for nobody.
// There is one for each CPU.
type poller struct {
	b    *Broker
	ep   int
	file *os.File      // ep, which the runtime's own poller watches for us
	done chan struct{} // closed when loop has ended

	mu    sync.Mutex
	conns []*conn // by descriptor; guarded by mu

	// Owned by loop.
	buf    [bufferSize]byte
	events [128]unix.EpollEvent
	ready  [128]*conn
	cmds   []command // lent to the connection that is being read
}

func newPoller(b *Broker) (*poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(ep, true); err != nil { // else os.NewFile does not have it watched
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(ep))
	}
	p := &poller{b: b, ep: ep, file: os.NewFile(uintptr(ep), "epoll"), done: make(chan struct{})}
	if err := p.file.SetReadDeadline(time.Time{}); err != nil { // it is not watched
		return nil, errors.Join(err, p.file.Close())
	}
	go p.loop()
	return p, nil
}

// startPollers makes the pollers; mu is held. If there are descriptors for some of them
// only, those do.
func (b *Broker) startPollers() {
	for range runtime.GOMAXPROCS(0) {
		p, err := newPoller(b)
		if err != nil {
			b.often.warn("there are fewer pollers than CPUs; without any, plain TCP connections take more memory", "pollers", len(b.pollers), "err", err)
			return
		}
		b.pollers = append(b.pollers, p)
	}
}

// stop ends the poller; no connection is with it any more.
func (p *poller) stop() {
	p.file.Close() //nolint:errcheck // it ends either way
	<-p.done
}

// loop serves connections until the poller is stopped.
func (p *poller) loop() {
	defer close(p.done)
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(uintptr) bool { //nolint:errcheck // it ends when the file is closed
		for {
			n, err := unix.EpollWait(p.ep, p.events[:], 0)
			switch {
			case n > 0:
				p.serve(n)
			case err != unix.EINTR: //nolint:errorlint // a system call's own value
				return false
			}
		}
	})
}

// serve deals with n events, then lets the core have what came of them at once.
func (p *poller) serve(n int) {
	p.mu.Lock()
	for i := range n {
		p.ready[i] = p.conns[p.events[i].Fd]
	}
	p.mu.Unlock()
	for i := range n {
		if c := p.ready[i]; c != nil { // else it has been closed meanwhile
			p.ready[i] = nil
			p.handle(c, p.events[i].Events)
		}
	}
	p.b.core.runs()
}

// Both come with what a peer that has hung up causes.
const (
	canRead  = unix.EPOLLIN | unix.EPOLLHUP | unix.EPOLLERR
	canWrite = unix.EPOLLOUT | unix.EPOLLHUP | unix.EPOLLERR
)

// handle deals with one event. It may be stale, or of an earlier connection with the
// same descriptor: then there is nothing to read or to write.
func (p *poller) handle(c *conn, events uint32) {
	c.mu.Lock()
	reads := events&canRead != 0 && !c.tcp.inputEnded
	if reads && c.tcp.lent {
		reads, c.tcp.unread = false, true
		p.watch(c)
	}
	writes := events&canWrite != 0 && c.tcp.unsent != nil
	gone := c.closed
	c.mu.Unlock()
	if writes {
		c.writeOn()
	}
	switch {
	case reads && gone:
		// What is unread stays so: then the kernel resets the connection as the descriptor
		// is closed. Reading opens no window any more, and a peer that waits for one would
		// not hear of the end for a minute.
		p.end(c, io.EOF)
	case reads:
		p.read(c)
	}
}

// add begins to serve a connection, which may have been shut already.
func (p *poller) add(c *conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.mu.Lock()
	for len(p.conns) <= c.tcp.fd {
		p.conns = append(p.conns, nil)
	}
	p.conns[c.tcp.fd] = c
	p.mu.Unlock()
	c.tcp.watched = unix.EPOLLIN
	ev := unix.EpollEvent{Events: c.tcp.watched, Fd: int32(c.tcp.fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, c.tcp.fd, &ev))
}

// remove ends that, before the descriptor is closed: if somebody else has one of the
// socket, too, the kernel would go on to tell of it.
func (p *poller) remove(fd int) {
	p.mu.Lock()
	p.conns[fd] = nil
	p.mu.Unlock()
	unix.EpollCtl(p.ep, unix.EPOLL_CTL_DEL, fd, nil) //nolint:errcheck // it may not have come to be watched
}

// watch tells the kernel which events are wanted of a connection now; mu is held, and
// the descriptor open. If none are, a peer that hangs up is told of once: else it would
// be told of in each round.
func (p *poller) watch(c *conn) {
	want := uint32(0)
	if !c.tcp.unread && !c.tcp.inputEnded {
		want |= unix.EPOLLIN
	}
	if c.tcp.unsent != nil {
		want |= unix.EPOLLOUT
	}
	if want == 0 {
		want = unix.EPOLLET
	}
	if want == c.tcp.watched || c.tcp.watched == 0 { // nothing is before add
		return
	}
	c.tcp.watched = want
	ev := unix.EpollEvent{Events: want, Fd: int32(c.tcp.fd)}
	if err := unix.EpollCtl(p.ep, unix.EPOLL_CTL_MOD, c.tcp.fd, &ev); err != nil { // it takes nothing: this can't be
		p.b.log.Error("a connection can't be watched", "err", err, "remote", c.remote())
	}
}

// read reads once: if there is more the kernel says so again, and others have had
// their turn.
func (p *poller) read(c *conn) {
	n, err := c.tcp.read(p.buf[:])
	switch {
	case err == syscall.EAGAIN: //nolint:errorlint // a system call's own value
	case err == nil && n == 0:
		p.end(c, io.EOF)
	case err != nil:
		p.end(c, err)
	case c.discarding:
		if c.discarded += n; c.discarded > mostDiscarded {
			c.shut()
		}
	default:
		p.input(c, p.buf[:n])
	}
}

// input is conn.input for one who must not wait: what is not light is a worker's.
func (p *poller) input(c *conn, b []byte) {
	b, err := c.whole(b)
	if err != nil {
		p.end(c, err)
		return
	}
	c.out, c.batched = p.cmds, true
	rest, err := c.parse(b, true)
	c.submit()
	p.cmds, c.out, c.batched = c.out, nil, false
	switch {
	case err == errWorker: //nolint:errorlint // it is not wrapped
		p.delegate(c, rest)
	case err != nil:
		p.end(c, err)
	case c.mustWait():
		c.lend()
		c.giveBack()
	}
}

// delegate has a worker parse the rest of a buffer.
func (p *poller) delegate(c *conn, rest []byte) {
	c.lend()
	copied := len(c.partial) == 0 // else rest lies there
	if copied {
		rest = append(getBuffer(), rest...)
	}
	c.delegate(func() {
		_, err := c.parse(rest, false)
		if copied {
			putBuffer(rest)
		}
		if err != nil {
			c.ends(err)
			return
		}
		c.out = nil // it took memory
		c.giveBack()
	})
}

// end ends the input of a connection.
func (p *poller) end(c *conn, err error) {
	c.lend()
	c.ends(err)
}
