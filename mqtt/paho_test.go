package mqtt_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	paho "github.com/eclipse/paho.golang/packets"
	"pgregory.net/rapid"

	"github.com/geocast/geocast/mqtt"
)

// pahoReads decodes a packet as paho.golang does; it returns nil if that refuses
// it or panics.
func pahoReads(first byte, body []byte) (p *paho.ControlPacket, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("panic: %v", r)
		}
	}()
	b := []byte{first}
	n := len(body)
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return paho.ReadPacket(bytes.NewReader(append(append(b, byte(n)), body...)))
}

// FuzzAgainstPaho: what our decoders take of level 5, paho.golang's take, too,
// and read the same from it.
func FuzzAgainstPaho(f *testing.F) {
	f.Add(byte(0x10), []byte("\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a"))
	f.Add(byte(0x10), []byte("\x00\x04MQTT\x05\xce\x00\x3c\x05\x11\x00\x00\x00\x09\x00\x01a\x05\x18\x00\x00\x00\x01\x00\x01w\x00\x01x\x00\x01u\x00\x01p"))
	f.Add(byte(0x10), []byte("\x00\x04MQTT\x05\x06\x00\x3c\x1b\x11\x00\x00\x00\x09\x21\x00\x05\x27\x00\x00\x01\x00\x22\x00\x03\x19\x01\x17\x00\x26\x00\x01k\x00\x01v\x00\x01a\x14\x01\x01\x02\x00\x00\x00\x07\x03\x00\x01c\x08\x00\x01r\x09\x00\x02\x01\x02\x00\x01w\x00\x01x"))
	f.Add(byte(0x32), []byte("\x00\x03a/b\x00\x07\x00hello"))
	f.Add(byte(0x3b), []byte("\x00\x01a\x00\x01\x09\x26\x00\x01k\x00\x01v\x01\x01x"))
	f.Add(byte(0x33), []byte("\x00\x01a\x00\x01\x1e\x01\x01\x02\x00\x00\x00\x07\x03\x00\x01c\x08\x00\x01r\x09\x00\x02\x01\x02\x23\x00\x05\x26\x00\x01k\x00\x01vx"))
	f.Add(byte(0x40), []byte("\x00\x01\x97\x04\x1f\x00\x01x"))
	f.Add(byte(0x62), []byte("\x00\x01\x92"))
	f.Add(byte(0x82), []byte("\x00\x01\x02\x0b\x07\x00\x01a\x2d"))
	f.Add(byte(0x82), []byte("\x00\x01\x10\x0b\x07\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w\x00\x01a\x01"))
	f.Add(byte(0xa2), []byte("\x00\x01\x00\x00\x01a\x00\x02b/"))
	f.Add(byte(0xe0), []byte("\x04\x05\x11\x00\x00\x00\x09"))
	f.Add(byte(0xe0), []byte("\x82\x10\x11\x00\x00\x00\x09\x1f\x00\x01r\x26\x00\x01k\x00\x01v"))
	f.Fuzz(func(t *testing.T, first byte, body []byte) {
		got, want, err := bothRead(first, body)
		if got == "" {
			return
		}
		if err != nil {
			t.Fatalf("paho.golang refuses %x %x: %v; we read %s", first, body, err, got)
		}
		if got != want {
			t.Fatalf("of %x %x we read %s, paho.golang %s", first, body, got, want)
		}
	})
}

// or is what p points to, or what its absence stands for.
func or[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}

func ofPaho(all []paho.User) (props []mqtt.UserProp) {
	for _, u := range all {
		props = append(props, mqtt.UserProp{Key: u.Key, Value: u.Value})
	}
	return props
}

// messageProps prints the properties of a PUBLISH or a will.
func messageProps(r *paho.Properties) string {
	return fmt.Sprintf(" %v %d %v %d %q %q %q %q", r.PayloadFormat != nil, or(r.PayloadFormat, 0), r.MessageExpiry != nil, or(r.MessageExpiry, 0),
		r.ContentType, r.ResponseTopic, r.CorrelationData, ofPaho(r.User))
}

// What we answer, paho.golang reads as it was meant.
func TestPahoReadsWhatWeAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 5, 20)
		flag := func(name string) *bool {
			return rapid.Ptr(rapid.Bool(), true).Draw(t, name)
		}
		props := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) mqtt.UserProp {
			return mqtt.UserProp{Key: text.Draw(t, "key"), Value: text.Draw(t, "value")}
		}), 0, 3).Draw(t, "user properties")
		reason := mqtt.Reason(rapid.SampledFrom([]byte{0, 0x80, 0x87, 0x97}).Draw(t, "reason"))
		because := text.Draw(t, "because")
		a := mqtt.Connack{SessionPresent: rapid.Bool().Draw(t, "present"), Reason: reason, ReasonString: because, UserProps: props,
			SessionExpiry: rapid.Ptr(rapid.Uint32(), true).Draw(t, "expiry"), ServerKeepAlive: rapid.Ptr(rapid.Uint16(), true).Draw(t, "keep alive"),
			ReceiveMaximum: rapid.Uint16Min(1).Draw(t, "receive"), MaximumPacketSize: rapid.Uint32().Draw(t, "size"),
			TopicAliasMaximum: rapid.Uint16().Draw(t, "aliases"), AssignedClientID: text.Draw(t, "id"), ResponseInfo: text.Draw(t, "response"),
			RetainAvailable: flag("retain"), WildcardAvailable: flag("wildcard"), SubIDAvailable: flag("identifiers"), SharedAvailable: flag("shared")}
		k := answer[*paho.Connack](t, mqtt.AppendConnack(nil, &a, mqtt.V5))
		available := func(b *bool) (v *byte) {
			if b == nil {
				return nil
			}
			if v = new(byte); *b {
				*v = 1
			}
			return v
		}
		want := paho.Connack{SessionPresent: a.SessionPresent, ReasonCode: byte(reason), Properties: &paho.Properties{ReasonString: because, SessionExpiryInterval: a.SessionExpiry,
			ServerKeepAlive: a.ServerKeepAlive, ReceiveMaximum: &a.ReceiveMaximum, AssignedClientID: a.AssignedClientID, ResponseInfo: a.ResponseInfo,
			RetainAvailable: available(a.RetainAvailable), WildcardSubAvailable: available(a.WildcardAvailable), SubIDAvailable: available(a.SubIDAvailable), SharedSubAvailable: available(a.SharedAvailable)}}
		if a.MaximumPacketSize != 0 {
			want.Properties.MaximumPacketSize = &a.MaximumPacketSize
		}
		if a.TopicAliasMaximum != 0 {
			want.Properties.TopicAliasMaximum = &a.TopicAliasMaximum
		}
		for _, u := range props {
			want.Properties.User = append(want.Properties.User, paho.User(u))
		}
		if k.String() != want.String() {
			t.Fatalf("CONNACK: got %s, want %s", k, &want)
		}
		reasons := []mqtt.Reason{0, 1, 2, reason}
		s := answer[*paho.Suback](t, mqtt.AppendSuback(nil, &mqtt.Suback{ID: 7, Reasons: reasons, ReasonString: because}, mqtt.V5))
		if s.PacketID != 7 || !bytes.Equal(s.Reasons, []byte{0, 1, 2, byte(reason)}) || s.Properties.ReasonString != because {
			t.Fatalf("SUBACK: %v", s)
		}
		u := answer[*paho.Unsuback](t, mqtt.AppendUnsuback(nil, &mqtt.Unsuback{ID: 8, Reasons: []mqtt.Reason{0, mqtt.NoSubscriptionExisted}}, mqtt.V5))
		if u.PacketID != 8 || !bytes.Equal(u.Reasons, []byte{0, 0x11}) {
			t.Fatalf("UNSUBACK: %v", u)
		}
		d := answer[*paho.Disconnect](t, mqtt.AppendDisconnect(nil, &mqtt.Disconnect{Reason: mqtt.SessionTakenOver, ReasonString: because, UserProps: props}, mqtt.V5))
		if d.ReasonCode != 0x8E || d.Properties.ReasonString != because || !slices.Equal(ofPaho(d.Properties.User), props) {
			t.Fatalf("DISCONNECT: %v", d)
		}
	})
}

// answer is a packet of ours as paho.golang reads it.
func answer[T any](t *rapid.T, packet []byte) (p T) {
	first, body, n, err := mqtt.Frame(packet, 1<<20)
	if err != nil || n != len(packet) {
		t.Fatalf("%x is no packet: %v", packet, err)
	}
	k, err := pahoReads(first, body)
	if err != nil {
		t.Fatalf("paho.golang refuses %x: %v", packet, err)
	}
	return k.Content.(T)
}

// bothRead reads a packet with our decoder and with paho's, and prints what they
// have in common. got is empty if ours refuses it.
func bothRead(first byte, body []byte) (got, want string, err error) {
	var p mqtt.Publish
	var a mqtt.Ack
	switch ty := mqtt.Type(first >> 4); ty {
	case mqtt.CONNECT:
		c, err := mqtt.DecodeConnect(body)
		if err != nil || c.Version != mqtt.V5 || first&15 != 0 {
			return "", "", nil
		}
		got = fmt.Sprintf("%q %v %d %v %q %v %q %v", c.ClientID, c.CleanStart, c.KeepAlive, c.HasUsername, c.Username, c.HasPassword, c.Password, c.Will != nil)
		got += fmt.Sprintf(" %d %d %d %d %v %v %q %q %q", c.SessionExpiry, c.ReceiveMaximum, c.MaximumPacketSize, c.TopicAliasMaximum,
			c.RequestResponseInfo, c.RequestProblemInfo, c.AuthMethod, c.AuthData, c.UserProps)
		if w := c.Will; w != nil {
			got += fmt.Sprintf(" %q %q %d %v %d", w.Topic, w.Payload, w.QoS, w.Retain, w.Delay)
			got += fmt.Sprintf(" %v %d %v %d %q %q %q %q", w.HasFormat, w.Format, w.HasExpiry, w.Expiry, w.ContentType, w.ResponseTopic, w.Correlation, mqtt.UserProps(w.User))
		}
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		q := k.Content.(*paho.Connect)
		r := q.Properties
		want = fmt.Sprintf("%q %v %d %v %q %v %q %v", q.ClientID, q.CleanStart, q.KeepAlive, q.UsernameFlag, q.Username, q.PasswordFlag, q.Password, q.WillFlag)
		want += fmt.Sprintf(" %d %d %d %d %v %v %q %q %q", or(r.SessionExpiryInterval, 0), or(r.ReceiveMaximum, 65535), or(r.MaximumPacketSize, 0), or(r.TopicAliasMaximum, 0),
			or(r.RequestResponseInfo, 0) == 1, or(r.RequestProblemInfo, 1) == 1, r.AuthMethod, r.AuthData, ofPaho(r.User))
		if q.WillFlag {
			w := q.WillProperties
			want += fmt.Sprintf(" %q %q %d %v %d%s", q.WillTopic, q.WillMessage, q.WillQOS, q.WillRetain, or(w.WillDelayInterval, 0), messageProps(w))
		}
		return got, want, nil
	case mqtt.PUBLISH:
		if p.Decode(first, body, mqtt.V5) != nil {
			return "", "", nil
		}
		r := &p.Props
		got = fmt.Sprintf("%q %q %d %d %v %v %d", p.Topic, p.Payload, p.QoS, p.ID, p.Dup, p.Retain, r.Alias)
		got += fmt.Sprintf(" %v %d %v %d %q %q %q %q", r.HasFormat, r.Format, r.HasExpiry, r.Expiry, r.ContentType, r.ResponseTopic, r.Correlation, mqtt.UserProps(r.User))
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		q := k.Content.(*paho.Publish)
		return got, fmt.Sprintf("%q %q %d %d %v %v %d%s", q.Topic, q.Payload, q.QoS, q.PacketID, q.Duplicate, q.Retain, or(q.Properties.TopicAlias, 0), messageProps(q.Properties)), nil
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		if a.Decode(first, body, mqtt.V5) != nil {
			return "", "", nil
		}
		got = fmt.Sprintf("%d %d %q", a.ID, byte(a.Reason), a.ReasonString)
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		switch q := k.Content.(type) {
		case *paho.Puback:
			want = fmt.Sprintf("%d %d %q", q.PacketID, q.ReasonCode, q.Properties.ReasonString)
		case *paho.Pubrec:
			want = fmt.Sprintf("%d %d %q", q.PacketID, q.ReasonCode, q.Properties.ReasonString)
		case *paho.Pubrel:
			want = fmt.Sprintf("%d %d %q", q.PacketID, q.ReasonCode, q.Properties.ReasonString)
		case *paho.Pubcomp:
			want = fmt.Sprintf("%d %d %q", q.PacketID, q.ReasonCode, q.Properties.ReasonString)
		}
		return got, want, nil
	case mqtt.SUBSCRIBE:
		s, err := mqtt.DecodeSubscribe(first, body, mqtt.V5)
		if err != nil {
			return "", "", nil
		}
		got = fmt.Sprintf("%d %d %q", s.ID, s.SubID, s.UserProps)
		for _, f := range s.Filters {
			got += fmt.Sprintf(" %q %d %d %v %v", f.Filter, f.QoS, f.RetainHandling, f.NoLocal, f.RetainAsPublished)
		}
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		q := k.Content.(*paho.Subscribe)
		want = fmt.Sprintf("%d %d %q", q.PacketID, or(q.Properties.SubscriptionIdentifier, 0), ofPaho(q.Properties.User))
		for _, f := range q.Subscriptions {
			want += fmt.Sprintf(" %q %d %d %v %v", f.Topic, f.QoS, f.RetainHandling, f.NoLocal, f.RetainAsPublished)
		}
		return got, want, nil
	case mqtt.UNSUBSCRIBE:
		s, err := mqtt.DecodeUnsubscribe(first, body, mqtt.V5)
		if err != nil {
			return "", "", nil
		}
		got = fmt.Sprintf("%d %q", s.ID, s.Filters)
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		q := k.Content.(*paho.Unsubscribe)
		return got, fmt.Sprintf("%d %q", q.PacketID, q.Topics), nil
	case mqtt.DISCONNECT:
		d, err := mqtt.DecodeDisconnect(first, body, mqtt.V5)
		if err != nil || len(body) < 2 { // paho.golang refuses the short forms [MQTT-3.14.2.1]
			return "", "", nil
		}
		got = fmt.Sprintf("%d %v %d %q %q", byte(d.Reason), d.SessionExpiry != nil, or(d.SessionExpiry, 0), d.ReasonString, d.UserProps)
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		q := k.Content.(*paho.Disconnect)
		r := q.Properties
		return got, fmt.Sprintf("%d %v %d %q %q", q.ReasonCode, r.SessionExpiryInterval != nil, or(r.SessionExpiryInterval, 0), r.ReasonString, ofPaho(r.User)), nil
	}
	return "", "", nil
}
