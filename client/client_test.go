package client_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/client"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// levels are the protocol levels that a client speaks.
var levels = map[string]mqtt.Version{"3.1": mqtt.V31, "3.1.1": mqtt.V311, "5": mqtt.V5}

func eachLevel(t *testing.T, test func(t *testing.T, v mqtt.Version)) {
	for name, v := range levels {
		t.Run(name, func(t *testing.T) { test(t, v) })
	}
}

// serve starts a plain broker and returns its URL with the scheme.
func serve(t *testing.T, scheme string, h ...any) string {
	t.Helper()
	b, err := broker.New(broker.Config{Hooks: h, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := b.Listen(scheme + "://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return scheme + "://" + a.String()
}

func dial(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) //nolint:errcheck // closed again
	return c
}

// inbox is a Receive that keeps what comes.
type inbox chan *mqtt.Message

func (in inbox) receive(m *mqtt.Message) { in <- m }

func (in inbox) want(t *testing.T) *mqtt.Message {
	t.Helper()
	select {
	case m := <-in:
		return m
	case <-time.After(5 * time.Second):
		t.Fatal("nothing arrived")
		return nil
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryQoSArrivesOnceInOrder(t *testing.T) {
	for _, scheme := range []string{"mqtt", "ws"} {
		t.Run(scheme, func(t *testing.T) {
			eachLevel(t, func(t *testing.T, v mqtt.Version) {
				url, in := serve(t, scheme), make(inbox, 100)
				c := dial(t, client.Config{Address: url, Version: v, Client: "both", Clean: true, KeepAlive: 10, Receive: in.receive})
				_, err := c.SubscribeTo(t.Context(), 0, mqtt.Subscription{Filter: "a/#", QoS: 2})
				must(t, err)
				for i := range 30 {
					must(t, c.Send(t.Context(), &mqtt.Message{Topic: "a/b", Payload: []byte(strconv.Itoa(i)), QoS: byte(i % 3)}))
				}
				next := [3]int{0, 1, 2}
				for range 30 {
					m := in.want(t)
					if string(m.Payload) != strconv.Itoa(next[m.QoS]) {
						t.Fatalf("QoS %d: got %s, want %d", m.QoS, m.Payload, next[m.QoS])
					}
					next[m.QoS] += 3
				}
				must(t, c.Unsubscribe(t.Context(), "a/#"))
				must(t, c.Publish(t.Context(), "a/b", []byte("not for us"), false))
				must(t, c.Close())
				if len(in) > 0 {
					t.Fatalf("got %+v", <-in)
				}
				if err := c.Publish(t.Context(), "a/b", nil, false); !errors.Is(err, client.ErrClosed) {
					t.Fatalf("after Close: %v", err)
				}
			})
		})
	}
}

func TestPropertiesOf5Arrive(t *testing.T) {
	url, in := serve(t, "mqtt"), make(inbox, 1)
	c := dial(t, client.Config{Address: url, Version: mqtt.V5, Clean: true, Receive: in.receive, UserProps: []mqtt.UserProp{{Key: "app", Value: "test"}}})
	if c.Connack().AssignedClientID == "" {
		t.Error("no client id was assigned")
	}
	_, err := c.SubscribeTo(t.Context(), 7, mqtt.Subscription{Filter: "p", QoS: 1})
	must(t, err)
	user := []mqtt.UserProp{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}}
	for qos := range byte(2) { // at QoS 0 past the broker's core
		sent := &mqtt.Message{Topic: "p", Payload: []byte("x"), QoS: qos, HasFormat: true, Format: 1, ContentType: "text/plain",
			ResponseTopic: "r", Correlation: []byte("c"), Expires: time.Now().UnixMilli() + 60_000}
		for _, u := range user {
			sent.User = mqtt.AppendUserProp(sent.User, u)
		}
		must(t, c.Send(t.Context(), sent))
		m := in.want(t)
		got := mqtt.UserProps(m.User)
		if len(got) != 2 || got[0] != user[0] || got[1] != user[1] {
			t.Errorf("user properties %v, want %v", got, user)
		}
		if !m.HasFormat || m.Format != 1 || m.ContentType != "text/plain" || m.ResponseTopic != "r" || string(m.Correlation) != "c" {
			t.Errorf("got %+v", m)
		}
		if d := m.Expires - sent.Expires; d < -3000 || d > 3000 {
			t.Errorf("expires %d ms off", d)
		}
	}
}

func TestASessionGivesWhatWasMissed(t *testing.T) {
	eachLevel(t, func(t *testing.T, v mqtt.Version) {
		url, in, session := serve(t, "mqtt"), make(inbox, 10), new(client.Session)
		cfg := client.Config{Address: url, Version: v, Client: "phone", SessionExpiry: 3600, Session: session, Receive: in.receive}
		c := dial(t, cfg)
		_, err := c.SubscribeTo(t.Context(), 0, mqtt.Subscription{Filter: "t", QoS: 2})
		must(t, err)
		c.Drop()
		other := dial(t, client.Config{Address: url, Clean: true, Client: "other"})
		for i := range 6 {
			must(t, other.Send(t.Context(), &mqtt.Message{Topic: "t", Payload: []byte{byte(i)}, QoS: 1 + byte(i)%2}))
		}
		c = dial(t, cfg)
		if !c.Connack().SessionPresent && v != mqtt.V31 { // which does not say
			t.Fatal("no session present")
		}
		next := [3]byte{0, 0, 1}
		for range 6 { // the order holds per QoS
			m := in.want(t)
			if m.Payload[0] != next[m.QoS] {
				t.Fatalf("QoS %d: got %v, want %d", m.QoS, m.Payload, next[m.QoS])
			}
			next[m.QoS] += 2
		}
	})
}

func TestTheWillIsSentAfterDropOnly(t *testing.T) {
	eachLevel(t, func(t *testing.T, v mqtt.Version) {
		url, in := serve(t, "mqtt"), make(inbox, 10)
		watch := dial(t, client.Config{Address: url, Clean: true, Client: "watch", Receive: in.receive})
		must(t, watch.Subscribe(t.Context(), "will/+"))
		for _, drop := range []bool{false, true} {
			c := dial(t, client.Config{Address: url, Version: v, Clean: true, Client: "w-" + strconv.FormatBool(drop),
				Will: &mqtt.Will{Topic: "will/" + strconv.FormatBool(drop), Payload: []byte("gone"), QoS: 1}})
			if drop {
				c.Drop()
			} else {
				must(t, c.Close())
			}
		}
		if m := in.want(t); m.Topic != "will/true" {
			t.Fatalf("got the will of %s", m.Topic)
		}
	})
}

// guard lets nobody but ann in, and nobody write to closed/#.
type guard struct{}

func (guard) Authenticate(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	if c.Username != "ann" || string(c.Password) != "secret" {
		return hooks.Identity{}, &hooks.Refusal{Reason: mqtt.BadUserNameOrPassword, Text: "who are you?"}
	}
	return hooks.Identity{User: "ann", Verified: true}, nil
}

func (guard) Authorize(r *hooks.Request) error {
	if mqtt.Match("closed/#", r.Topic) {
		return &hooks.Refusal{Reason: mqtt.NotAuthorized, Text: "closed is closed"}
	}
	return nil
}

func TestANoIsARefusedError(t *testing.T) {
	eachLevel(t, func(t *testing.T, v mqtt.Version) {
		url := serve(t, "mqtt", guard{})
		_, err := client.Dial(t.Context(), client.Config{Address: url, Version: v, Client: "c", User: "eve", Password: "x", Clean: true})
		wantRefusal(t, err, mqtt.CONNECT, mqtt.BadUserNameOrPassword)
		c := dial(t, client.Config{Address: url, Version: v, Client: "c", User: "ann", Password: "secret", Clean: true})
		reasons, err := c.SubscribeTo(t.Context(), 0, mqtt.Subscription{Filter: "open"}, mqtt.Subscription{Filter: "closed/a"})
		if v == mqtt.V31 { // its SUBACK knows no failure
			return
		}
		if len(reasons) != 2 || reasons[0] != mqtt.Success || reasons[1] < 0x80 || !errors.Is(err, client.ErrRefused) {
			t.Fatalf("reasons %v, error %v", reasons, err)
		}
		if v == mqtt.V5 {
			wantRefusal(t, c.Publish(t.Context(), "closed/a", nil, false), mqtt.PUBLISH, mqtt.NotAuthorized)
			wantRefusal(t, c.Send(t.Context(), &mqtt.Message{Topic: "closed/a", QoS: 2}), mqtt.PUBLISH, mqtt.NotAuthorized)
		}
	})
}

func wantRefusal(t *testing.T, err error, packet mqtt.Type, reason mqtt.Reason) {
	t.Helper()
	var r *client.RefusedError
	if !errors.As(err, &r) || r.Packet != packet || r.Reason != reason {
		t.Fatalf("got %v, want %v refused with %v", err, packet, reason)
	}
}

func TestTakeOverEndsTheFirstConnection(t *testing.T) {
	eachLevel(t, func(t *testing.T, v mqtt.Version) {
		url := serve(t, "mqtt")
		first := dial(t, client.Config{Address: url, Version: v, Client: "same", Clean: true})
		dial(t, client.Config{Address: url, Version: v, Client: "same", Clean: true})
		select {
		case <-first.Done():
		case <-time.After(5 * time.Second):
			t.Fatal("it goes on")
		}
		if v == mqtt.V5 {
			wantRefusal(t, first.Err(), mqtt.DISCONNECT, mqtt.SessionTakenOver)
		}
		if first.Err() == nil {
			t.Fatal("no reason")
		}
	})
}

// A publish whose acknowledgement was lost with the connection is sent again by
// the next Dial, and a QoS 2 one arrives once.
func TestWhatWasNotAcknowledgedIsSentAgain(t *testing.T) {
	eachLevel(t, func(t *testing.T, v mqtt.Version) {
		url, in := serve(t, "mqtt"), make(inbox, 10)
		watch := dial(t, client.Config{Address: url, Clean: true, Client: "watch", Receive: in.receive})
		_, err := watch.SubscribeTo(t.Context(), 0, mqtt.Subscription{Filter: "t", QoS: 2})
		must(t, err)
		wire := newWire(t, url)
		cfg := client.Config{Address: wire.address, Version: v, Client: "tracker", SessionExpiry: 600, Session: new(client.Session)}
		c := dial(t, cfg)
		wire.deaf.Store(true) // acknowledgements get lost
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		failed := make(chan error, 1)
		go func() { failed <- c.Send(ctx, &mqtt.Message{Topic: "t", Payload: []byte("one"), QoS: 2}) }()
		<-wire.swallowed
		wire.cut()
		if err := <-failed; err == nil {
			t.Fatal("a publish without acknowledgement succeeded")
		}
		c.Drop()
		wire.deaf.Store(false)
		cfg.Address = url
		c = dial(t, cfg)
		must(t, c.Send(t.Context(), &mqtt.Message{Topic: "t", Payload: []byte("two"), QoS: 2}))
		for _, want := range []string{"one", "two"} {
			if m := in.want(t); string(m.Payload) != want {
				t.Fatalf("got %s, want %s", m.Payload, want)
			}
		}
	})
}

// What a server without the session never acknowledged is not sent to it
// [MQTT-3.2.2-5].
func TestASessionThatTheServerHasNotIsEmptied(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} { // 3.1 can't know
		wire := newWire(t, serve(t, "mqtt"))
		cfg := client.Config{Address: wire.address, Version: v, Client: "tracker", SessionExpiry: 600, Session: new(client.Session)}
		c := dial(t, cfg)
		wire.deaf.Store(true)
		failed := make(chan error, 1)
		go func() { failed <- c.Publish(t.Context(), "t", []byte("one"), true) }()
		<-wire.swallowed
		wire.cut()
		if err := <-failed; err == nil {
			t.Fatal("a publish without acknowledgement succeeded")
		}
		c.Drop()
		cfg.Address = serve(t, "mqtt") // another one
		in := make(inbox, 10)
		cfg.Receive = in.receive
		c = dial(t, cfg)
		must(t, c.Publish(t.Context(), "t2", []byte("two"), true))
		must(t, c.Subscribe(t.Context(), "#"))
		if m := in.want(t); string(m.Payload) != "two" {
			t.Errorf("level %d: got %s", v, m.Payload)
		}
	}
}

func TestKeepAliveKeepsTheConnection(t *testing.T) {
	eachLevel(t, func(t *testing.T, v mqtt.Version) {
		t.Parallel()
		c := dial(t, client.Config{Address: serve(t, "mqtt"), Version: v, Client: "k", Clean: true, KeepAlive: 1})
		select {
		case <-c.Done():
			t.Fatal(c.Err())
		case <-time.After(2500 * time.Millisecond): // the server's limit is 1.5 s
		}
	})
}

func TestAServerThatFallsSilentIsGivenUp(t *testing.T) {
	eachLevel(t, func(t *testing.T, v mqtt.Version) {
		t.Parallel()
		wire := newWire(t, serve(t, "mqtt"))
		c := dial(t, client.Config{Address: wire.address, Version: v, Client: "k", Clean: true, KeepAlive: 1})
		wire.deaf.Store(true)
		select {
		case <-c.Done():
		case <-time.After(10 * time.Second):
			t.Fatal("it goes on")
		}
	})
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts by backlog and says nothing
	must(t, err)
	defer l.Close() //nolint:errcheck // the test ends
	eachLevel(t, func(t *testing.T, v mqtt.Version) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := client.Dial(ctx, client.Config{Address: l.Addr().String(), Version: v, Client: "c"}); err == nil {
			t.Fatal("connected to nobody")
		}
	})
}

func TestAddressesThatAreWrong(t *testing.T) {
	for _, a := range []string{"http://localhost", "mqtt://localhost:70000", "nonsense", "ws://127.0.0.1:1"} {
		if _, err := client.Dial(t.Context(), client.Config{Address: a}); err == nil {
			t.Errorf("%s is taken", a)
		}
	}
}

// departures are the clients whose disconnection the broker has noticed.
type departures chan string

func (d departures) Observe(e hooks.Event) {
	if e.Kind == hooks.Disconnected {
		d <- e.Identity.Client
	}
}

// Who closes as soon as Receive has the message has acknowledged it all the same:
// it does not come again.
func TestCloseAcknowledgesWhatReceiveHas(t *testing.T) {
	eachLevel(t, func(t *testing.T, v mqtt.Version) {
		gone := make(departures, 100)
		url := serve(t, "mqtt", gone)
		pub := dial(t, client.Config{Address: url, Version: v, Client: "pub", Clean: true})
		for i := range 3 {
			in, closed := make(inbox, 10), make(chan struct{})
			receive := func(m *mqtt.Message) {
				in.receive(m)
				select {
				case <-closed: // it did not wait for the acknowledgement
				case <-time.After(50 * time.Millisecond):
				}
			}
			sub := dial(t, client.Config{Address: url, Version: v, Client: "sub", SessionExpiry: 60, Receive: receive})
			must(t, sub.Subscribe(t.Context(), "t"))
			want := strconv.Itoa(i)
			must(t, pub.Send(t.Context(), &mqtt.Message{Topic: "t", QoS: 1, Payload: []byte(want)}))
			if m := <-in; string(m.Payload) != want {
				t.Fatalf("%q came in place of %q", m.Payload, want)
			}
			must(t, sub.Close())
			close(closed)
			<-gone // else the next connection takes over what has not arrived
		}
	})
}
