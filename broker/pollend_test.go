package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// watched is how many descriptors the kernel looks at for epolls of this process.
func watched(t *testing.T) (n int) {
	t.Helper()
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range infos {
		if text, err := os.ReadFile(name); err == nil { // else it is closed
			n += strings.Count(string(text), "tfd:")
		}
	}
	return n
}

// Packets count from the first to the one that is wrong, however they come.
func TestWhatCameBeforeAMalformedPacketCounts(t *testing.T) {
	_, addr := start(t, broker.Config{})
	sub := join(t, addr, "sub")
	sub.subscribe("t", 1)
	connect := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true})
	subscribe := mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: "x"}}}, mqtt.V5)
	garbage := []byte{0, 1, 2, 3}
	for _, row := range []struct {
		name   string
		behind [][]byte
	}{
		{"CONNECT", [][]byte{connect}},
		{"SUBSCRIBE", [][]byte{connect, subscribe}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := dial(t, addr, mqtt.V5)
			for i, p := range row.behind {
				if i == len(row.behind)-1 {
					p = mqtt.AppendPublish(p, &mqtt.Publish{Topic: []byte("t"), Payload: []byte(row.name), QoS: 1, ID: 1}, mqtt.V5)
					p = append(p, garbage...)
				}
				c.send(p)
				if i == 0 {
					if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.CONNACK {
						t.Errorf("got %v, want CONNACK", mqtt.Type(first>>4))
					}
				}
			}
			sub.want("t", row.name)
			for {
				first, body := c.read()
				if mqtt.Type(first>>4) != mqtt.DISCONNECT {
					continue
				}
				if mqtt.Reason(body[0]) != mqtt.ProtocolError {
					t.Errorf("DISCONNECT says %v", mqtt.Reason(body[0]))
				}
				return
			}
		})
	}
}

// Of large packets that wait for room the broker keeps the first bytes; who is one too
// many is closed, and has no room when its turn comes.
func TestWhoIsRefusedWhileItWaitsForRoomGetsNone(t *testing.T) {
	b, addr := start(t, broker.Config{Memory: 1 << 20}) // room for one, and for the first bytes of nine
	large := append([]byte{0x30, 0xff, 0xff, 0x0b}, make([]byte, 8000)...)
	all := []*client{join(t, addr, "holds")}
	all[0].send(large)
	until(t, "it has the room", func() bool { return broker.Held(b)[1] > 100_000 })
	for i := 0; b.Stats().Malformed == 0; i++ {
		c := join(t, addr, fmt.Sprint(i))
		before := broker.Held(b)[1]
		c.send(large)
		until(t, "it waits", func() bool { return broker.Held(b)[1] > before || b.Stats().Malformed > 0 })
		all = append(all, c)
	}
	for _, c := range all {
		c.nc.Close()
	}
	until(t, "nobody has room", func() bool { return b.Stats().Connections == 0 && broker.Held(b)[1] == 0 })
}

// The writer of the log may be slow: a terminal that was stopped, a full pipe.
func TestASlowLogDelaysNobodyElse(t *testing.T) {
	let, lines := make(chan struct{}), make(chan struct{}, 100)
	log := slog.New(slog.NewTextHandler(logWriter(func(b []byte) {
		if strings.Contains(string(b), "client disconnected") {
			lines <- struct{}{}
			<-let
		}
	}), nil))
	_, addr := start(t, broker.Config{Log: log})
	defer close(let)
	c := join(t, addr, "c")
	many := make([]*client, 8*runtime.GOMAXPROCS(0))
	for i := range many {
		many[i] = join(t, addr, fmt.Sprint(i))
	}
	for i, m := range many {
		if i%2 == 0 {
			m.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, m.v))
		}
		m.nc.Close()
	}
	<-lines // it stands; the others wait for it, or do not come to it
	c.subscribe("t", 1)
	c.say("x", "x")
}

type logWriter func(b []byte)

func (w logWriter) Write(b []byte) (int, error) { w(b); return len(b), nil }

// The first connection comes when there is no descriptor for a poller: the later ones
// are with pollers all the same.
func TestPollersAreMadeWhenThereAreDescriptors(t *testing.T) {
	b, addr := start(t, broker.Config{})
	give := exhaust(t, 2) // one for each end
	join(t, addr, "first").quiet()
	give()
	had := watched(t)
	c := join(t, addr, "second")
	c.quiet()
	if n := watched(t) - had; n < 3 { // a poller, the client's end and the broker's
		t.Errorf("%d descriptors are watched since", n)
	}
	if n := b.Stats().Connections; n != 2 {
		t.Errorf("%d connections", n)
	}
}

// A program may hold a descriptor of a socket that it gives to the broker.
func TestASocketThatOthersHoldIsLetGo(t *testing.T) {
	b, _ := start(t, broker.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, name := range []string{"first", "second"} { // the pollers come with the first
		had := watched(t)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			nc, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			held := duplicate(t, nc.(*net.TCPConn))
			t.Cleanup(func() { syscall.Close(held) })
			b.ServeConn(t.Context(), nc)
		}()
		c := join(t, l.Addr(), name)
		c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, c.v))
		<-ended
		c.nc.Close()
		if n := watched(t); name != "first" && n != had {
			t.Errorf("%d descriptors are watched, %d before", n, had)
		}
	}
}

// duplicate is a second descriptor of a socket.
func duplicate(t *testing.T, nc *net.TCPConn) (fd int) {
	raw, err := nc.SyscallConn()
	if err != nil {
		t.Error(err)
		return -1
	}
	var none error
	err = raw.Control(func(of uintptr) { fd, none = syscall.Dup(int(of)) })
	if err := errors.Join(err, none); err != nil {
		t.Error(err)
	}
	return fd
}

func TestServeConnAfterCloseLeavesNothing(t *testing.T) {
	b, err := broker.New(broker.Config{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	had := descriptors(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		far, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		near, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		b.ServeConn(ctx, near)
		if _, err := io.Copy(io.Discard, far); err != nil {
			t.Error(err)
		}
		far.Close()
	}
	until(t, "all descriptors are closed", func() bool { return descriptors(t) <= had })
}

// Who writes on while nobody reads hears of the end at once: a socket that is shut and
// then read to its end tells a writer that waits for room nothing, for a minute.
func TestAWriterThatWaitsForRoomHearsOfTheEnd(t *testing.T) {
	entered, goOn := make(chan bool), make(chan bool)
	slow := authenticator(func(context.Context, *hooks.Credentials) (hooks.Identity, error) {
		close(entered)
		<-goOn
		return hooks.Identity{User: "u", Client: "c"}, nil
	})
	b, addr := start(t, broker.Config{Limits: broker.Limits{Connect: time.Second}, Hooks: []any{slow}})
	c := dial(t, addr, mqtt.V311)
	c.send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, ClientID: "c", CleanStart: true}))
	<-entered
	wrote := make(chan error)
	go func() {
		c.nc.SetWriteDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // then it waits for longer
		_, err := c.nc.Write(make([]byte, 64<<20))
		wrote <- err
	}()
	until(t, "it is shut, as its CONNECT was not done in time", func() bool { return b.Stats().Malformed > 0 })
	close(goOn)
	if err := <-wrote; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want the end of the connection", err)
	}
}
