package mqtt_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/geocast/geocast/mqtt"
)

// reason is that of a protocol error, Success for none.
func reason(err error) mqtt.Reason {
	if perr, ok := errors.AsType[*mqtt.Error](err); ok {
		return perr.Reason
	}
	return mqtt.Success
}

// A packet is cut off at its length, and refused as soon as that can be told.
func TestFrame(t *testing.T) {
	ten := "\x30\x08\x00\x01aPAYLO"
	for _, row := range []struct {
		name, in string
		most     int
		want     int // its whole length, 0 for one that has not come
		reason   mqtt.Reason
	}{
		{"nothing", "", 10, 0, 0},
		{"the first byte", ten[:1], 10, 0, 0},
		{"all but the last byte", ten[:9], 10, 0, 0},
		{"as large as it may be", ten, 10, 10, 0},
		{"with the next one behind it", ten + ten, 10, 10, 0},
		{"a byte larger", ten, 9, 0, mqtt.PacketTooLarge},
		{"a byte larger, told by its head", ten[:2], 9, 0, mqtt.PacketTooLarge},
		{"a length of two bytes", "\x30\x80\x01" + strings.Repeat("x", 128), 1000, 131, 0},
		{"half a length", "\x30\x80", 1000, 0, 0},
		{"the largest length there is", "\x30\xff\xff\xff\x7f", 1<<28 + 4, 0, 0},
		{"four bytes of length that want a fifth", "\x30\xff\xff\xff\xff", 1 << 28, 0, mqtt.MalformedPacket}, // [MQTT-1.5.5-1]
		{"five bytes of length", "\x30\x80\x80\x80\x80\x01", 1 << 28, 0, mqtt.MalformedPacket},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, body, n, err := mqtt.Frame([]byte(row.in), row.most)
			if n != row.want || reason(err) != row.reason || n > 0 && !strings.HasSuffix(row.in[:n], string(body)) {
				t.Errorf("got %d, %v, want %d, %v", n, err, row.want, row.reason)
			}
		})
	}
}

// [MQTT-1.5.5-1]: a length is told in as few bytes as it takes.
func TestALengthHasItsShortestForm(t *testing.T) {
	for body, want := range map[string]mqtt.Reason{
		"\x00\x01a\x00": mqtt.Success, "\x00\x01a\x80\x00": mqtt.MalformedPacket, "\x00\x01a\x80\x80\x80\x00": mqtt.MalformedPacket,
		"\x00\x01a\x80\x80\x80\x80\x00": mqtt.MalformedPacket,
	} {
		var p mqtt.Publish
		if err := p.Decode(0x30, []byte(body), mqtt.V5); reason(err) != want {
			t.Errorf("%q: %v, want %v", body, err, want)
		}
	}
}

// [MQTT-3.3.2-9], [MQTT-3.3.4-2]: an alias from 1 to the maximum is taken, and stands for the
// topic that it was last given on this connection, however that buffer is used later.
func TestAliasesOfAClient(t *testing.T) {
	a := mqtt.NewAliases(2)
	for _, row := range []struct {
		alias       uint16
		topic, want string
		reason      mqtt.Reason
	}{
		{0, "plain", "plain", 0},
		{2, "", "", mqtt.ProtocolError},
		{2, "two", "two", 0},
		{1, "one", "one", 0},
		{2, "", "two", 0},
		{3, "three", "three", mqtt.TopicAliasInvalid},
		{1, "uno", "uno", 0},
		{1, "", "uno", 0},
	} {
		topic := []byte(row.topic)
		p := mqtt.Publish{Topic: topic}
		p.Props.Alias = row.alias
		if err := a.Resolve(&p); reason(err) != row.reason || string(p.Topic) != row.want {
			t.Errorf("alias %d of %q: got %q, %v, want %q, %v", row.alias, row.topic, p.Topic, err, row.want, row.reason)
		}
		clear(topic)
	}
}
