package mqtt

import "encoding/binary"

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP for the Packet Identifier ID. User properties in one are checked
// and skipped.
type Ack struct {
	Type Type
	ID   uint16
	// Reason is always Success in 3.x.
	Reason       Reason
	ReasonString string
}

// Decode reads an acknowledgement. It fails with an *Error.
func (a *Ack) Decode(first byte, body []byte, v Version) error {
	*a = Ack{Type: Type(first >> 4)}
	want := byte(0)
	if a.Type == PUBREL {
		want = 2 // [MQTT-3.6.1-1]
	}
	if a.Type < PUBACK || a.Type > PUBCOMP || first&15 != want {
		return malformed("MQTT-2.1.3-1", "the flags of an acknowledgement are wrong")
	}
	if len(body) < 2 || v != V5 && len(body) != 2 {
		return malformed("MQTT-3.4", "an acknowledgement has the wrong length")
	}
	if a.ID = binary.BigEndian.Uint16(body); a.ID == 0 {
		return protocolError("MQTT-2.2.1", "the packet identifier is 0")
	}
	if len(body) > 2 {
		a.Reason = Reason(body[2])
		if !a.known() {
			return protocolError("MQTT-3.4.2-1", "an unknown reason code")
		}
	}
	if len(body) > 3 {
		return a.properties(body[3:])
	}
	return nil
}

func (a *Ack) known() bool {
	if a.Type == PUBREL || a.Type == PUBCOMP {
		return a.Reason == Success || a.Reason == PacketIdentifierNotFound
	}
	switch a.Reason {
	case Success, NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized,
		TopicNameInvalid, PacketIdentifierInUse, QuotaExceeded, PayloadFormatInvalid:
		return true
	}
	return false
}

func (a *Ack) properties(b []byte) error {
	n, b, ok := cutLength(b)
	if !ok || n != len(b) {
		return malformed("MQTT-2.2.2-1", "the property length is wrong")
	}
	had := false
	for len(b) > 0 {
		id := b[0]
		var s []byte
		s, b, ok = cutString(b[1:])
		switch {
		case id == propReasonString && !had:
			a.ReasonString, had = string(s), true
		case id == propUser && ok:
			_, b, ok = cutString(b)
		default:
			return protocolError("MQTT-3.4.2.2", "a property is twice or not of an acknowledgement")
		}
		if !ok {
			return malformed("MQTT-3.4.2.2", "a property is cut short or is not UTF-8")
		}
	}
	return nil
}

// AppendAck appends a as a packet.
func AppendAck(dst []byte, a Ack, v Version) []byte {
	first := byte(a.Type) << 4
	if a.Type == PUBREL {
		first |= 2
	}
	if v != V5 || a.Reason == Success && a.ReasonString == "" {
		return binary.BigEndian.AppendUint16(append(dst, first, 2), a.ID)
	}
	if a.ReasonString == "" {
		return append(binary.BigEndian.AppendUint16(append(dst, first, 3), a.ID), byte(a.Reason))
	}
	props := 3 + len(a.ReasonString)
	dst = appendLength(append(dst, first), 3+lengthSize(props)+props)
	dst = append(binary.BigEndian.AppendUint16(dst, a.ID), byte(a.Reason))
	return appendBytes(append(appendLength(dst, props), propReasonString), a.ReasonString)
}
