package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// closed reads until the connection ends and returns the reason of the
// DISCONNECT before it; other packets are skipped.
func (c *client) closed() mqtt.Disconnect { return c.closedIn(5 * time.Second) }

func (c *client) closedIn(wait time.Duration) mqtt.Disconnect {
	c.t.Helper()
	var why mqtt.Disconnect
	for {
		first, body, err := c.next(wait)
		if err != nil {
			return why
		}
		if mqtt.Type(first>>4) == mqtt.DISCONNECT {
			d, err := mqtt.DecodeDisconnect(first, body, c.v)
			if err != nil {
				c.t.Fatal(err)
			}
			why = *d
		}
	}
}

// What ends a connection, and the reason that a client of level 5 reads.
func TestWhatBreaksTheProtocolEndsOneConnectionWithItsReason(t *testing.T) {
	for _, row := range []struct {
		name  string
		bytes []byte
		want  mqtt.Reason
	}{
		{"a second CONNECT", mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: "x", ReceiveMaximum: 1}), mqtt.ProtocolError},
		{"AUTH", []byte{0xF0, 0}, mqtt.BadAuthenticationMethod},
		{"a server's packet", []byte{0xD0, 0}, mqtt.ProtocolError},
		{"packet type 0", []byte{0x00, 0}, mqtt.ProtocolError},
		{"a length of five bytes", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, mqtt.MalformedPacket},
		{"a packet above the maximum", []byte{0x30, 0xFF, 0xFF, 0x7F}, mqtt.PacketTooLarge},
		{"PUBLISH at QoS 3", []byte{0x36, 5, 0, 1, 'a', 0, 1}, mqtt.MalformedPacket},
		{"PUBLISH without an alias or a topic", []byte{0x30, 3, 0, 0, 0}, mqtt.ProtocolError},
		{"an alias that was never set", []byte{0x30, 6, 0, 0, 3, 0x23, 0, 1}, mqtt.ProtocolError},
		{"an alias above the maximum", []byte{0x30, 7, 0, 1, 'a', 3, 0x23, 0xFF, 0xFF}, mqtt.TopicAliasInvalid},
		{"a wildcard in a topic name", []byte{0x30, 4, 0, 1, '#', 0}, mqtt.TopicNameInvalid},
		{"SUBSCRIBE that is cut short", []byte{0x82, 4, 0, 1, 0, 0}, mqtt.MalformedPacket},
		{"SUBSCRIBE with reserved bits", []byte{0x80, 7, 0, 1, 0, 0, 1, 'a', 0}, mqtt.MalformedPacket},
		{"No Local with a shared subscription", mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: "$share/g/a", QoS: 1, NoLocal: true}}}, mqtt.V5), mqtt.ProtocolError},
		{"PINGREQ with a body", []byte{0xC0, 1, 0}, mqtt.MalformedPacket},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, addr := start(t, broker.Config{})
			other := dial(t, addr, mqtt.V5)
			other.connect("other")
			c := dial(t, addr, mqtt.V5)
			c.connect("c")
			c.send(row.bytes)
			if d := c.closed(); d.Reason != row.want {
				t.Errorf("got %v (%s), want %v", d.Reason, d.ReasonString, row.want)
			}
			other.quiet()
		})
	}
}

// At levels 3 and 4 what breaks the protocol ends the connection without a word
// [MQTT-4.8.0-1]; the operator reads the reason in the log.
func TestWhatBreaksTheProtocolEndsA3xConnectionAndIsLogged(t *testing.T) {
	for _, row := range []struct {
		name  string
		bytes []byte
		want  mqtt.Reason // in the log
	}{
		{"a second CONNECT [MQTT-3.1.0-2]", mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, ClientID: "x", CleanStart: true}), mqtt.ProtocolError},
		{"packet type 0", []byte{0x00, 0}, mqtt.ProtocolError},
		{"packet type 15", []byte{0xF0, 0}, mqtt.ProtocolError},
		{"CONNACK", []byte{0x20, 2, 0, 0}, mqtt.ProtocolError},
		{"SUBACK", []byte{0x90, 3, 0, 1, 0}, mqtt.ProtocolError},
		{"UNSUBACK", []byte{0xB0, 2, 0, 1}, mqtt.ProtocolError},
		{"PINGRESP", []byte{0xD0, 0}, mqtt.ProtocolError},
		{"a length of five bytes [MQTT-2.2.3]", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, mqtt.MalformedPacket},
		{"a packet above the maximum", []byte{0x30, 0xFF, 0xFF, 0x7F}, mqtt.PacketTooLarge},
		{"PINGREQ with flags [MQTT-2.2.2-2]", []byte{0xC1, 0}, mqtt.MalformedPacket},
		{"PINGREQ with a body", []byte{0xC0, 1, 0}, mqtt.MalformedPacket},
		{"DISCONNECT with flags [MQTT-3.14.1-1]", []byte{0xE1, 0}, mqtt.MalformedPacket},
		{"PUBLISH at QoS 3 [MQTT-3.3.1-4]", []byte{0x36, 5, 0, 1, 'a', 0, 1}, mqtt.MalformedPacket},
		{"PUBLISH at QoS 0 with DUP [MQTT-3.3.1-2]", []byte{0x38, 3, 0, 1, 'a'}, mqtt.MalformedPacket},
		{"PUBLISH without a topic [MQTT-4.7.3-1]", []byte{0x30, 2, 0, 0}, mqtt.ProtocolError},
		{"PUBLISH to a wildcard [MQTT-3.3.2-2]", []byte{0x30, 3, 0, 1, '#'}, mqtt.TopicNameInvalid},
		{"PUBLISH under identifier 0 [MQTT-2.3.1-1]", []byte{0x32, 5, 0, 1, 'a', 0, 0}, mqtt.ProtocolError},
		{"PUBREL without its flags [MQTT-3.6.1-1]", []byte{0x60, 2, 0, 1}, mqtt.MalformedPacket},
		{"SUBSCRIBE without its flags [MQTT-3.8.1-1]", []byte{0x80, 6, 0, 1, 0, 1, 'a', 0}, mqtt.MalformedPacket},
		{"SUBSCRIBE without a filter [MQTT-3.8.3-3]", []byte{0x82, 2, 0, 1}, mqtt.ProtocolError},
		{"SUBSCRIBE at QoS 3 [MQTT-3-8.3-4]", []byte{0x82, 6, 0, 1, 0, 1, 'a', 3}, mqtt.ProtocolError},
		{"SUBSCRIBE that is cut short", []byte{0x82, 4, 0, 1, 0, 5}, mqtt.MalformedPacket},
		{"UNSUBSCRIBE without its flags [MQTT-3.10.1-1]", []byte{0xA0, 5, 0, 1, 0, 1, 'a'}, mqtt.MalformedPacket},
		{"UNSUBSCRIBE without a filter [MQTT-3.10.3-2]", []byte{0xA2, 2, 0, 1}, mqtt.ProtocolError},
	} {
		for _, v := range versions[:2] {
			t.Run(fmt.Sprint(row.name, ", level ", v), func(t *testing.T) {
				log := &logText{}
				b, addr := start(t, broker.Config{Log: log.logger()})
				other := dial(t, addr, v)
				other.connect("other")
				c := dial(t, addr, v)
				c.connect("c")
				c.send(row.bytes)
				if first, body, err := c.next(5 * time.Second); err == nil {
					t.Errorf("got %v %x, want nothing", mqtt.Type(first>>4), body)
				}
				log.want(t, fmt.Sprintf(`msg="client disconnected" client=c .* reason="[^"]*\(0x%02X\)" text=.* clause=MQTT-`, byte(row.want)))
				if n := b.Stats().Malformed; n != 1 {
					t.Errorf("%d connections are counted", n)
				}
				other.quiet()
			})
		}
	}
}

func TestCONNACKSaysWhatIsOnAndWhatIsBounded(t *testing.T) {
	_, addr := start(t, broker.Config{Limits: broker.Limits{ServerKeepAlive: 60, SessionExpiry: time.Hour}})
	c := dial(t, addr, mqtt.V5)
	a := c.connect("", user("ann"), func(p *mqtt.Connect) { p.SessionExpiry, p.RequestResponseInfo, p.KeepAlive = 7200, true, 120 })
	if a.ReceiveMaximum != 256 || a.MaximumPacketSize != 256<<10 || a.TopicAliasMaximum != 16 || a.AssignedClientID == "" {
		t.Errorf("got %+v", a)
	}
	if a.ServerKeepAlive == nil || *a.ServerKeepAlive != 60 {
		t.Errorf("server keep alive %v, want 60", a.ServerKeepAlive)
	}
	if a.SessionExpiry == nil || *a.SessionExpiry != 3600 {
		t.Errorf("session expiry %v, want 3600", a.SessionExpiry)
	}
	if a.ResponseInfo != "users/ann/reply/" {
		t.Errorf("response information %q", a.ResponseInfo)
	}
	for name, on := range map[string]*bool{"retain": a.RetainAvailable, "wildcards": a.WildcardAvailable, "subscription identifiers": a.SubIDAvailable, "shared subscriptions": a.SharedAvailable} {
		if on == nil || !*on {
			t.Errorf("it does not say that %s are available", name)
		}
	}
	if a.MaximumQoS != nil { // its absence means 2, and 2 must not be sent [MQTT-3.2.2-9]
		t.Errorf("maximum QoS %d", *a.MaximumQoS)
	}
}

func TestTheServersReceiveMaximumIsEnforcedAndTheReasonCanBeRead(t *testing.T) {
	_, addr := start(t, broker.Config{Limits: broker.Limits{ReceiveMaximum: 20}})
	c := dial(t, addr, mqtt.V5)
	c.connect("c")
	for id := range uint16(20) { // no PUBREL is ever sent
		c.publish("x", "y", 2, id+1)
		c.wantAck(mqtt.PUBREC, id+1)
	}
	c.quiet() // as many as may be
	c.publish("x", "y", 2, 21)
	for id := range uint16(20) { // it is still sending
		c.nc.Write(mqtt.AppendPublish(nil, &mqtt.Publish{Topic: []byte("x"), QoS: 2, ID: 22 + id}, c.v)) //nolint:errcheck // it may be cut off
	}
	if d := c.closed(); d.Reason != mqtt.ReceiveMaximumExceeded {
		t.Errorf("got %v, want ReceiveMaximumExceeded", d.Reason)
	}
}

func TestPropertiesArriveAsTheyWereSentAlsoFromTheQueue(t *testing.T) {
	_, addr := start(t, broker.Config{Data: t.TempDir()})
	sub := dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting)
	sub.subscribe("p", 1)
	user := []byte{0x26, 0, 1, 'b', 0, 1, '1', 0x26, 0, 1, 'a', 0, 1, '2', 0x26, 0, 1, 'b', 0, 1, '3'}
	p := dial(t, addr, mqtt.V5)
	p.connect("pub")
	send := func(id uint16) {
		p.publish("p", "x", 1, id, func(p *mqtt.Publish) {
			p.Props = mqtt.PublishProps{Format: 1, HasFormat: true, Expiry: 100, HasExpiry: true, ContentType: []byte("text/plain"),
				ResponseTopic: []byte("answer"), Correlation: []byte{0, 1, 2}, User: user}
		})
		p.wantAck(mqtt.PUBACK, id)
	}
	check := func(m *mqtt.Publish) {
		t.Helper()
		q := m.Props
		if q.Format != 1 || !q.HasExpiry || q.Expiry > 100 || q.Expiry < 90 || string(q.ContentType) != "text/plain" ||
			string(q.ResponseTopic) != "answer" || !bytes.Equal(q.Correlation, []byte{0, 1, 2}) || !bytes.Equal(q.User, user) {
			t.Errorf("got %+v", q)
		}
	}
	send(1)
	check(sub.want("p", "x"))
	sub.quiet()
	sub.nc.Close()
	send(2)
	sub = dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting)
	check(sub.want("p", "x"))
	p.publish("p", "plain", 1, 3) // without an expiry none is made up
	p.wantAck(mqtt.PUBACK, 3)
	if m := sub.want("p", "plain"); m.Props.HasExpiry {
		t.Errorf("an expiry of %d s was made up", m.Props.Expiry)
	}
}

func TestTopicAliasesBothWays(t *testing.T) {
	_, addr := start(t, broker.Config{Data: t.TempDir()})
	sub := dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting, func(p *mqtt.Connect) { p.TopicAliasMaximum = 2 })
	sub.subscribe("#", 1)
	p := dial(t, addr, mqtt.V5)
	p.connect("pub")
	alias := func(p *mqtt.Publish) { p.Props.Alias = 1 }
	only := func(p *mqtt.Publish) { p.Props.Alias, p.Topic = 1, nil }
	p.publish("t/long/name", "1", 1, 1, alias)
	p.wantAck(mqtt.PUBACK, 1)
	p.publish("", "2", 1, 2, only)
	p.wantAck(mqtt.PUBACK, 2)
	first := sub.want("t/long/name", "1")
	if first.Props.Alias == 0 || first.Props.Alias > 2 {
		t.Fatalf("the alias is %d, want 1 or 2", first.Props.Alias)
	}
	if m := sub.message(); len(m.Topic) != 0 || m.Props.Alias != first.Props.Alias || string(m.Payload) != "2" {
		t.Errorf("got topic %q alias %d, want the alias alone", m.Topic, m.Props.Alias)
	} else {
		sub.ack(mqtt.PUBACK, m.ID)
	}
	sub.quiet()
	sub.nc.Close()
	p.publish("", "3", 1, 3, only) // what is stored has its topic
	p.wantAck(mqtt.PUBACK, 3)
	sub = dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting)
	if m := sub.want("t/long/name", "3"); m.Props.Alias != 0 {
		t.Errorf("a client that takes no alias got %d", m.Props.Alias)
	}
}

func TestOutboundAliasesGoToTheMostRecentTopics(t *testing.T) {
	a := mqtt.NewOutAliases(2)
	var got []string
	for _, topic := range []string{"a", "b", "a", "c", "b"} {
		id, known := a.Use(topic)
		got = append(got, fmt.Sprint(topic, " ", id, " ", known))
	}
	want := []string{"a 1 false", "b 2 false", "a 1 true", "c 2 false", "b 1 false"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAMessageAboveTheClientsMaximumIsLeftOutAndCostsNoWindow(t *testing.T) {
	_, addr := start(t, broker.Config{})
	sub := dial(t, addr, mqtt.V5)
	sub.connect("sub", func(p *mqtt.Connect) { p.MaximumPacketSize, p.ReceiveMaximum = 100, 1 })
	sub.subscribe("x", 1)
	p := dial(t, addr, mqtt.V5)
	p.connect("pub")
	for i := range 5 {
		p.publish("x", string(make([]byte, 200)), 1, uint16(i+1))
		p.wantAck(mqtt.PUBACK, uint16(i+1))
	}
	p.publish("x", "small", 1, 9)
	sub.want("x", "small")
}

// refuseAll refuses with a text.
type refuseAll struct{}

func (refuseAll) Authorize(r *hooks.Request) error {
	if r.Action == hooks.Write && r.Topic == "no" || r.Topic == "secret" {
		return &hooks.Refusal{Text: "because"}
	}
	return nil
}

type allowAll struct{}

func (allowAll) Authorize(*hooks.Request) error { return nil }

// Any no is final, at every level and QoS, for wills and behind aliases.
func TestARefusedPublishGoesNowhere(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("level %d QoS %d", v, qos), func(t *testing.T) {
				_, addr := start(t, broker.Config{Hooks: []any{refuseAll{}, allowAll{}}})
				sub := dial(t, addr, mqtt.V5)
				sub.connect("sub")
				sub.subscribe("#", 0)
				c := dial(t, addr, v)
				c.connect("c")
				c.publish("no", "x", qos, uint16(qos), retain)
				if v == mqtt.V5 {
					c.publish("no", "x", qos, uint16(qos)*2, func(p *mqtt.Publish) { p.Props.Alias = 1 })
					c.publish("", "x", qos, uint16(qos)*3, func(p *mqtt.Publish) { p.Props.Alias, p.Topic = 1, nil })
				}
				c.publish("yes", "y", 0, 0)
				sub.want("yes", "y")
				w := dial(t, addr, mqtt.V5)
				if a := w.connect("w", func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "no", QoS: qos} }); a.Reason != mqtt.NotAuthorized {
					t.Errorf("a will to a forbidden topic: %v", a.Reason)
				}
			})
		}
	}
}

// A Gate's no holds at every level and QoS, too: nothing is delivered, queued or
// retained. 5 is told the reason; 3.x is acknowledged, so that it does not try for
// ever.
func TestAGatesNoHoldsAtEachLevelAndQoS(t *testing.T) {
	policy := &gate{"#", func(_ context.Context, p *hooks.Publish, _ hooks.Reader) error {
		if p.Message.Topic == "no" {
			return &hooks.Refusal{Reason: mqtt.PayloadFormatInvalid}
		}
		return nil
	}}
	each(t, func(t *testing.T, v mqtt.Version) {
		for qos := range byte(3) {
			simulate(t, broker.Config{Hooks: []any{policy}}, func(s *sim) {
				there, away := s.joins(mqtt.V5, "there", lasting), s.joins(mqtt.V5, "away", lasting)
				there.subscribe("#", 2)
				away.subscribe("#", 2)
				away.nc.Close()
				c := s.joins(v, "c")
				c.publish("no", "x", qos, 7, retain)
				if qos > 0 {
					want, answer := mqtt.Success, mqtt.PUBACK
					if v == mqtt.V5 {
						want = mqtt.PayloadFormatInvalid
					}
					if qos == 2 {
						answer = mqtt.PUBREC
					}
					if a := c.wantAck(answer, 7); a.Reason != want {
						s.t.Errorf("QoS %d: got %v, want %v", qos, a.Reason, want)
					}
				}
				c.quiet()
				there.quiet()
				s.joins(mqtt.V5, "away", lasting).quiet()
				late := s.joins(mqtt.V5, "late")
				late.subscribe("no", 2)
				late.quiet()
			})
		}
	})
}

// Who asks for no problem information gets no reason strings in PUBACK and SUBACK
// [MQTT-3.1.2-29], but reasons. What a publisher said of itself comes back to nobody.
func TestReasonStringsAreLeftOutForWhoAsksForNone(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{refuseAll{}}})
	for _, want := range []string{"because", ""} {
		c := dial(t, addr, mqtt.V5)
		raw := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: "c", CleanStart: true, ReceiveMaximum: 9})
		if want == "" { // request problem information = 0; our own client never says so
			raw = []byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 2, 0x17, 0, 0, 1, 'c'}
		}
		c.send(raw)
		if first, _ := c.read(); mqtt.Type(first>>4) != mqtt.CONNACK {
			t.Fatalf("got %v", mqtt.Type(first>>4))
		}
		c.publish("no", "x", 1, 1)
		if a := c.wantAck(mqtt.PUBACK, 1); a.Reason != mqtt.NotAuthorized || a.ReasonString != want {
			t.Errorf("PUBACK has %v %q, want %q", a.Reason, a.ReasonString, want)
		}
		if a := c.subscribeWith(0, mqtt.Subscription{Filter: "secret"}); a.Reasons[0] != mqtt.NotAuthorized || a.ReasonString != want {
			t.Errorf("SUBACK has %v %q, want %q", a.Reasons[0], a.ReasonString, want)
		}
		c.publish("nobody/listens", "x", 1, 2, func(p *mqtt.Publish) { p.Props.User = mqtt.AppendUserProp(nil, mqtt.UserProp{Key: "k", Value: "v"}) })
		if first, body := c.read(); first != byte(mqtt.PUBACK)<<4 || len(body) != 2 { // no reason is Success, and no property
			t.Errorf("got % x", body)
		}
	}
}

func TestOverlappingSubscriptionsGiveOneMessageWithAllIdentifiers(t *testing.T) {
	_, addr := start(t, broker.Config{})
	c := dial(t, addr, mqtt.V5)
	c.connect("c")
	for i, f := range []string{"a/#", "a/+", "a/b"} {
		c.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, SubID: uint32(i + 1), Filters: []mqtt.Subscription{{Filter: f, QoS: byte(i % 2)}}}, mqtt.V5))
		c.read()
	}
	p := dial(t, addr, mqtt.V5)
	p.connect("p")
	p.publish("a/b", "x", 2, 1)
	m := c.want("a/b", "x")
	ids := slices.Sorted(slices.Values(m.Props.SubIDs))
	if !slices.Equal(ids, []uint32{1, 2, 3}) || m.QoS != 1 {
		t.Errorf("got identifiers %v at QoS %d, want 1 2 3 at QoS 1", ids, m.QoS)
	}
	c.quiet()
}
