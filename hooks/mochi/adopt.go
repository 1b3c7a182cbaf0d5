package mochi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"

	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// ErrStorage is returned by Adopt for a hook that keeps sessions or retained
// messages: a geocast broker has a store of its own.
var ErrStorage = errors.New("mochi: a geocast broker keeps sessions and messages itself; storage hooks have no place in it")

// Adopt makes an existing hook of mochi run in a geocast broker: pass what it
// returns in broker.Config.Hooks. Of mochi's events it serves
// OnConnectAuthenticate, OnACLCheck, OnPublish, OnSessionEstablished, OnPublished
// and OnDisconnect, those that h provides. A Client that h is shown has its ID,
// Net.Remote and Properties.Username, and nothing else.
//
// Two things differ from mochi, on purpose: any hook's no to an ACL question is
// final, and an error of OnPublish refuses the publish at every level and QoS.
// config goes to h.Init. The caller stops h after the broker.
func Adopt(h server.Hook, config any, log *slog.Logger) ([]any, error) {
	if h.Provides(server.StoredClients) || h.Provides(server.StoredRetainedMessages) {
		return nil, ErrStorage
	}
	if log == nil {
		log = slog.Default()
	}
	h.SetOpts(log, &server.HookOptions{Capabilities: server.NewDefaultServerCapabilities()})
	if err := h.Init(config); err != nil {
		return nil, fmt.Errorf("mochi: hook %s: %w", h.ID(), err)
	}
	var all []any
	if h.Provides(server.OnConnectAuthenticate) {
		all = append(all, authenticator{h})
	}
	if h.Provides(server.OnACLCheck) {
		all = append(all, authorizer{h})
	}
	if h.Provides(server.OnPublish) {
		all = append(all, gate{h})
	}
	if h.Provides(server.OnSessionEstablished) || h.Provides(server.OnPublished) || h.Provides(server.OnDisconnect) {
		all = append(all, observer{h})
	}
	return all, nil
}

// shown is the client that a hook is shown.
func shown(user, id, remote string) *server.Client {
	c := &server.Client{ID: id}
	c.Properties.Username, c.Net.Remote = []byte(user), remote
	return c
}

type authenticator struct{ h server.Hook }

// Authenticate asks OnConnectAuthenticate; after its no the next is asked, as in
// mochi.
func (a authenticator) Authenticate(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	pk.Connect.ClientIdentifier = c.ClientID
	pk.Connect.Username, pk.Connect.UsernameFlag = []byte(c.Username), c.HasUsername
	pk.Connect.Password, pk.Connect.PasswordFlag = bytes.Clone(c.Password), c.HasPassword
	if !a.h.OnConnectAuthenticate(shown(c.Username, c.ClientID, c.Remote), pk) {
		return hooks.Identity{}, hooks.ErrNotMine
	}
	return hooks.Identity{User: c.Username, Verified: true}, nil
}

type authorizer struct{ h server.Hook }

// Authorize asks OnACLCheck, which may be slow: this is no hooks.Prompt.
func (a authorizer) Authorize(r *hooks.Request) error {
	if !a.h.OnACLCheck(shown(r.Identity.User, r.Identity.Client, ""), r.Topic, r.Action == hooks.Write) {
		return &hooks.Refusal{Reason: mqtt.NotAuthorized, Text: "hook " + a.h.ID() + " does not allow " + r.Topic}
	}
	return nil
}

type gate struct{ h server.Hook }

// Filters are all topics: mochi's hooks don't say which they want.
func (gate) Filters() []string { return []string{"#"} }

// Gate asks OnPublish, which may change topic-independent parts of the message:
// its payload and whether it is retained.
func (g gate) Gate(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
	pk := packetOf(p.Message)
	got, err := g.h.OnPublish(shown(p.From.User, p.From.Client, ""), pk)
	if err != nil {
		refusal := &hooks.Refusal{Reason: mqtt.ImplementationSpecificError, Text: err.Error()}
		var code packets.Code
		if errors.As(err, &code) && code.Code >= 0x80 {
			refusal.Reason = mqtt.Reason(code.Code)
		}
		return refusal
	}
	if got.FixedHeader.Retain == pk.FixedHeader.Retain && bytes.Equal(got.Payload, p.Message.Payload) {
		return nil
	}
	m := *p.Message
	m.Payload, m.Retain = got.Payload, got.FixedHeader.Retain
	p.Message = &m
	return nil
}

// packetOf is m as mochi's hooks see a publish; its payload is theirs.
func packetOf(m *mqtt.Message) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: m.QoS, Retain: m.Retain},
		TopicName: m.Topic, Payload: bytes.Clone(m.Payload)}
}

type observer struct{ h server.Hook }

// Observe tells of what was committed.
func (o observer) Observe(e hooks.Event) {
	c := shown(e.Identity.User, e.Identity.Client, "")
	switch {
	case e.Kind == hooks.Connected && o.h.Provides(server.OnSessionEstablished):
		o.h.OnSessionEstablished(c, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}})
	case e.Kind == hooks.Published && o.h.Provides(server.OnPublished):
		o.h.OnPublished(c, packetOf(e.Message))
	case e.Kind == hooks.Disconnected && o.h.Provides(server.OnDisconnect):
		var err error
		if e.Reason >= 0x80 {
			err = packets.Code{Code: byte(e.Reason), Reason: e.Reason.String()}
		}
		o.h.OnDisconnect(c, err, false)
	}
}
