package mqtt_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/geocast/geocast/mqtt"
)

func TestMalformedPublish(t *testing.T) {
	old, five := []mqtt.Version{mqtt.V31, mqtt.V311}, []mqtt.Version{mqtt.V5}
	for _, c := range []struct {
		name  string
		first byte
		body  string
		level []mqtt.Version
		want  mqtt.Reason
	}{
		{"QoS 3 [MQTT-3.3.1-4]", 0x36, "\x00\x01a\x00\x01", old, mqtt.MalformedPacket},
		{"DUP at QoS 0 [MQTT-3.3.1-2]", 0x38, "\x00\x01a", old, mqtt.MalformedPacket},
		{"topic cut short", 0x30, "\x00\x05a", old, mqtt.MalformedPacket},
		{"topic not UTF-8 [MQTT-1.5.4-1]", 0x30, "\x00\x01\xff", old, mqtt.MalformedPacket},
		{"topic with U+0000 [MQTT-1.5.4-2]", 0x30, "\x00\x01\x00", old, mqtt.MalformedPacket},
		{"wildcard in the topic [MQTT-3.3.2-2]", 0x30, "\x00\x01#", old, mqtt.TopicNameInvalid},
		{"empty topic in 3.1.1", 0x30, "\x00\x00", old, mqtt.ProtocolError},
		{"identifier 0 [MQTT-2.2.1-3]", 0x32, "\x00\x01a\x00\x00", old, mqtt.ProtocolError},
		{"nothing", 0x30, "", old, mqtt.MalformedPacket},
		{"topic with a surrogate [MQTT-1.5.3-1]", 0x30, "\x00\x03\xed\xa0\x80", old, mqtt.MalformedPacket},
		{"another wildcard in the topic [MQTT-3.3.2-2]", 0x30, "\x00\x03a/+", old, mqtt.TopicNameInvalid},
		{"identifier 0 at QoS 2 [MQTT-2.3.1-1]", 0x34, "\x00\x01a\x00\x00", old, mqtt.ProtocolError},
		{"no identifier at all", 0x32, "\x00\x01a", old, mqtt.MalformedPacket},
		{"identifier missing", 0x32, "\x00\x01a\x01", old, mqtt.MalformedPacket},
		{"property length past the end", 0x30, "\x00\x01a\x7f", five, mqtt.MalformedPacket},
		{"property twice", 0x30, "\x00\x01a\x04\x01\x00\x01\x00", five, mqtt.ProtocolError},
		{"property of another packet", 0x30, "\x00\x01a\x05\x11\x00\x00\x00\x01", five, mqtt.MalformedPacket},
		{"topic alias 0 [MQTT-3.3.2-8]", 0x30, "\x00\x01a\x03\x23\x00\x00", five, mqtt.TopicAliasInvalid},
		{"response topic with a wildcard [MQTT-3.3.2-14]", 0x30, "\x00\x01a\x04\x08\x00\x01+", five, mqtt.ProtocolError},
	} {
		for _, v := range c.level {
			t.Run(fmt.Sprint(c.name, ", level ", v), func(t *testing.T) {
				var p mqtt.Publish
				wantReason(t, p.Decode(c.first, []byte(c.body), v), c.want)
			})
		}
	}
}

func TestUserPropertiesKeepTheirOrderWhereverTheyStand(t *testing.T) {
	user := func(k string) string { return "\x26\x00\x01" + k + "\x00\x01v" }
	for _, c := range []struct{ name, props, want string }{
		{"together", user("a") + user("b"), user("a") + user("b")},
		{"apart", user("a") + "\x01\x01" + user("b") + user("c"), user("a") + user("b") + user("c")},
		{"apart twice", user("a") + "\x01\x01" + user("b") + "\x02\x00\x00\x00\x09" + user("c"), user("a") + user("b") + user("c")},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := []byte("\x00\x01t" + string([]byte{byte(len(c.props))}) + c.props)
			was := bytes.Clone(body)
			var p mqtt.Publish
			if err := p.Decode(0x30, body, mqtt.V5); err != nil {
				t.Fatal(err)
			}
			if string(p.Props.User) != c.want {
				t.Errorf("got %q, want %q", p.Props.User, c.want)
			}
			if !bytes.Equal(body, was) {
				t.Error("the buffer was written to")
			}
		})
	}
}

// The stored form is on disk for years: these bytes must decode for ever.
func TestStoredMessageGolden(t *testing.T) {
	m := &mqtt.Message{Topic: "a/b", Payload: []byte("hi"), QoS: 1, Retain: true, Format: 1, HasFormat: true, Expires: 1790000000123,
		ContentType: "text/plain", ResponseTopic: "r", Correlation: []byte{1, 2}, User: []byte("\x26\x00\x01k\x00\x01v")}
	const golden = "6d013d000001a0c4506c7b03612f620268690a746578742f706c61696e0172020102072600016b000176"
	got := hex.EncodeToString(m.Append(nil))
	back, rest, err := mqtt.DecodeMessage(m.Append(nil))
	if err != nil || len(rest) != 0 {
		t.Fatalf("%v, rest %x", err, rest)
	}
	if again := hex.EncodeToString(back.Append(nil)); again != got {
		t.Errorf("round trip: %s, then %s", got, again)
	}
	if got != golden {
		t.Errorf("got  %s\nwant %s", got, golden)
	}
}

func TestExpiryIsCountedDown(t *testing.T) {
	m := &mqtt.Message{Topic: "t", Expires: 10_000}
	for _, c := range []struct {
		now  int64
		want uint32
	}{{0, 10}, {500, 10}, {9_000, 1}, {9_999, 1}, {10_000, 0}} {
		b := mqtt.AppendDelivery(nil, m, mqtt.Delivery{Now: c.now}, mqtt.V5)
		first, body, _, err := mqtt.Frame(b, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var p mqtt.Publish
		if err := p.Decode(first, body, mqtt.V5); err != nil || p.Props.Expiry != c.want {
			t.Errorf("at %d: %d, %v; want %d", c.now, p.Props.Expiry, err, c.want)
		}
	}
}

// [MQTT-3.3.1-2]: DUP is of QoS 1 and 2 only.
func TestDUPIsNeverSetAtQoS0(t *testing.T) {
	for qos, want := range []byte{0x30, 0x3a, 0x3c} {
		b := mqtt.AppendDelivery(nil, &mqtt.Message{Topic: "t"}, mqtt.Delivery{QoS: byte(qos), ID: 1, Dup: true}, mqtt.V311)
		if b[0] != want {
			t.Errorf("QoS %d: the first byte is %#x, want %#x", qos, b[0], want)
		}
	}
}

// FuzzPublish compares our decoder with mochi's: what we take, it must take, with
// the same result; and what we take must encode to itself.
func FuzzPublish(f *testing.F) {
	f.Add(byte(0x32), []byte("\x00\x03a/b\x00\x07hello"), false)
	f.Add(byte(0x3b), []byte("\x00\x01a\x00\x01\x09\x26\x00\x01k\x00\x01v\x01\x01x"), true)
	f.Fuzz(func(t *testing.T, flags byte, body []byte, five bool) {
		first := 0x30 | flags&15
		v := mqtt.V311
		if five {
			v = mqtt.V5
		}
		var p mqtt.Publish
		if p.Decode(first, body, v) != nil {
			return
		}
		k := packets.Packet{ProtocolVersion: byte(v), FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: p.QoS, Dup: p.Dup, Retain: p.Retain, Remaining: len(body)}}
		if err := k.PublishDecode(bytes.Clone(body)); err != nil {
			t.Fatalf("mochi refuses %x: %v", body, err)
		}
		if k.TopicName != string(p.Topic) || !bytes.Equal(k.Payload, p.Payload) || k.PacketID != p.ID {
			t.Fatalf("mochi reads %q %q %d, we %q %q %d", k.TopicName, k.Payload, k.PacketID, p.Topic, p.Payload, p.ID)
		}
		out := mqtt.AppendPublish(nil, &p, v)
		first2, body2, n, err := mqtt.Frame(out, 1<<28)
		var q mqtt.Publish
		if err != nil || n != len(out) || q.Decode(first2, body2, v) != nil || string(q.Topic) != string(p.Topic) || !bytes.Equal(q.Payload, p.Payload) || !bytes.Equal(q.Props.User, p.Props.User) {
			t.Fatalf("does not encode to itself: %x", out)
		}
	})
}

// FuzzAck compares our decoder of acknowledgements with mochi's, as FuzzPublish does.
func FuzzAck(f *testing.F) {
	f.Add(byte(0x40), []byte("\x00\x07"), false)
	f.Add(byte(0x50), []byte("\x00\x01\x97\x04\x1f\x00\x01x"), true)
	f.Add(byte(0x62), []byte("\x00\x01\x92"), true)
	f.Add(byte(0x70), []byte("\x00\x01\x92\x07\x26\x00\x01k\x00\x01v"), true)
	f.Fuzz(func(t *testing.T, first byte, body []byte, five bool) {
		v := mqtt.V311
		if five {
			v = mqtt.V5
		}
		var a, b mqtt.Ack
		if a.Decode(first, body, v) != nil {
			return
		}
		k := packets.Packet{ProtocolVersion: byte(v), FixedHeader: packets.FixedHeader{Type: first >> 4, Qos: first >> 1 & 3, Remaining: len(body)}}
		decode := map[mqtt.Type]func([]byte) error{mqtt.PUBACK: k.PubackDecode, mqtt.PUBREC: k.PubrecDecode, mqtt.PUBREL: k.PubrelDecode, mqtt.PUBCOMP: k.PubcompDecode}
		if err := decode[a.Type](bytes.Clone(body)); err != nil {
			t.Fatalf("mochi refuses %x %x: %v", first, body, err)
		}
		if k.PacketID != a.ID || k.ReasonCode != byte(a.Reason) || k.Properties.ReasonString != a.ReasonString {
			t.Fatalf("of %x %x mochi reads %d %d %q, we %+v", first, body, k.PacketID, k.ReasonCode, k.Properties.ReasonString, a)
		}
		out := mqtt.AppendAck(nil, a, v)
		first2, body2, n, err := mqtt.Frame(out, 1<<20)
		if err != nil || n != len(out) || b.Decode(first2, body2, v) != nil || a != b {
			t.Fatalf("%+v does not encode to itself: %x", a, out)
		}
	})
}

// FuzzControl: no bytes make a control packet's decoder panic, whatever mochi's
// does with them.
func FuzzControl(f *testing.F) {
	f.Add(byte(0x82), []byte("\x00\x01\x00\x00\x01a\x00"))
	f.Add(byte(0x10), []byte("\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a"))
	f.Add(byte(0x82), []byte("\x00\x01\x00\x00\x05a")) // kills mochi
	f.Fuzz(func(t *testing.T, first byte, body []byte) {
		was := bytes.Clone(body)
		for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
			_, _ = mqtt.DecodeSubscribe(first, body, v)
			_, _ = mqtt.DecodeUnsubscribe(first, body, v)
			_, _ = mqtt.DecodeDisconnect(first, body, v)
			_, _ = mqtt.DecodeConnack(body, v)
			_, _ = mqtt.DecodeSuback(body, v)
			_, _ = mqtt.DecodeUnsuback(body, v)
			var a mqtt.Ack
			_ = a.Decode(first, body, v)
		}
		_, _ = mqtt.DecodeConnect(body)
		_, _, _ = mqtt.DecodeMessage(body)
		_, _, n, err := mqtt.Frame(body, 1<<20)
		if err == nil && n > len(body) {
			t.Fatalf("a frame of %d bytes in %d", n, len(body))
		}
		if !bytes.Equal(was, body) {
			t.Fatal("a decoder wrote to its input")
		}
	})
}
