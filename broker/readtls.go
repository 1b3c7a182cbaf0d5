package broker

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
)

// socket is a TCP connection under TLS whose Read, once it is hasty, does not wait:
// crypto/tls then returns errNotYet, holds what it has of a record, and goes on with
// the next Read. So a worker can do what is deep, and waits for no peer.
type socket struct {
	*net.TCPConn
	raw   syscall.RawConn
	hasty bool // owned by whoever has the connection's input
}

// errNotYet says that a Read would have to wait. It is temporary: crypto/tls does not
// take the connection for broken.
var errNotYet error = notYet{}

type notYet struct{}

func (notYet) Error() string   { return "broker: nothing to read yet" }
func (notYet) Timeout() bool   { return false }
func (notYet) Temporary() bool { return true }

// Read reads what is there.
func (s *socket) Read(b []byte) (n int, err error) {
	if !s.hasty {
		return s.TCPConn.Read(b)
	}
	rerr := s.raw.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), b); err != syscall.EINTR { //nolint:errorlint // a system call's own value
				return true
			}
		}
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case errors.Is(err, syscall.EAGAIN):
		return 0, errNotYet
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// wait returns when there is something to read. It looks, since what came before it
// began is not told again, and takes nothing.
func (s *socket) wait() error {
	return s.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return err != syscall.EAGAIN && err != syscall.EINTR //nolint:errorlint // a system call's own value
	})
}

// tlsListener takes TLS connections.
type tlsListener struct {
	net.Listener
	config *tls.Config
}

// Accept returns a *tls.Conn over a socket.
func (l tlsListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := &socket{TCPConn: nc.(*net.TCPConn)} // Listen made the listener
	if s.raw, err = s.SyscallConn(); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return tls.Server(s, l.config), nil
}

// mostHandshakes is how many TLS handshakes may go on at once: each has a goroutine
// with a deep stack until it ends, or the time before CONNECT does.
const mostHandshakes = 1024

// readTLS reads a TLS connection. The goroutine waits for the socket and keeps its
// smallest stack; handshake, decryption and parsing are done elsewhere.
func (c *conn) readTLS(s *socket) error {
	if err := s.wait(); err != nil {
		return err
	}
	select {
	case c.b.handshakes <- struct{}{}:
	case <-c.b.ctx.Done():
		return errClosing
	}
	err := c.elsewhere(func() error { return c.nc.(*tls.Conn).HandshakeContext(c.b.ctx) })
	<-c.b.handshakes
	if err != nil {
		c.logHandshake(err)
		return err
	}
	s.hasty = true
	defer func() { s.hasty = false }()
	for {
		switch err := c.elsewhere(c.readReady); {
		case err == nil:
		case errors.Is(err, errNotYet):
			if err := s.wait(); err != nil {
				return err
			}
		default:
			return err
		}
		if err := c.mayRead(); err != nil {
			return err
		}
	}
}

// readsInRow is how many buffers a worker reads of one connection before others have
// theirs.
const readsInRow = 8

// readReady reads and parses what the socket has. It returns errNotYet when that is
// all, nil when there may be more. It runs on a worker.
func (c *conn) readReady() error {
	b := getBuffer()
	defer func() { putBuffer(b) }()
	for range readsInRow {
		n, err := c.nc.Read(b[:cap(b)])
		if n > 0 {
			if err := c.inputHere(b[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if c.mustWait() {
			break
		}
	}
	return nil
}

// inputHere is input for a worker.
func (c *conn) inputHere(b []byte) error {
	b, err := c.whole(b)
	if err != nil {
		return err
	}
	_, err = c.parse(b, false)
	return err
}
