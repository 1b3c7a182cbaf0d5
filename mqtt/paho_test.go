package mqtt_test

import (
	"bytes"
	"fmt"
	"testing"

	paho "github.com/eclipse/paho.golang/packets"

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
	f.Add(byte(0x32), []byte("\x00\x03a/b\x00\x07\x00hello"))
	f.Add(byte(0x3b), []byte("\x00\x01a\x00\x01\x09\x26\x00\x01k\x00\x01v\x01\x01x"))
	f.Add(byte(0x40), []byte("\x00\x01\x97\x04\x1f\x00\x01x"))
	f.Add(byte(0x62), []byte("\x00\x01\x92"))
	f.Add(byte(0x82), []byte("\x00\x01\x02\x0b\x07\x00\x01a\x2d"))
	f.Add(byte(0xa2), []byte("\x00\x01\x00\x00\x01a\x00\x02b/"))
	f.Add(byte(0xe0), []byte("\x04\x05\x11\x00\x00\x00\x09"))
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
		got = fmt.Sprintf("%q %v %d %q %q %v", c.ClientID, c.CleanStart, c.KeepAlive, c.Username, c.Password, c.Will != nil)
		if c.Will != nil {
			got += fmt.Sprintf(" %q %q %d %v", c.Will.Topic, c.Will.Payload, c.Will.QoS, c.Will.Retain)
		}
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		q := k.Content.(*paho.Connect)
		want = fmt.Sprintf("%q %v %d %q %q %v", q.ClientID, q.CleanStart, q.KeepAlive, q.Username, q.Password, q.WillFlag)
		if q.WillFlag {
			want += fmt.Sprintf(" %q %q %d %v", q.WillTopic, q.WillMessage, q.WillQOS, q.WillRetain)
		}
		return got, want, nil
	case mqtt.PUBLISH:
		if p.Decode(first, body, mqtt.V5) != nil {
			return "", "", nil
		}
		got = fmt.Sprintf("%q %q %d %d %v %v %q %q %q", p.Topic, p.Payload, p.QoS, p.ID, p.Dup, p.Retain, p.Props.ContentType, p.Props.ResponseTopic, p.Props.Correlation)
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		q := k.Content.(*paho.Publish)
		return got, fmt.Sprintf("%q %q %d %d %v %v %q %q %q", q.Topic, q.Payload, q.QoS, q.PacketID, q.Duplicate, q.Retain,
			q.Properties.ContentType, q.Properties.ResponseTopic, q.Properties.CorrelationData), nil
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
		got = fmt.Sprint(s.ID)
		for _, f := range s.Filters {
			got += fmt.Sprintf(" %q %d %d %v %v", f.Filter, f.QoS, f.RetainHandling, f.NoLocal, f.RetainAsPublished)
		}
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		q := k.Content.(*paho.Subscribe)
		want = fmt.Sprint(q.PacketID)
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
		got = fmt.Sprint(byte(d.Reason), d.SessionExpiry != nil)
		k, err := pahoReads(first, body)
		if err != nil {
			return got, "", err
		}
		q := k.Content.(*paho.Disconnect)
		return got, fmt.Sprint(q.ReasonCode, q.Properties.SessionExpiryInterval != nil), nil
	}
	return "", "", nil
}
