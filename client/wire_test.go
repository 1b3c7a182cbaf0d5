package client_test

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// wire is a TCP relay whose way back can be switched off.
type wire struct {
	address   string
	deaf      atomic.Bool   // what the server sends is swallowed
	swallowed chan struct{} // has one once something was
	mu        sync.Mutex
	open      []net.Conn
}

func newWire(t *testing.T, url string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String(), swallowed: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(url, "mqtt://"))
			if err != nil {
				t.Error(err)
				return
			}
			w.mu.Lock()
			w.open = append(w.open, nc, server)
			w.mu.Unlock()
			wg.Go(func() { w.pass(server, nc, nil) })
			wg.Go(func() { w.pass(nc, server, &w.deaf) })
		}
	})
	t.Cleanup(func() {
		l.Close() //nolint:errcheck // the test ends
		w.cut()
		wg.Wait()
	})
	return w
}

func (w *wire) pass(to, from net.Conn, deaf *atomic.Bool) {
	defer to.Close() //nolint:errcheck // a cut wire
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if deaf != nil && deaf.Load() {
			select {
			case w.swallowed <- struct{}{}:
			default:
			}
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut closes what is open.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, nc := range w.open {
		nc.Close() //nolint:errcheck // a cut wire
	}
	w.open = nil
}
