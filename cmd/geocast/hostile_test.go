package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// port is where a stranger may come in.
type port struct {
	name, addr string
	tls        bool // below everything else
	web        bool // HTTP, with MQTT in WebSocket at /mqtt
	admin      bool // HTTP, without
}

// open connects, with TLS if the port has it.
func (p port) open(a *attacker) net.Conn {
	nc := a.dial(p)
	if p.tls {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // its own certificate
	}
	return nc
}

// fortress is everything that geocast listens with, in this process.
type fortress struct {
	b     *broker.Broker
	ports []port
}

// newFortress gives strangers a second to say CONNECT.
func newFortress(t *testing.T) *fortress {
	t.Helper()
	set, err := rules.Parse("rules.yaml", []byte(school), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, "localhost")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	secured := &tls.Config{Certificates: []tls.Certificate{pair}}
	all, log := &rules.Roster{}, slog.New(slog.DiscardHandler)
	b, err := broker.New(broker.Config{Log: log, TLS: secured, Limits: broker.Limits{Connect: time.Second},
		Hooks: []any{georules.New(set, all), chat.New(all, true)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fortress{b: b}
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		at, err := b.Listen(scheme + "://127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f.ports = append(f.ports, port{name: scheme, addr: at.String(), tls: strings.HasSuffix(scheme, "s") && scheme != "ws", web: scheme[0] == 'w'})
	}
	for _, scheme := range []string{"http://", secure} {
		public, err := listenHTTP(scheme+"127.0.0.1:0", b, secured, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(public.close)
		admin := newAdminServer(scheme+"127.0.0.1:0", nil)
		if err := admin.listen(secured, log); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(admin.close)
		admin.ready(b)
		f.ports = append(f.ports, port{name: "--http " + scheme, addr: public.at.String(), tls: scheme == secure, web: true},
			port{name: "--admin " + scheme, addr: admin.web.at.String(), tls: scheme == secure, admin: true})
	}
	return f
}

// attacker is one stranger at one port.
type attacker struct {
	t    *testing.T
	rnd  *rand.Rand
	what string
	open []net.Conn
}

// patience is how long an attacker waits for an answer, or for the end.
const patience = 30 * time.Second

// dial connects over TCP.
func (a *attacker) dial(p port) net.Conn {
	nc, err := net.Dial("tcp", p.addr)
	if err != nil {
		a.t.Errorf("%s: %v", a.what, err)
		return brokenConn{}
	}
	a.open = append(a.open, nc)
	nc.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // then it waits for longer
	return nc
}

// brokenConn is a connection that there is none of.
type brokenConn struct{ net.Conn }

func (brokenConn) Read([]byte) (int, error)  { return 0, net.ErrClosed }
func (brokenConn) Write([]byte) (int, error) { return 0, net.ErrClosed }

// isCut wants that the server ends the connection, whatever it says before.
func (a *attacker) isCut(nc net.Conn) {
	b := make([]byte, 4096)
	for {
		if _, err := nc.Read(b); errors.Is(err, os.ErrDeadlineExceeded) {
			a.t.Errorf("%s: it is not cut off", a.what)
			return
		} else if err != nil {
			return
		}
	}
}

// isHeard wants that the server answers something, or ends the connection.
func (a *attacker) isHeard(nc net.Conn) {
	if _, err := nc.Read(make([]byte, 4096)); errors.Is(err, os.ErrDeadlineExceeded) {
		a.t.Errorf("%s: neither an answer nor an end", a.what)
	}
}

// hungUp wants that err is the server's end, not this side's patience.
func (a *attacker) hungUp(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		a.t.Errorf("%s: it is neither read nor cut off", a.what)
	}
}

// leave ends what is open: well, half, by a reset, or with the peer's bytes unread.
func (a *attacker) leave() {
	for _, nc := range a.open {
		tcp := nc.(*net.TCPConn)
		switch a.rnd.IntN(3) {
		case 0:
			tcp.SetLinger(0) //nolint:errcheck // then it leaves otherwise
		case 1:
			tcp.CloseWrite() //nolint:errcheck // as above
		}
		tcp.Close() //nolint:errcheck // as above
	}
}

// attack is what a stranger does at the ports that it is for.
type attack struct {
	name string
	at   func(p port) bool
	do   func(a *attacker, p port)
}

// raid does all attacks at all ports, some at a time.
func (f *fortress) raid(t *testing.T, seed uint64, attacks []attack) {
	var wg sync.WaitGroup
	room := make(chan struct{}, 64)
	n := uint64(0)
	for _, p := range f.ports {
		for _, x := range attacks {
			if x.at != nil && !x.at(p) {
				continue
			}
			n++
			a := &attacker{t: t, rnd: rand.New(rand.NewPCG(seed, n)), what: p.name + ": " + x.name}
			wg.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				defer a.leave()
				x.do(a, p)
			})
		}
	}
	wg.Wait()
}

// quietPair talks all the time: each message is sent when the last one has arrived.
type quietPair struct {
	sub, pub *client.Client
	got      chan string
	stop     context.CancelFunc
	done     chan error
	n        int // messages exchanged, for who has read done
}

func newQuietPair(t *testing.T, address string) *quietPair {
	t.Helper()
	q := &quietPair{got: make(chan string, 10), done: make(chan error, 1)}
	join := func(name string, receive func(*mqtt.Message)) *client.Client {
		c, err := client.Dial(t.Context(), client.Config{Address: address, Version: mqtt.V5, Client: name, Clean: true, Receive: receive})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	q.sub = join("quiet-subscriber", func(m *mqtt.Message) { q.got <- string(m.Payload) })
	q.pub = join("quiet-publisher", nil)
	if err := q.sub.Subscribe(t.Context(), "quiet/pair"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	q.stop = stop
	go func() {
		var err error
		for ; err == nil && ctx.Err() == nil; q.n++ {
			err = q.say(t.Context(), fmt.Sprint("message ", q.n))
		}
		q.done <- err
	}()
	return q
}

// say sends one message and waits until it has arrived.
func (q *quietPair) say(ctx context.Context, text string) error {
	if err := q.pub.Publish(ctx, "quiet/pair", []byte(text), false); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	select {
	case got := <-q.got:
		if got != text {
			return fmt.Errorf("got %q, want %q", got, text)
		}
		return nil
	case <-q.sub.Done():
		return fmt.Errorf("%s: the subscriber was hung up on: %w", text, q.sub.Err())
	}
}

// noticedNothing ends the talk: no message is lost, repeated or refused, and nobody
// was hung up on.
func (q *quietPair) noticedNothing(t *testing.T) {
	t.Helper()
	q.stop()
	if err := errors.Join(<-q.done, q.pub.Err(), q.sub.Err()); err != nil {
		t.Error(err)
	}
	if len(q.got) > 0 || q.n < 10 {
		t.Errorf("the quiet pair exchanged %d messages, and has %d too many", q.n, len(q.got))
	}
}

// footprint is what a process must not keep of a stranger.
func footprint(t *testing.T) (goroutines, descriptors int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err) // not a Linux
	}
	return runtime.NumGoroutine(), len(fds)
}

// P12: any bytes on any port end in an answer or a closed connection. Afterwards
// nothing of them is left, no goroutine, descriptor or memory, and a pair that talked
// beside them has not noticed. HOSTILE_SEED repeats a run.
func TestHostileBytesOnEveryPort(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv("HOSTILE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("HOSTILE_SEED=%d", seed)
	f := newFortress(t)
	q := newQuietPair(t, f.ports[0].addr)
	f.raid(t, seed, mutations(10)) // what is made once is made
	until(t, "the first strangers are gone", func() bool { return f.b.Stats().Connections == 2 })
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	goroutines, descriptors := footprint(t)
	f.raid(t, seed, slices.Concat(mqttAttacks(), tlsAttacks(), webAttacks(), mutations(300)))
	until(t, "no stranger is left", func() bool { return f.b.Stats().Connections == 2 })
	until(t, fmt.Sprintf("there are %d goroutines and %d descriptors again", goroutines, descriptors), func() bool {
		g, d := footprint(t)
		return g <= goroutines && d <= descriptors
	})
	q.noticedNothing(t)
	t.Logf("the quiet pair exchanged %d messages", q.n)
	runtime.GC()
	if runtime.ReadMemStats(&after); after.HeapAlloc > before.HeapAlloc+32<<20 {
		t.Errorf("%d MB of heap are left, %d before", after.HeapAlloc>>20, before.HeapAlloc>>20)
	}
}

// until waits for a state that comes by itself.
func until(t *testing.T, state string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			var all bytes.Buffer
			all.Grow(1 << 20)
			t.Fatalf("it is not so that %s\n%s", state, all.AvailableBuffer()[:runtime.Stack(all.AvailableBuffer()[:1<<20], true)])
		}
	}
}
