package broker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// tightened lets everybody sign in by the client id, and read what begins with
// "open" at first; later "open/secret" is refused.
type tightened struct{ now atomic.Bool }

func (*tightened) Authenticate(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	return hooks.Identity{User: c.ClientID, Verified: true}, nil
}

func (a *tightened) Authorize(r *hooks.Request) error {
	if a.now.Load() && r.Action == hooks.Read && r.Topic == "open/secret" {
		return &hooks.Refusal{Text: "no more"}
	}
	return nil
}

// wantEnd reads up to the end of the connection, and returns the reason.
func (c *client) wantEnd() (r mqtt.Reason) {
	c.t.Helper()
	for {
		first, body, err := c.next(5 * time.Second)
		if err != nil {
			return r
		}
		if mqtt.Type(first>>4) == mqtt.DISCONNECT {
			d, err := mqtt.DecodeDisconnect(first, body, c.v)
			if err != nil {
				c.t.Fatal(err)
			}
			r = d.Reason
		}
	}
}

// What is not allowed any more ends: at once for who is connected, and for sessions
// that are offline; all else goes on.
func TestRecheckEndsWhatIsRefusedNow(t *testing.T) {
	a := &tightened{}
	b, addr := start(t, broker.Config{Data: t.TempDir(), Hooks: []any{a}})
	clients := map[string]*client{}
	for _, name := range []string{"reader", "gone", "calm"} {
		clients[name] = dial(t, addr, mqtt.V5)
		clients[name].connect(name)
		clients[name].subscribe("open/fine", 1)
	}
	clients["reader"].subscribe("open/secret", 1)
	clients["reader"].subscribe("$share/g/open/secret", 1)
	for i := range 2 * 16 {
		c := dial(t, addr, mqtt.V5)
		c.connect(fmt.Sprint("off", i), lasting)
		c.subscribe("open/secret", 1)
		c.subscribe("open/fine", 1)
		c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, c.v))
		c.wantEnd()
	}
	a.now.Store(true)
	b.Recheck(func(id *hooks.Identity) bool { return id.User != "gone" })
	for _, name := range []string{"reader", "gone"} {
		if r := clients[name].wantEnd(); r != mqtt.NotAuthorized {
			t.Errorf("%s is told %v", name, r)
		}
	}
	clients["calm"].quiet()
	pub(t, b, &mqtt.Message{Topic: "open/secret", Payload: []byte("s"), QoS: 1})
	pub(t, b, &mqtt.Message{Topic: "open/fine", Payload: []byte("f"), QoS: 1})
	clients["calm"].want("open/fine", "f")
	for i := range 2 * 16 {
		c := dial(t, addr, mqtt.V5)
		if ack := c.connect(fmt.Sprint("off", i), lasting); !ack.SessionPresent {
			t.Fatal("the session is gone")
		}
		c.want("open/fine", "f")
		c.quiet()
	}
}

// Who was let in by what held a moment ago is told to come again.
func TestRecheckCatchesWhoIsJustSigningIn(t *testing.T) {
	s := slowSignIn{make(chan struct{})}
	b, addr := start(t, broker.Config{Hooks: []any{s}})
	quiet := dial(t, addr, mqtt.V5)
	quiet.connect("quiet")
	c := dial(t, addr, mqtt.V5)
	c.send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: "slow", CleanStart: true, ReceiveMaximum: 9}))
	s.open <- struct{}{} // it is being asked about
	b.Recheck(nil)
	s.open <- struct{}{}
	_, body := c.read()
	if a, err := mqtt.DecodeConnack(body, mqtt.V5); err != nil || a.Reason != mqtt.ServerBusy {
		t.Errorf("got %+v, %v", a, err)
	}
	quiet.quiet()
}
