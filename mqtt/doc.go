// Package mqtt is the protocol as values: packets, topic filters, the
// subscription index, and a session's two windows. It holds no socket, clock or
// goroutine.
//
// [Frame] cuts packets off a stream. [Publish] and [Ack], nearly all of the
// traffic, are decoded in place by our own code; the control packets are encoded
// and decoded by mochi's packets behind one guard (guard.go), which lets no panic
// and no oversized length through.
package mqtt

// Version is a protocol level.
type Version byte

// The protocol levels: MQTT 3.1 (MQIsdp), 3.1.1 and 5.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// Type is a control packet type [MQTT 2.1.2].
type Type byte

// The packet types.
const (
	CONNECT Type = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

var typeNames = [...]string{"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

// String returns the type's name in the specification.
func (t Type) String() string { return typeNames[t&15] }

// NeverExpires is the Session Expiry of a session that does not end
// [MQTT-3.1.2.11.2].
const NeverExpires = 0xFFFFFFFF
