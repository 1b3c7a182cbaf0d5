package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// A plain TCP connection has no goroutine: pollers read many. What could go wrong with
// that is a connection that nobody looks at any more, one that is looked at for ever,
// and a descriptor that is kept, or closed while somebody still writes to it.

func descriptors(t *testing.T) int {
	t.Helper()
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestEveryWayToEndGivesTheDescriptorBack(t *testing.T) {
	_, addr := start(t, broker.Config{})
	join(t, addr, "before") // the pollers are there
	had := descriptors(t)
	ends := map[string]func(c *client){
		"DISCONNECT":           func(c *client) { c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, c.v)) },
		"closed":               func(c *client) {},
		"reset":                func(c *client) { c.nc.(*net.TCPConn).SetLinger(0) },                            //nolint:errcheck // the client does not care
		"half closed":          func(c *client) { c.nc.(*net.TCPConn).CloseWrite(); io.Copy(io.Discard, c.nc) }, //nolint:errcheck // the client does not care
		"garbage":              func(c *client) { c.send([]byte{0, 1, 2, 3}); io.Copy(io.Discard, c.nc) },       //nolint:errcheck // the client does not care
		"in half a packet":     func(c *client) { c.send([]byte{0x30, 100, 0}) },
		"behind a packet":      func(c *client) { c.publish("t", "p", 1, 1) },
		"behind a SUBSCRIBE":   func(c *client) { c.send([]byte{0x82, 7, 0, 1, 0, 0, 1, '#', 1}) },
		"taken over":           func(c *client) { join(t, addr, "taken over").nc.Close() },
		"before its CONNECT":   nil,
		"with a bad CONNECT":   nil,
		"within its CONNECT":   nil,
		"reset before CONNECT": nil,
	}
	first := map[string][]byte{"with a bad CONNECT": {0x10, 2, 9, 9}, "within its CONNECT": {0x10, 100, 0, 4}}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				if end == nil {
					nc, err := net.Dial("tcp", addr.String())
					if err != nil {
						t.Fatal(err)
					}
					nc.Write(first[name]) //nolint:errcheck // the client does not care
					if name == "reset before CONNECT" {
						nc.(*net.TCPConn).SetLinger(0) //nolint:errcheck // the client does not care
					}
					nc.Close()
					continue
				}
				c := join(t, addr, name)
				end(c)
				c.nc.Close()
			}
			until(t, "all descriptors are closed", func() bool { return descriptors(t) <= had })
		})
	}
}

func TestAFullSocketIsWrittenOnWhenItDrains(t *testing.T) {
	b, addr := start(t, broker.Config{})
	slow := join(t, addr, "slow", lasting)
	slow.subscribe("big", 1)
	const n = 200
	body := bytes.Repeat([]byte{'x'}, 100_000)
	for i := range n {
		m := &mqtt.Message{Topic: "big", QoS: 1, Payload: append(fmt.Appendf(nil, "%03d", i), body...)}
		if err := b.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		p := slow.message()
		if got := string(p.Payload[:3]); got != fmt.Sprintf("%03d", i) || len(p.Payload) != len(body)+3 {
			t.Fatalf("message %d is %s, %d bytes", i, got, len(p.Payload))
		}
		slow.ack(mqtt.PUBACK, p.ID)
	}
}

// A Gate holds the worker that has the connection's input, while its client goes on
// sending.
func TestInputThatComesWhileAWorkerHasItIsReadAfterwards(t *testing.T) {
	in, out := make(chan struct{}), make(chan struct{})
	g := &gate{filters: "slow", look: func(context.Context, *hooks.Publish, hooks.Reader) error { in <- struct{}{}; <-out; return nil }}
	_, addr := start(t, broker.Config{Hooks: []any{g}})
	sub, c := join(t, addr, "sub"), join(t, addr, "c")
	sub.subscribe("#", 1)
	c.publish("slow", "0", 1, 1)
	<-in
	for i := 1; i <= 100; i++ {
		c.publish("t", fmt.Sprint(i), 1, uint16(i+1))
	}
	out <- struct{}{}
	for i := range 101 {
		p := sub.message()
		if sub.ack(mqtt.PUBACK, p.ID); string(p.Payload) != fmt.Sprint(i) {
			t.Fatalf("%s in the place of %d", p.Payload, i)
		}
	}

	for id := range uint16(101) {
		c.wantAck(mqtt.PUBACK, id+1)
	}
	had := descriptors(t)
	c.publish("slow", "", 1, 200)
	<-in
	c.publish("t", "last", 1, 201)
	if err := c.nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	out <- struct{}{}
	for _, want := range []string{"", "last"} { // what came before it hung up counts
		p := sub.message()
		if sub.ack(mqtt.PUBACK, p.ID); string(p.Payload) != want {
			t.Fatalf("%q in the place of %q", p.Payload, want)
		}
	}
	until(t, "the descriptor is closed", func() bool { return descriptors(t) == had-1 })
}

// Who waits for the room of a large packet is not read; it must hear all the same that
// it has lost its session.
func TestWhoWaitsForRoomCanBeTakenOver(t *testing.T) {
	_, addr := start(t, broker.Config{Memory: 1 << 20}) // room for one
	large := append([]byte{0x30, 0xff, 0xff, 0x0b}, make([]byte, 20_000)...)
	holds, waits := join(t, addr, "holds"), join(t, addr, "waits")
	holds.send(large)
	had := descriptors(t)
	waits.send(large)
	join(t, addr, "waits")
	io.Copy(io.Discard, waits.nc)             //nolint:errcheck // it ends when the broker hangs up
	for n := 0; descriptors(t) > had+1; n++ { // two of the new one, less one of the old
		if time.Sleep(time.Millisecond); n == 5000 { // the one who holds it is closed after 10 s
			t.Fatal("its descriptor is still open")
		}
	}
}

func TestServeConnOfTCPReturnsWhenItHasEnded(t *testing.T) {
	b, _ := start(t, broker.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, by := range []string{"client", "context", "broker"} {
		t.Run(by, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				nc, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				b.ServeConn(ctx, nc)
			}()
			c := join(t, l.Addr(), "c")
			switch by {
			case "client":
				c.nc.Close()
			case "context":
				cancel()
			case "broker":
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
			<-ended
		})
	}
}

// To be with a poller a connection needs a second descriptor for a moment.
func TestWithoutADescriptorMoreAConnectionIsServedAllTheSame(t *testing.T) {
	_, addr := start(t, broker.Config{})
	join(t, addr, "first").quiet()
	give := exhaust(t, 2) // one for each end
	nc, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, nc: nc, v: mqtt.V5}
	if a := c.connect("second"); a.Reason != mqtt.Success {
		t.Fatal(a.Reason)
	}
	c.quiet()
	give()
}

// exhaust leaves the process n descriptors until give is called.
func exhaust(t *testing.T, n int) (give func()) {
	t.Helper()
	var had syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &had); err != nil {
		t.Fatal(err)
	}
	few := syscall.Rlimit{Cur: 400, Max: had.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	for _, f := range files[:n] {
		f.Close()
	}
	give = sync.OnceFunc(func() {
		for _, f := range files[n:] {
			f.Close()
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &had); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(give)
	return give
}

// A client is not silent while what it sends waits behind something slow.
func TestWhoIsNotReadIsNotSilent(t *testing.T) {
	out := make(chan struct{})
	g := &gate{filters: "slow", look: func(context.Context, *hooks.Publish, hooks.Reader) error { <-out; return nil }}
	_, addr := start(t, broker.Config{Hooks: []any{g}})
	c := join(t, addr, "c", func(p *mqtt.Connect) { p.KeepAlive = 1 })
	c.publish("slow", "", 1, 1)
	for range 6 { // twice as long as silence may last
		time.Sleep(500 * time.Millisecond)
		c.send([]byte{byte(mqtt.PINGREQ) << 4, 0})
	}
	close(out)
	c.wantAck(mqtt.PUBACK, 1)
}
