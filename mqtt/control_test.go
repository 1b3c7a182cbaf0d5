package mqtt_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/geocast/geocast/mqtt"
)

const (
	three = "\x00\x06MQIsdp\x03"
	four  = "\x00\x04MQTT\x04"
	five  = "\x00\x04MQTT\x05"
)

func TestCONNECTOfEachLevel(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       mqtt.Connect
	}{
		{"3.1", three + "\x02\x00\x3c\x00\x01a", mqtt.Connect{Version: mqtt.V31, ClientID: "a", CleanStart: true, KeepAlive: 60}},
		{"3.1.1 that lasts", four + "\x00\xff\xff\x00\x01a", mqtt.Connect{Version: mqtt.V311, ClientID: "a", KeepAlive: 65535, SessionExpiry: mqtt.NeverExpires}},
		{"3.1.1 with a user and a will", four + "\xee\x00\x00\x00\x00\x00\x01w\x00\x02hi\x00\x01u\x00\x01p",
			mqtt.Connect{Version: mqtt.V311, CleanStart: true, Username: "u", Password: []byte("p"), Will: &mqtt.Will{Topic: "w", Payload: []byte("hi"), QoS: 1, Retain: true}}},
		{"5", five + "\x02\x00\x0a\x05\x11\x00\x00\x00\x09\x00\x01a", mqtt.Connect{Version: mqtt.V5, ClientID: "a", CleanStart: true, KeepAlive: 10, SessionExpiry: 9}},
		{"5 with a password alone", five + "\x42\x00\x0a\x00\x00\x01a\x00\x01p", mqtt.Connect{Version: mqtt.V5, ClientID: "a", CleanStart: true, KeepAlive: 10, Password: []byte("p")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := mqtt.DecodeConnect([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			show := func(c *mqtt.Connect) string {
				s := fmt.Sprint(c.Version, c.ClientID, c.CleanStart, c.KeepAlive, c.SessionExpiry, c.Username, string(c.Password))
				if w := c.Will; w != nil {
					s += fmt.Sprint(w.Topic, string(w.Payload), w.QoS, w.Retain)
				}
				return s
			}
			if show(got) != show(&c.want) {
				t.Errorf("got %s, want %s", show(got), show(&c.want))
			}
		})
	}
}

// What level 3 and 4 have in common begins behind the level: a row's body is read at both,
// and one of 5 is given whole.
func TestMalformedCONNECT(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       mqtt.Reason
	}{
		{"nothing", "", mqtt.MalformedPacket},
		{"another protocol [MQTT-3.1.2-1]", "\x00\x04HTTP\x04\x02\x00\x00\x00\x01a", mqtt.ProtocolError},
		{"the protocol name in lower case [MQTT-3.1.2-1]", "\x00\x04mqtt\x04\x02\x00\x00\x00\x01a", mqtt.ProtocolError},
		{"the protocol name is cut short", "\x00\x06MQ", mqtt.MalformedPacket},
		{"level 6 [MQTT-3.1.2-2]", "\x00\x04MQTT\x06\x02\x00\x00\x00\x01a", mqtt.UnsupportedProtocolVersion},
		{"level 3 with the name of 4", "\x00\x04MQTT\x03\x02\x00\x00\x00\x01a", mqtt.UnsupportedProtocolVersion},
		{"level 4 with the name of 3", "\x00\x06MQIsdp\x04\x02\x00\x00\x00\x01a", mqtt.UnsupportedProtocolVersion},
		{"level 4 as a bridge says it", "\x00\x04MQTT\x84\x02\x00\x00\x00\x01a", mqtt.UnsupportedProtocolVersion},
		{"5: no properties", five + "\x02\x00\x00", mqtt.MalformedPacket},
		{"5: the property length is past the end", five + "\x02\x00\x00\x7f\x00\x01a", mqtt.MalformedPacket},
		{"5: the property length has five bytes", five + "\x02\x00\x00\xff\xff\xff\xff\x01\x00\x01a", mqtt.MalformedPacket},
		{"5: a property of another packet", five + "\x02\x00\x00\x02\x24\x01\x00\x01a", mqtt.MalformedPacket},
		{"5: a property twice", five + "\x02\x00\x00\x0a\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01\x00\x01a", mqtt.ProtocolError},
		{"5: Receive Maximum 0", five + "\x02\x00\x00\x03\x21\x00\x00\x00\x01a", mqtt.ProtocolError},
		{"5: Maximum Packet Size 0", five + "\x02\x00\x00\x05\x27\x00\x00\x00\x00\x00\x01a", mqtt.ProtocolError},
		{"5: Request Problem Information 2", five + "\x02\x00\x00\x02\x17\x02\x00\x01a", mqtt.ProtocolError},
		{"5: authentication data without a method", five + "\x02\x00\x00\x04\x16\x00\x01x\x00\x01a", mqtt.ProtocolError},
		{"5: the will's properties are missing", five + "\x06\x00\x00\x00\x00\x01a", mqtt.MalformedPacket},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := mqtt.DecodeConnect([]byte(c.body))
			wantReason(t, err, c.want)
		})
	}
	for _, c := range []struct {
		name, rest string // behind the level
		want       mqtt.Reason
	}{
		{"the connect flags are missing", "", mqtt.MalformedPacket},
		{"the reserved flag [MQTT-3.1.2-3]", "\x03\x00\x00\x00\x01a", mqtt.MalformedPacket},
		{"will QoS 3 [MQTT-3.1.2-14]", "\x1e\x00\x00\x00\x01a\x00\x01w\x00\x00", mqtt.MalformedPacket},
		{"will QoS without a will [MQTT-3.1.2-13]", "\x0a\x00\x00\x00\x01a", mqtt.MalformedPacket},
		{"will retain without a will [MQTT-3.1.2-15]", "\x22\x00\x00\x00\x01a", mqtt.MalformedPacket},
		{"a password without a user name [MQTT-3.1.2-22]", "\x42\x00\x00\x00\x01a\x00\x01p", mqtt.MalformedPacket},
		{"the keep alive is missing", "\x02\x00", mqtt.MalformedPacket},
		{"the client id is missing [MQTT-3.1.3-3]", "\x02\x00\x00", mqtt.MalformedPacket},
		{"the client id is cut short", "\x02\x00\x00\x00\x05a", mqtt.MalformedPacket},
		{"the client id is not UTF-8 [MQTT-1.5.3-1]", "\x02\x00\x00\x00\x01\xff", mqtt.MalformedPacket},
		{"the client id has a surrogate [MQTT-1.5.3-1]", "\x02\x00\x00\x00\x03\xed\xa0\x80", mqtt.MalformedPacket},
		{"the client id has U+0000 [MQTT-1.5.3-2]", "\x02\x00\x00\x00\x01\x00", mqtt.MalformedPacket},
		{"the will is missing [MQTT-3.1.2-9]", "\x06\x00\x00\x00\x01a", mqtt.MalformedPacket},
		{"the will's message is missing [MQTT-3.1.2-9]", "\x06\x00\x00\x00\x01a\x00\x01w", mqtt.MalformedPacket},
		{"the will's message is cut short", "\x06\x00\x00\x00\x01a\x00\x01w\x00\x05x", mqtt.MalformedPacket},
		{"the will's topic is not UTF-8 [MQTT-3.1.3-10]", "\x06\x00\x00\x00\x01a\x00\x01\xff\x00\x00", mqtt.MalformedPacket},
		{"the will's topic has a wildcard [MQTT-3.3.2-2]", "\x06\x00\x00\x00\x01a\x00\x01#\x00\x00", mqtt.TopicNameInvalid},
		{"the will's topic is empty [MQTT-4.7.3-1]", "\x06\x00\x00\x00\x01a\x00\x00\x00\x00", mqtt.TopicNameInvalid},
		{"the user name is missing [MQTT-3.1.2-19]", "\x82\x00\x00\x00\x01a", mqtt.MalformedPacket},
		{"the user name is not UTF-8 [MQTT-3.1.3-11]", "\x82\x00\x00\x00\x01a\x00\x01\xff", mqtt.MalformedPacket},
		{"the password is missing [MQTT-3.1.2-21]", "\xc2\x00\x00\x00\x01a\x00\x01u", mqtt.MalformedPacket},
		{"the password is cut short", "\xc2\x00\x00\x00\x01a\x00\x01u\x00\x05p", mqtt.MalformedPacket},
		{"a user name that no flag announces [MQTT-3.1.2-18]", "\x02\x00\x00\x00\x01a\x00\x01u", mqtt.MalformedPacket},
		{"bytes behind the end", "\x02\x00\x00\x00\x01ax", mqtt.MalformedPacket},
	} {
		for level, head := range map[int]string{3: three, 4: four} {
			t.Run(fmt.Sprint("level ", level, ": ", c.name), func(t *testing.T) {
				_, err := mqtt.DecodeConnect([]byte(head + c.rest))
				wantReason(t, err, c.want)
			})
		}
	}
}

func wantReason(t *testing.T, err error, want mqtt.Reason) {
	t.Helper()
	var e *mqtt.Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func TestMalformedControlPackets(t *testing.T) {
	sub := func(first byte, body string, v mqtt.Version) error {
		_, err := mqtt.DecodeSubscribe(first, []byte(body), v)
		return err
	}
	unsub := func(first byte, body string, v mqtt.Version) error {
		_, err := mqtt.DecodeUnsubscribe(first, []byte(body), v)
		return err
	}
	disc := func(first byte, body string, v mqtt.Version) error {
		_, err := mqtt.DecodeDisconnect(first, []byte(body), v)
		return err
	}
	ack := func(first byte, body string, v mqtt.Version) error {
		var a mqtt.Ack
		return a.Decode(first, []byte(body), v)
	}
	all := []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}
	old, new := all[:2], all[2:]
	for _, c := range []struct {
		name   string
		decode func(byte, string, mqtt.Version) error
		first  byte
		body   string
		levels []mqtt.Version
		want   mqtt.Reason
	}{
		{"SUBSCRIBE with the wrong flags [MQTT-3.8.1-1]", sub, 0x80, "\x00\x01\x00\x01a\x00", old, mqtt.MalformedPacket},
		{"SUBSCRIBE that is empty", sub, 0x82, "", all, mqtt.MalformedPacket},
		{"SUBSCRIBE with identifier 0 [MQTT-2.3.1-1]", sub, 0x82, "\x00\x00\x00\x01a\x00", old, mqtt.ProtocolError},
		{"SUBSCRIBE without a filter [MQTT-3.8.3-3]", sub, 0x82, "\x00\x01", old, mqtt.ProtocolError},
		{"SUBSCRIBE without a filter, 5", sub, 0x82, "\x00\x01\x00", new, mqtt.ProtocolError},
		{"SUBSCRIBE with a filter that is not UTF-8 [MQTT-3.8.3-1]", sub, 0x82, "\x00\x01\x00\x01\xff\x00", old, mqtt.MalformedPacket},
		{"SUBSCRIBE with a filter that is cut short", sub, 0x82, "\x00\x01\x00\x05a", old, mqtt.MalformedPacket},
		{"SUBSCRIBE without the QoS", sub, 0x82, "\x00\x01\x00\x01a", old, mqtt.MalformedPacket},
		{"SUBSCRIBE at QoS 3 [MQTT-3.8.3-4]", sub, 0x82, "\x00\x01\x00\x01a\x03", old, mqtt.ProtocolError},
		{"SUBSCRIBE with options of 5 at level 4 [MQTT-3-8.3-4]", sub, 0x82, "\x00\x01\x00\x01a\x05", old, mqtt.MalformedPacket},
		{"SUBSCRIBE with reserved options [MQTT-3.8.3-5]", sub, 0x82, "\x00\x01\x00\x00\x01a\xc0", new, mqtt.MalformedPacket},
		{"SUBSCRIBE with Retain Handling 3 [MQTT-3.8.3-5]", sub, 0x82, "\x00\x01\x00\x00\x01a\x30", new, mqtt.MalformedPacket},
		{"SUBSCRIBE with subscription identifier 0", sub, 0x82, "\x00\x01\x02\x0b\x00\x00\x01a\x00", new, mqtt.ProtocolError},
		{"SUBSCRIBE with two identifiers", sub, 0x82, "\x00\x01\x04\x0b\x01\x0b\x02\x00\x01a\x00", new, mqtt.ProtocolError},
		{"SUBSCRIBE with a property that is cut short", sub, 0x82, "\x00\x01\x01\x26\x00\x00\x00\x00\x00\x00\x20", new, mqtt.MalformedPacket},
		{"UNSUBSCRIBE with the wrong flags [MQTT-3.10.1-1]", unsub, 0xa0, "\x00\x01\x00\x01a", old, mqtt.MalformedPacket},
		{"UNSUBSCRIBE without a filter [MQTT-3.10.3-2]", unsub, 0xa2, "\x00\x01", old, mqtt.ProtocolError},
		{"UNSUBSCRIBE with identifier 0", unsub, 0xa2, "\x00\x00\x00\x01a", old, mqtt.ProtocolError},
		{"UNSUBSCRIBE with a filter that is not UTF-8 [MQTT-3.10.3-1]", unsub, 0xa2, "\x00\x01\x00\x01\xff", old, mqtt.MalformedPacket},
		{"UNSUBSCRIBE that is empty", unsub, 0xa2, "", all, mqtt.MalformedPacket},
		{"UNSUBSCRIBE that is cut short", unsub, 0xa2, "\x00\x01\x00\x09a", old, mqtt.MalformedPacket},
		{"UNSUBSCRIBE with another packet's property", unsub, 0xa2, "\x00\x01\x02\x0b\x01\x00\x01a", new, mqtt.MalformedPacket},
		{"DISCONNECT with flags [MQTT-3.14.1-1]", disc, 0xe1, "", all, mqtt.MalformedPacket},
		{"DISCONNECT with a body at level 4", disc, 0xe0, "\x00", old, mqtt.MalformedPacket},
		{"DISCONNECT with an unknown reason", disc, 0xe0, "\x30", new, mqtt.ProtocolError},
		{"DISCONNECT with a wrong property length", disc, 0xe0, "\x00\x05\x11", new, mqtt.MalformedPacket},
		{"PUBACK with flags", ack, 0x41, "\x00\x01", all, mqtt.MalformedPacket},
		{"PUBREL without its flags [MQTT-3.6.1-1]", ack, 0x60, "\x00\x01", all, mqtt.MalformedPacket},
		{"PUBACK with identifier 0", ack, 0x40, "\x00\x00", all, mqtt.ProtocolError},
		{"PUBACK that is cut short", ack, 0x40, "\x00", all, mqtt.MalformedPacket},
		{"PUBACK that is too long at level 4", ack, 0x40, "\x00\x01\x00", old, mqtt.MalformedPacket},
		{"PUBREC with flags [MQTT-2.2.2-2]", ack, 0x52, "\x00\x01", all, mqtt.MalformedPacket},
		{"PUBCOMP with flags [MQTT-2.2.2-2]", ack, 0x72, "\x00\x01", all, mqtt.MalformedPacket},
		{"PUBREL with identifier 0", ack, 0x62, "\x00\x00", all, mqtt.ProtocolError},
		{"PUBREL that is too long at level 4", ack, 0x62, "\x00\x01\x00", old, mqtt.MalformedPacket},
		{"PUBACK with an unknown reason", ack, 0x40, "\x00\x01\x42", new, mqtt.ProtocolError},
		{"PUBREL with a reason of PUBACK", ack, 0x62, "\x00\x01\x97", new, mqtt.ProtocolError},
	} {
		for _, v := range c.levels {
			t.Run(fmt.Sprint(c.name, ", level ", v), func(t *testing.T) {
				wantReason(t, c.decode(c.first, c.body, v), c.want)
			})
		}
	}
}

// What a CONNACK says is read as it was written, and what it leaves out is left out.
func TestCONNACKIsReadAsItWasWritten(t *testing.T) {
	yes, no, one, hour, minute := true, false, byte(1), uint32(3600), uint16(60)
	for _, want := range []*mqtt.Connack{
		{},
		{SessionPresent: true, SessionExpiry: &hour, ReceiveMaximum: 20, MaximumQoS: &one, RetainAvailable: &no, MaximumPacketSize: 1000, AssignedClientID: "c",
			TopicAliasMaximum: 16, ReasonString: "because", UserProps: []mqtt.UserProp{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}},
			WildcardAvailable: &yes, SubIDAvailable: &no, SharedAvailable: &yes, ServerKeepAlive: &minute, ResponseInfo: "r"},
		{Reason: mqtt.NotAuthorized, RetainAvailable: &yes, WildcardAvailable: &no, SubIDAvailable: &yes, SharedAvailable: &no},
	} {
		_, body, _, err := mqtt.Frame(mqtt.AppendConnack(nil, want, mqtt.V5), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := mqtt.DecodeConnack(body, mqtt.V5); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}
