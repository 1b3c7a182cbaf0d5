package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"

	"github.com/geocast/geocast/mqtt"
)

// five is a connection of 5, by paho.golang.
type five struct {
	*paho.Client
	nc   net.Conn
	owed *owed
}

// owed is paho's session that knows whether the message that Receive got has been
// acknowledged: paho does that after Receive has returned.
type owed struct {
	session.SessionManager
	mu sync.Mutex // held from Receive to the acknowledgement
}

// Ack sends the acknowledgement.
func (o *owed) Ack(p *packets.Publish) error {
	if p.QoS > 0 {
		defer o.mu.Unlock()
	}
	return o.SessionManager.Ack(p)
}

// openFive has paho connect over nc.
func openFive(ctx context.Context, cfg *Config, nc net.Conn, end func(error)) (link, *mqtt.Connack, error) {
	if cfg.Session.five == nil {
		cfg.Session.five = state.NewInMemory()
	}
	o := &owed{SessionManager: cfg.Session.five}
	c := paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(nc), Session: o,
		PacketTimeout: 24 * time.Hour, // contexts bound what waits
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			if r.Packet.QoS > 0 {
				o.mu.Lock()
			}
			if cfg.Receive != nil {
				cfg.Receive(fromPaho(r.Packet))
			}
			return true, nil
		}},
		OnClientError: func(err error) { end(lost(err)) },
		OnServerDisconnect: func(d *paho.Disconnect) {
			e := &RefusedError{Packet: mqtt.DISCONNECT, Reason: mqtt.Reason(d.ReasonCode)}
			if d.Properties != nil {
				e.Text = d.Properties.ReasonString
			}
			end(e)
		},
	})
	a, err := c.Connect(ctx, connectPacket(cfg))
	if a != nil && a.ReasonCode >= 0x80 {
		return nil, nil, &RefusedError{mqtt.CONNECT, mqtt.Reason(a.ReasonCode), a.Properties.ReasonString}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("no CONNACK: %w", err)
	}
	return five{c, nc, o}, connackFrom(a), nil
}

func connectPacket(cfg *Config) *paho.Connect {
	p := &paho.Connect{ClientID: cfg.Client, CleanStart: cfg.Clean, KeepAlive: cfg.KeepAlive,
		UsernameFlag: cfg.User != "", Username: cfg.User, PasswordFlag: cfg.Password != "", Password: []byte(cfg.Password),
		Properties: &paho.ConnectProperties{RequestProblemInfo: true, ReceiveMaximum: &cfg.ReceiveMaximum, User: pahoProps(cfg.UserProps)}}
	if cfg.SessionExpiry > 0 {
		p.Properties.SessionExpiryInterval = &cfg.SessionExpiry
	}
	if w := cfg.Will; w != nil {
		p.WillMessage = &paho.WillMessage{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain}
		p.WillProperties = &paho.WillProperties{ContentType: w.ContentType, ResponseTopic: w.ResponseTopic,
			CorrelationData: w.Correlation, User: pahoProps(mqtt.UserProps(w.User))}
		if w.Delay > 0 {
			p.WillProperties.WillDelayInterval = &w.Delay
		}
		if w.HasFormat {
			p.WillProperties.PayloadFormat = &w.Format
		}
		if w.HasExpiry {
			p.WillProperties.MessageExpiry = &w.Expiry
		}
	}
	return p
}

func connackFrom(a *paho.Connack) *mqtt.Connack {
	c := &mqtt.Connack{SessionPresent: a.SessionPresent, Reason: mqtt.Reason(a.ReasonCode)}
	q := a.Properties
	if q == nil {
		return c
	}
	c.SessionExpiry, c.ServerKeepAlive, c.MaximumQoS = q.SessionExpiryInterval, q.ServerKeepAlive, q.MaximumQoS
	c.AssignedClientID, c.ReasonString, c.ResponseInfo = q.AssignedClientID, q.ReasonString, q.ResponseInfo
	c.ReceiveMaximum, c.MaximumPacketSize, c.TopicAliasMaximum = value(q.ReceiveMaximum), value(q.MaximumPacketSize), value(q.TopicAliasMaximum)
	c.RetainAvailable, c.WildcardAvailable = &q.RetainAvailable, &q.WildcardSubAvailable
	c.SubIDAvailable, c.SharedAvailable = &q.SubIDAvailable, &q.SharedSubAvailable
	for _, u := range q.User {
		c.UserProps = append(c.UserProps, mqtt.UserProp(u))
	}
	return c
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func pahoProps(props []mqtt.UserProp) (u paho.UserProperties) {
	for _, p := range props {
		u = append(u, paho.UserProperty(p))
	}
	return u
}

// fromPaho makes a message of what paho received.
func fromPaho(p *paho.Publish) *mqtt.Message {
	m := &mqtt.Message{Topic: p.Topic, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain}
	q := p.Properties
	if q == nil {
		return m
	}
	m.ContentType, m.ResponseTopic, m.Correlation = q.ContentType, q.ResponseTopic, q.CorrelationData
	m.Format, m.HasFormat = value(q.PayloadFormat), q.PayloadFormat != nil
	if q.MessageExpiry != nil {
		m.Expires = time.Now().UnixMilli() + int64(*q.MessageExpiry)*1000
	}
	for _, u := range q.User {
		m.User = mqtt.AppendUserProp(m.User, mqtt.UserProp(u))
	}
	return m
}

func (f five) publish(ctx context.Context, m *mqtt.Message) error {
	q := &paho.PublishProperties{ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, CorrelationData: m.Correlation,
		User: pahoProps(mqtt.UserProps(m.User))}
	if m.HasFormat {
		q.PayloadFormat = &m.Format
	}
	if m.Expires > 0 {
		left := uint32(max(m.Expires-time.Now().UnixMilli()+999, 0) / 1000)
		q.MessageExpiry = &left
	}
	a, err := f.Publish(ctx, &paho.Publish{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Properties: q})
	if a != nil {
		text := ""
		if a.Properties != nil {
			text = a.Properties.ReasonString
		}
		if no := refusal(mqtt.PUBLISH, text, mqtt.Reason(a.ReasonCode)); no != nil {
			return no
		}
	}
	return fromPahoError(err)
}

func (f five) subscribe(ctx context.Context, s *mqtt.Subscribe) (reasons []mqtt.Reason, err error) {
	p := &paho.Subscribe{Properties: &paho.SubscribeProperties{User: pahoProps(s.UserProps)}}
	if s.SubID > 0 {
		id := int(s.SubID)
		p.Properties.SubscriptionIdentifier = &id
	}
	for _, o := range s.Filters {
		p.Subscriptions = append(p.Subscriptions, paho.SubscribeOptions{Topic: o.Filter, QoS: o.QoS, NoLocal: o.NoLocal,
			RetainAsPublished: o.RetainAsPublished, RetainHandling: o.RetainHandling})
	}
	a, err := f.Subscribe(ctx, p)
	if a == nil {
		return nil, fromPahoError(err)
	}
	text := ""
	if a.Properties != nil {
		text = a.Properties.ReasonString
	}
	return reasonsOf(mqtt.SUBSCRIBE, text, a.Reasons)
}

func (f five) unsubscribe(ctx context.Context, filters []string) error {
	a, err := f.Unsubscribe(ctx, &paho.Unsubscribe{Topics: filters})
	if a == nil {
		return fromPahoError(err)
	}
	_, err = reasonsOf(mqtt.UNSUBSCRIBE, "", a.Reasons)
	return err
}

func reasonsOf(t mqtt.Type, text string, codes []byte) (reasons []mqtt.Reason, err error) {
	for _, c := range codes {
		reasons = append(reasons, mqtt.Reason(c))
	}
	return reasons, refusal(t, text, reasons...)
}

// fromPahoError names the errors of a connection that broke.
func fromPahoError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("client: %w", err)
}

// leave says goodbye, after the acknowledgement of what Receive has: else that
// would come again.
func (f five) leave(r mqtt.Reason) error {
	f.owed.mu.Lock()
	defer f.owed.mu.Unlock()
	return f.Disconnect(&paho.Disconnect{ReasonCode: byte(r)})
}

// drop closes the connection under paho, and waits until it has noticed.
func (f five) drop() {
	f.nc.Close() //nolint:errcheck // nothing was promised
	<-f.Done()
}
