package broker

import "sync"

// mailbox is how other goroutines hand commands to the core: a slice under a
// mutex and a wake-up. It is bounded by what each connection may have in it.
type mailbox struct {
	mu    sync.Mutex
	cmds  []command
	spare []command
	wake  chan struct{} // never closed
}

// post hands commands over and wakes the core.
func (m *mailbox) post(cmds ...command) {
	m.add(cmds...)
	m.signal()
}

// add is post for who calls core.runs afterwards.
func (m *mailbox) add(cmds ...command) {
	m.mu.Lock()
	m.cmds = append(m.cmds, cmds...)
	m.mu.Unlock()
}

func (m *mailbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// waits is how many commands nobody has taken.
func (m *mailbox) waits() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.cmds)
}

// take returns everything that waits; the slice is valid until the next take.
func (m *mailbox) take() []command {
	m.mu.Lock()
	defer m.mu.Unlock()
	cmds := m.cmds
	m.cmds, m.spare = m.spare[:0], cmds
	return cmds
}

// inOrder lets a SUBSCRIBE go before other connections' commands of the same
// round. The runtime wakes connections that became readable together in any
// order; a client that subscribes and then sees to it that another publishes
// expects the message. It changes nothing when much is going on.
func inOrder(cmds []command) []command {
	if len(cmds) > 64 {
		return cmds
	}
	for i := range cmds {
		if cmds[i].kind != cmdSubscribe || i == 0 || ofConn(cmds[:i], cmds[i].conn) {
			continue
		}
		cmd := cmds[i]
		copy(cmds[1:i+1], cmds[:i])
		cmds[0] = cmd
	}
	return cmds
}

func ofConn(cmds []command, cn *conn) bool {
	for i := range cmds {
		if cmds[i].conn == cn {
			return true
		}
	}
	return false
}
