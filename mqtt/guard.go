package mqtt

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"
)

// decodeControl lets mochi's packets decode a control packet. No panic comes
// through (its SUBSCRIBE decoder panics on a truncated one), and every failure is
// an *Error.
func decodeControl(t Type, first byte, body []byte, v Version, decode func(*packets.Packet, []byte) error) (p *packets.Packet, err error) {
	want := byte(0)
	if t == SUBSCRIBE || t == UNSUBSCRIBE {
		want = 2 // [MQTT-3.8.1-1], [MQTT-3.10.1-1]
	}
	if first&15 != want {
		return nil, malformed("MQTT-2.1.3-1", t.String()+" has wrong flags")
	}
	p = &packets.Packet{ProtocolVersion: byte(v)}
	p.FixedHeader.Type, p.FixedHeader.Remaining = byte(t), len(body)
	p.FixedHeader.Qos = want >> 1
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, malformed("MQTT-1.2.2", t.String()+" is cut short")
		}
	}()
	// The decoder keeps slices of its input, which the reader goes on using. Its strings
	// are such, too: whatever outlives the packet must be copied.
	if err := decode(p, bytes.Clone(body)); err != nil {
		return nil, fromMochi(t, err)
	}
	return p, nil
}

// fromMochi makes an *Error of what mochi's packets return.
func fromMochi(t Type, err error) error {
	var code packets.Code
	if !errors.As(err, &code) || code.Code < 0x80 {
		return malformed("MQTT-4.13", fmt.Sprintf("%v: %v", t, err))
	}
	return &Error{Reason(code.Code), "MQTT-4.13", fmt.Sprintf("%v: %s", t, code.Reason)}
}

// appendControl appends what mochi's packets encode.
func appendControl(dst []byte, p *packets.Packet, encode func(*packets.Packet, *bytes.Buffer) error) []byte {
	var b bytes.Buffer
	if err := encode(p, &b); err != nil {
		panic(fmt.Sprintf("mqtt: encoding packet type %d: %v", p.FixedHeader.Type, err)) // only our own values get here
	}
	return append(dst, b.Bytes()...)
}

func newControl(t Type, v Version) *packets.Packet {
	p := &packets.Packet{ProtocolVersion: byte(v), FixedHeader: packets.FixedHeader{Type: byte(t)}}
	p.Mods.AllowResponseInfo = true
	return p
}
