package broker

import (
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// tcp is the socket of a connection that a poller serves. It never waits.
type tcp struct {
	// Static.
	conn   *conn
	poller *poller
	peer   netip.AddrPort
	fd     int
	closed chan struct{} // nil, or closed with the descriptor

	// users are the input until it has ended, the output until the connection is shut,
	// and whoever writes. The last of them closes the descriptor: too early, and its
	// number might be another connection's.
	users atomic.Int32

	// Guarded by conn.mu.
	watched    uint32 // the events that the kernel tells the poller of
	lent       bool   // a worker has the input, or it waits for the core
	unread     bool   // there is input that nobody reads meanwhile
	awaitsCore bool   // goOn gives the input back
	inLine     *lease // granted does, or nil
	inputEnded bool
	unsent     []byte // the poller writes it when the socket takes more
	sent       int    // how much of it was written
}

// takeOver makes the socket of nc ours and lets go of nc. It returns nil, and nc is as
// it was, if there is no descriptor for that.
func takeOver(nc *net.TCPConn) *tcp {
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	err = raw.Control(func(old uintptr) { fd, _ = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil || fd < 0 {
		return nil
	}
	t := &tcp{fd: fd}
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		t.peer = a.AddrPort()
	}
	t.users.Store(2)
	nc.Close() //nolint:errcheck // the socket lives on by our descriptor
	return t
}

// read reads what is there. Whoever calls it has the input.
func (t *tcp) read(b []byte) (n int, err error) {
	for {
		if n, err = syscall.Read(t.fd, b); err != syscall.EINTR { //nolint:errorlint // a system call's own value
			return n, err
		}
	}
}

// write writes what the socket takes; err is nil if that is not all.
func (t *tcp) write(b []byte) (n int, err error) {
	if !t.use() {
		return 0, net.ErrClosed
	}
	defer t.leave()
	for n < len(b) {
		k, err := syscall.Write(t.fd, b[n:])
		switch err { //nolint:errorlint // a system call's own value
		case nil:
			n += k
		case syscall.EINTR:
		case syscall.EAGAIN:
			return n, nil
		default:
			return n, err
		}
	}
	return n, nil
}

// closeWrite tells the peer that nothing more comes.
func (t *tcp) closeWrite() bool {
	if !t.use() {
		return false
	}
	defer t.leave()
	return syscall.Shutdown(t.fd, syscall.SHUT_WR) == nil
}

// use begins a use of the descriptor; false means that it is closed.
func (t *tcp) use() bool {
	for {
		n := t.users.Load()
		if n == 0 {
			return false
		}
		if t.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave ends a use. conn.mu must not be held.
func (t *tcp) leave() {
	if t.users.Add(-1) > 0 {
		return
	}
	t.poller.remove(t.fd)
	syscall.Close(t.fd) //nolint:errcheck // nothing can be done about it
	t.conn.b.untrack(t.conn)
	if t.closed != nil {
		close(t.closed)
	}
}
