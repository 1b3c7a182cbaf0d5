package broker

import (
	"errors"
	"strings"
	"sync"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// packet decodes one packet and makes a command of it. An error closes the
// connection with its reason, but errWorker, which the reader gets for a packet
// that it must leave to a worker.
func (c *conn) packet(first byte, body []byte, reader bool) error {
	t := mqtt.Type(first >> 4)
	if !c.connected {
		return c.connectPacket(first, body)
	}
	switch t {
	case mqtt.PUBLISH:
		return c.publishPacket(first, body, reader)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		cmd := command{kind: cmdAck, conn: c}
		if err := cmd.ack.Decode(first, body, c.version); err != nil {
			return err
		}
		c.out = append(c.out, cmd)
	case mqtt.PINGREQ:
		if len(body) != 0 || first&15 != 0 {
			return &mqtt.Error{Reason: mqtt.MalformedPacket, Clause: "MQTT-3.12", Text: "PINGREQ has a body or flags"}
		}
		c.pong()
	case mqtt.SUBSCRIBE:
		return c.subscribePacket(first, body)
	case mqtt.UNSUBSCRIBE:
		p, err := mqtt.DecodeUnsubscribe(first, body, c.version)
		if err != nil {
			return err
		}
		if err := c.mayName(len(p.Filters)); err != nil {
			return err
		}
		c.out = append(c.out, command{kind: cmdUnsubscribe, conn: c, any: p, more: int32(len(p.Filters))})
	case mqtt.DISCONNECT:
		return c.disconnectPacket(first, body)
	default:
		if t == mqtt.AUTH && c.version == mqtt.V5 {
			return &mqtt.Error{Reason: mqtt.BadAuthenticationMethod, Clause: "MQTT-4.12.0-1", Text: "enhanced authentication is not offered"}
		}
		return &mqtt.Error{Reason: mqtt.ProtocolError, Clause: "MQTT-2.1.2", Text: "a client must not send " + t.String()}
	}
	return nil
}

func (c *conn) disconnectPacket(first byte, body []byte) error {
	p, err := mqtt.DecodeDisconnect(first, body, c.version)
	if err != nil {
		return err
	}
	if p.SessionExpiry != nil && *p.SessionExpiry != 0 && !c.lasts {
		return &mqtt.Error{Reason: mqtt.ProtocolError, Clause: "MQTT-3.14.2-2", Text: "a session that ends with its connection can't be given an expiry at DISCONNECT"}
	}
	c.because(p.Reason, "")
	c.out = append(c.out, command{kind: cmdDisconnect, conn: c, any: p})
	c.submit()
	return errEnd
}

// publishPacket decodes a PUBLISH in place, asks the hooks and copies it out of
// the buffer.
func (c *conn) publishPacket(first byte, body []byte, reader bool) error {
	var p mqtt.Publish
	if err := p.Decode(first, body, c.version); err != nil {
		return err
	}
	if err := c.aliases.Resolve(&p); err != nil {
		return err
	}
	if len(p.Props.SubIDs) > 0 {
		return &mqtt.Error{Reason: mqtt.ProtocolError, Clause: "MQTT-3.3.4-6", Text: "a client must not send a subscription identifier with PUBLISH"}
	}
	m := p.Message(c.b.now())
	gated := c.b.hooks.gated(m.Topic)
	if gated && reader {
		return errWorker
	}
	if err := c.mayWrite(m, false); err != nil {
		return c.refusePublish(&p, err)
	}
	cmd := command{kind: cmdPublish, conn: c, msg: m, qos: p.QoS, id: p.ID, dup: p.Dup}
	if gated {
		cmd.from = &hooks.Publish{From: c.identity, Message: m, At: c.b.now()}
		if err := c.b.gate(cmd.from); err != nil {
			return c.refusePublish(&p, err)
		}
		cmd.msg = cmd.from.Message
	}
	if err := c.b.publishable(cmd.msg.Topic); err != nil {
		return c.refusePublish(&p, err)
	}
	if p.QoS == 0 && !p.Retain && len(c.b.hooks.observers) == 0 && c.bypass(cmd.msg) {
		return nil
	}
	c.out = append(c.out, cmd)
	return nil
}

// requests are questions about publishes; Authorizers must not keep them.
var requests = sync.Pool{New: func() any { return new(hooks.Request) }}

// mayWrite says whether the client may publish m, or leave it behind as its will.
func (c *conn) mayWrite(m *mqtt.Message, will bool) error {
	if len(c.b.hooks.authorizers) > 0 {
		r := requests.Get().(*hooks.Request)
		defer requests.Put(r)
		*r = hooks.Request{Identity: &c.identity, Action: hooks.Write, Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Payload: m.Payload, Will: will}
		if err := c.b.authorize(r); err != nil {
			return err
		}
	}
	return c.b.publishable(m.Topic)
}

// refusePublish has the core answer a publish that is not allowed, in its place.
func (c *conn) refusePublish(p *mqtt.Publish, err error) error {
	c.out = append(c.out, command{kind: cmdRefuse, conn: c, any: refused{string(p.Topic), p.QoS, p.ID, err}})
	return nil
}

// subscribePacket validates each filter; what is refused is answered in its
// SUBACK [MQTT-3.9.3-2].
func (c *conn) subscribePacket(first byte, body []byte) error {
	p, err := mqtt.DecodeSubscribe(first, body, c.version)
	if err != nil {
		return err
	}
	if err := c.mayName(len(p.Filters)); err != nil {
		return err
	}
	s := &subscription{Subscribe: p, refused: make(map[string]*hooks.Refusal), rights: c.b.rights.Load()}
	for _, f := range p.Filters {
		no, err := c.checkFilter(f)
		if err != nil {
			return err
		}
		if no != nil {
			s.refused[f.Filter] = no
		}
	}
	c.out = append(c.out, command{kind: cmdSubscribe, conn: c, any: s, more: int32(len(p.Filters))})
	return nil
}

// mayName bounds the filters of one packet: the core applies it as a whole.
func (c *conn) mayName(filters int) error {
	if filters > c.b.cfg.Limits.Subscriptions {
		return &mqtt.Error{Reason: mqtt.QuotaExceeded, Clause: "MQTT-4.13.1-1", Text: "a packet has more filters than a session may have"}
	}
	return nil
}

// subscription is a SUBSCRIBE and the filters in it that were refused.
type subscription struct {
	*mqtt.Subscribe
	refused map[string]*hooks.Refusal
	rights  uint64 // what Broker.rights was when the hooks were asked
}

// checkFilter says why a filter is refused, nil if it is not; err ends the connection.
func (c *conn) checkFilter(f mqtt.Subscription) (no *hooks.Refusal, err error) {
	if err := mqtt.ValidFilter(f.Filter); err != nil {
		return invalidFilter(strings.TrimPrefix(err.Error(), "mqtt: ")), nil
	}
	if text := c.b.cfg.Limits.outOfBounds(f.Filter); text != "" {
		return invalidFilter(text), nil
	}
	_, rest, shared, err := mqtt.ParseShared(f.Filter)
	if err != nil {
		return invalidFilter(strings.TrimPrefix(err.Error(), "mqtt: ")), nil
	}
	if !shared {
		rest = f.Filter
	} else if f.NoLocal {
		return nil, &mqtt.Error{Reason: mqtt.ProtocolError, Clause: "MQTT-3.8.3-4", Text: "No Local on a shared subscription"}
	}
	err = c.b.authorize(&hooks.Request{Identity: &c.identity, Action: hooks.Read, Topic: rest, QoS: f.QoS, Shared: shared})
	if err == nil {
		return nil, nil
	}
	c.b.unexpected(err, "an authorizer failed", c.identity.Client)
	if no, ok := errors.AsType[*hooks.Refusal](err); ok {
		return no, nil
	}
	return &hooks.Refusal{}, nil
}

func invalidFilter(text string) *hooks.Refusal {
	return &hooks.Refusal{Reason: mqtt.TopicFilterInvalid, Text: text}
}

// connectPacket authenticates a client and asks the core for its session.
func (c *conn) connectPacket(first byte, body []byte) error {
	if first&15 != 0 {
		return &mqtt.Error{Reason: mqtt.MalformedPacket, Clause: "MQTT-2.1.3-1", Text: "CONNECT has flags"}
	}
	p, err := mqtt.DecodeConnect(body)
	if p != nil {
		c.version, c.maxPacket = p.Version, int(p.MaximumPacketSize)
	}
	if err != nil {
		return c.refuseConnect(p, err)
	}
	r := &connectRequest{packet: p, rights: c.b.rights.Load()}
	if p.AuthMethod != "" {
		return c.refuseConnect(p, &mqtt.Error{Reason: mqtt.BadAuthenticationMethod, Clause: "MQTT-4.12.0-1", Text: "enhanced authentication is not offered"})
	}
	if p.ClientID == "" {
		if p.Version != mqtt.V5 && !p.CleanStart {
			return c.refuseConnect(p, &mqtt.Error{Reason: mqtt.ClientIdentifierNotValid, Clause: "MQTT-3.1.3-8", Text: "an empty client id needs a clean session"})
		}
		p.ClientID = c.b.assignID()
		r.assigned = p.ClientID
	}
	if r.identity, err = c.b.authenticate(c, p, r.assigned != ""); err != nil {
		return c.refuseConnect(p, err)
	}
	c.identity = r.identity
	if p.Will != nil {
		if err := c.mayWrite(newWill(p.Will, c.identity).msg, true); err != nil {
			return c.refuseConnect(p, err)
		}
	}
	c.admit(r.identity, p, c.b.cfg.Limits)
	c.logConnected(p)
	c.out = append(c.out, command{kind: cmdConnect, conn: c, any: r})
	return nil
}

// refuseConnect answers a CONNECT with the reason, then closes. p is nil if it could
// not be read.
func (c *conn) refuseConnect(p *mqtt.Connect, err error) error {
	if p == nil {
		p = &mqtt.Connect{}
	}
	c.b.stats.refusedConnects.Add(1)
	c.logRefused(p.ClientID, p.Username, err)
	c.refused = true
	a := &mqtt.Connack{}
	a.Reason, a.ReasonString = refusal(err)
	if c.version != 0 {
		b := fitted(a, c.version, c.maxPacket)
		c.write(func(dst []byte) []byte { return append(dst, b...) })
		c.mu.Lock()
		c.told = true
		c.mu.Unlock()
	}
	return err
}
