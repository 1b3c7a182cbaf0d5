package conformance_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// phone is paho.golang as its users have it: autopaho, which keeps a connection
// up, with a session that lasts.
type phone struct {
	*autopaho.ConnectionManager
	t   *testing.T
	ctx context.Context
	up  chan *paho.Connack
	got chan *paho.Publish
}

// newPhone connects to a broker, with session what it keeps over connections.
func newPhone(t *testing.T, server, id string, session *state.State) *phone {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	p := &phone{t: t, ctx: ctx, up: make(chan *paho.Connack, 10), got: make(chan *paho.Publish, 100)}
	p.ConnectionManager, err = autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{u}, KeepAlive: 60, SessionExpiryInterval: 600,
		ReconnectBackoff: autopaho.NewConstantBackoff(50 * time.Millisecond),
		OnConnectionUp:   func(_ *autopaho.ConnectionManager, a *paho.Connack) { p.up <- a },
		ClientConfig: paho.ClientConfig{ClientID: id, Session: session,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
				p.got <- r.Packet
				return true, nil
			}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *phone) connack() *paho.Connack {
	p.t.Helper()
	select {
	case a := <-p.up:
		return a
	case <-p.ctx.Done():
		p.t.Fatal("no CONNACK")
		return nil
	}
}

func (p *phone) publishes(topic, payload string, qos byte) {
	p.t.Helper()
	format, expiry := byte(1), uint32(600)
	_, err := p.Publish(p.ctx, &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: qos, Properties: &paho.PublishProperties{
		PayloadFormat: &format, MessageExpiry: &expiry, ContentType: "text/plain", ResponseTopic: "answers", CorrelationData: []byte{0, 255},
		User: paho.UserProperties{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}}}})
	if err != nil {
		p.t.Fatal(err)
	}
}

// gets wants a message next, with the properties of publishes.
func (p *phone) gets(topic, payload string, qos byte) {
	p.t.Helper()
	select {
	case m := <-p.got:
		if m.Topic != topic || string(m.Payload) != payload || m.QoS != qos {
			p.t.Fatalf("got %s %q at QoS %d, want %s %q at %d", m.Topic, m.Payload, m.QoS, topic, payload, qos)
		}
		q := m.Properties
		if fmt.Sprint(q.User) != "[{b 1} {a 2} {b 3}]" || q.ContentType != "text/plain" || q.ResponseTopic != "answers" || string(q.CorrelationData) != "\x00\xff" ||
			q.PayloadFormat == nil || *q.PayloadFormat != 1 || q.MessageExpiry == nil || *q.MessageExpiry > 600 ||
			q.SubscriptionIdentifier == nil || *q.SubscriptionIdentifier != 7 {
			p.t.Errorf("with %+v", q)
		}
	case <-p.ctx.Done():
		p.t.Fatalf("%q did not come", payload)
	}
}

// paho.golang over TCP and WebSocket: each QoS, properties, and a session
// that its client comes back to.
func TestPahoGolang(t *testing.T) {
	tcp, web, _ := serve(t, t.TempDir())
	for _, server := range []string{"mqtt://127.0.0.1:" + tcp, "ws://127.0.0.1:" + web + "/mqtt"} {
		t.Run(server[:4], func(t *testing.T) {
			id, topic, session := "go"+server[:2], server[:2]+"/x", state.NewInMemory()
			sub := newPhone(t, server, id, session)
			if a := sub.connack(); a.SessionPresent || !a.Properties.WildcardSubAvailable || !a.Properties.SharedSubAvailable {
				t.Errorf("CONNACK is %+v", a)
			}
			seven := 7
			granted, err := sub.Subscribe(sub.ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 2}},
				Properties: &paho.SubscribeProperties{SubscriptionIdentifier: &seven}})
			if err != nil || granted.Reasons[0] != 2 {
				t.Fatalf("SUBACK is %+v, %v", granted, err)
			}
			other := newPhone(t, server, id+"other", state.NewInMemory())
			other.connack()
			for qos := range byte(3) {
				other.publishes(topic, fmt.Sprint("there ", qos), qos)
				sub.gets(topic, fmt.Sprint("there ", qos), qos)
			}
			if err := sub.Disconnect(sub.ctx); err != nil {
				t.Fatal(err)
			}
			for qos := byte(1); qos < 3; qos++ {
				other.publishes(topic, fmt.Sprint("missed ", qos), qos)
			}
			sub = newPhone(t, server, id, session)
			if a := sub.connack(); !a.SessionPresent {
				t.Error("the session is not present")
			}
			for qos := byte(1); qos < 3; qos++ {
				sub.gets(topic, fmt.Sprint("missed ", qos), qos)
			}
			for _, p := range []*phone{sub, other} {
				if err := p.Disconnect(p.ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
