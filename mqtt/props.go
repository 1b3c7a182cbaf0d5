package mqtt

import "encoding/binary"

// propKind is how a property's value is encoded [MQTT-2.2.2.2].
type propKind byte

const (
	propByte propKind = iota + 1
	propUint16
	propUint32
	propVarint
	propString
	propBinary
	propPair
)

var propKinds = [...]propKind{
	0x01: propByte, 0x02: propUint32, 0x03: propString, 0x08: propString, 0x09: propBinary, 0x0B: propVarint,
	0x11: propUint32, 0x12: propString, 0x13: propUint16, 0x15: propString, 0x16: propBinary, 0x17: propByte,
	0x18: propUint32, 0x19: propByte, 0x1A: propString, 0x1C: propString, 0x1F: propString, 0x21: propUint16,
	0x22: propUint16, 0x23: propUint16, 0x24: propByte, 0x25: propByte, 0x26: propPair, 0x27: propUint32,
	0x28: propByte, 0x29: propByte, 0x2A: propByte,
}

// The properties of the control packets that a client sends, as sets of bits.
const (
	connectProps     = 1<<0x11 | 1<<0x15 | 1<<0x16 | 1<<0x17 | 1<<0x19 | 1<<0x21 | 1<<0x22 | 1<<0x26 | 1<<0x27
	willProps        = 1<<0x01 | 1<<0x02 | 1<<0x03 | 1<<0x08 | 1<<0x09 | 1<<0x18 | 1<<0x26
	subscribeProps   = 1<<0x0B | 1<<0x26
	unsubscribeProps = 1 << 0x26
	disconnectProps  = 1<<0x11 | 1<<0x1C | 1<<0x1F | 1<<0x26
)

// cutProps checks the properties at the head of b: their length, that each is
// whole, allowed in this packet, in range and there once, and returns what
// follows. Mochi's decoder reads past their end.
func cutProps(b []byte, allowed uint64) (rest []byte, err error) {
	n, b, ok := cutLength(b)
	if !ok || n > len(b) {
		return nil, malformed("MQTT-2.2.2-1", "the property length is wrong")
	}
	rest, b = b[n:], b[:n]
	for seen := uint64(0); len(b) > 0; {
		id := b[0]
		if int(id) >= len(propKinds) || allowed&(1<<id) == 0 {
			return nil, malformed("MQTT-2.2.2.2", "a property is unknown or not of this packet")
		}
		if seen&(1<<id) != 0 && id != propUser {
			return nil, protocolError("MQTT-2.2.2.2", "a property occurs twice")
		}
		seen |= 1 << id
		value := b[1:]
		if b, ok = cutProp(id, value); !ok {
			return nil, malformed("MQTT-2.2.2.2", "a property is cut short or is not UTF-8")
		}
		if !inRange(id, value) {
			return nil, protocolError("MQTT-2.2.2.2", "a property has a value that it must not have")
		}
	}
	return rest, nil
}

// cutProp cuts the value of a property off.
func cutProp(id byte, b []byte) (rest []byte, ok bool) {
	n := 0
	switch propKinds[id] {
	case propByte:
		n = 1
	case propUint16:
		n = 2
	case propUint32:
		n = 4
	case propVarint:
		_, rest, ok = cutLength(b)
	case propString:
		_, rest, ok = cutString(b)
	case propBinary:
		_, rest, ok = cutBytes(b)
	case propPair:
		if _, rest, ok = cutString(b); ok {
			_, rest, ok = cutString(rest)
		}
	}
	if n > 0 && len(b) >= n {
		return b[n:], true
	}
	return rest, ok
}

// inRange reports whether a whole property has a value that it may have: all
// bytes are 0 or 1, and two numbers are not 0 [MQTT-3.1.2.11.3, .4].
func inRange(id byte, v []byte) bool {
	switch {
	case propKinds[id] == propByte:
		return v[0] <= 1
	case id == 0x21:
		return binary.BigEndian.Uint16(v) != 0
	case id == 0x27:
		return binary.BigEndian.Uint32(v) != 0
	}
	return true
}
