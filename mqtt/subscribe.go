package mqtt

import (
	"github.com/mochi-mqtt/server/v2/packets"
	"strings"
)

// Subscription is one filter of a SUBSCRIBE with its options [MQTT-3.8.3.1].
type Subscription struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	// RetainHandling: 0 sends retained messages, 1 only for a new subscription,
	// 2 never.
	RetainHandling byte
}

// Subscribe is a SUBSCRIBE. ID is its Packet Identifier, never 0; SubID its
// subscription identifier, 0 for none.
type Subscribe struct {
	ID        uint16
	SubID     uint32
	Filters   []Subscription
	UserProps []UserProp
}

// DecodeSubscribe reads a SUBSCRIBE. It fails with an *Error; filters are not
// looked at.
func DecodeSubscribe(first byte, body []byte, v Version) (*Subscribe, error) {
	if err := checkFilters(body, v, subscribeProps, true); err != nil {
		return nil, err
	}
	p, err := decodeControl(SUBSCRIBE, first, body, v, (*packets.Packet).SubscribeDecode)
	if err != nil {
		return nil, err
	}
	if p.PacketID == 0 || len(p.Filters) == 0 {
		return nil, protocolError("MQTT-3.8.3-2", "SUBSCRIBE without a filter or an identifier")
	}
	s := &Subscribe{ID: p.PacketID, UserProps: userProps(p.Properties.User)}
	if ids := p.Properties.SubscriptionIdentifier; len(ids) > 0 {
		if len(ids) > 1 || ids[0] <= 0 {
			return nil, protocolError("MQTT-3.8.2.1.2", "a subscription identifier is 0 or there are two")
		}
		s.SubID = uint32(ids[0])
	}
	for _, f := range p.Filters {
		if f.Qos > 2 || f.RetainHandling > 2 {
			return nil, malformed("MQTT-3.8.3-5", "a subscription option is out of range")
		}
		s.Filters = append(s.Filters, Subscription{strings.Clone(f.Filter), f.Qos, f.NoLocal, f.RetainAsPublished, f.RetainHandling})
	}
	return s, nil
}

// checkFilters checks the properties and the list of filters after the packet
// identifier: that they are whole, and of a SUBSCRIBE the reserved bits of the
// options, which mochi's decoder ignores [MQTT-3.8.3-5].
func checkFilters(body []byte, v Version, allowed uint64, options bool) (err error) {
	if len(body) < 2 {
		return malformed("MQTT-2.2.1", "the packet identifier is missing")
	}
	b, reserved := body[2:], byte(0xFC)
	if v == V5 {
		reserved = 0xC0
		if b, err = cutProps(b, allowed); err != nil {
			return err
		}
	}
	for len(b) > 0 {
		_, rest, ok := cutString(b)
		if !ok || options && len(rest) == 0 {
			return malformed("MQTT-3.8.3-1", "a filter is cut short or is not UTF-8")
		}
		if b = rest; !options {
			continue
		}
		if rest[0]&reserved != 0 {
			return malformed("MQTT-3.8.3-5", "a reserved bit of the subscription options is set")
		}
		b = rest[1:]
	}
	return nil
}

// AppendSubscribe appends a SUBSCRIBE, as a client sends it.
func AppendSubscribe(dst []byte, s *Subscribe, v Version) []byte {
	p := newControl(SUBSCRIBE, v)
	p.PacketID, p.FixedHeader.Qos = s.ID, 1
	p.Properties.User = mochiProps(s.UserProps)
	for _, f := range s.Filters {
		p.Filters = append(p.Filters, packets.Subscription{Filter: f.Filter, Qos: f.QoS, NoLocal: f.NoLocal,
			RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling, Identifier: int(s.SubID)})
	}
	if s.SubID != 0 {
		p.Properties.SubscriptionIdentifier = []int{int(s.SubID)}
	}
	return appendControl(dst, p, (*packets.Packet).SubscribeEncode)
}

// Suback is a SUBACK: a reason for each filter, in order.
type Suback struct {
	ID           uint16
	Reasons      []Reason
	ReasonString string
}

// AppendSuback appends a SUBACK; in 3.x every failure is 0x80 [MQTT-3.9.3-2].
func AppendSuback(dst []byte, a *Suback, v Version) []byte {
	p := newControl(SUBACK, v)
	p.PacketID, p.Properties.ReasonString = a.ID, a.ReasonString
	for _, r := range a.Reasons {
		if v != V5 && r >= 0x80 {
			r = UnspecifiedError
		}
		p.ReasonCodes = append(p.ReasonCodes, byte(r))
	}
	return appendControl(dst, p, (*packets.Packet).SubackEncode)
}

// DecodeSuback reads a SUBACK, as a client does.
func DecodeSuback(body []byte, v Version) (*Suback, error) {
	p, err := decodeControl(SUBACK, byte(SUBACK)<<4, body, v, (*packets.Packet).SubackDecode)
	if err != nil {
		return nil, err
	}
	return &Suback{p.PacketID, reasons(p.ReasonCodes), p.Properties.ReasonString}, nil
}

func reasons(codes []byte) (rs []Reason) {
	for _, c := range codes {
		rs = append(rs, Reason(c))
	}
	return rs
}

// Unsubscribe is an UNSUBSCRIBE.
type Unsubscribe struct {
	ID      uint16
	Filters []string
}

// DecodeUnsubscribe reads an UNSUBSCRIBE. It fails with an *Error.
func DecodeUnsubscribe(first byte, body []byte, v Version) (*Unsubscribe, error) {
	if err := checkFilters(body, v, unsubscribeProps, false); err != nil {
		return nil, err
	}
	p, err := decodeControl(UNSUBSCRIBE, first, body, v, (*packets.Packet).UnsubscribeDecode)
	if err != nil {
		return nil, err
	}
	if p.PacketID == 0 || len(p.Filters) == 0 {
		return nil, protocolError("MQTT-3.10.3-2", "UNSUBSCRIBE without a filter or an identifier")
	}
	u := &Unsubscribe{ID: p.PacketID}
	for _, f := range p.Filters {
		u.Filters = append(u.Filters, f.Filter)
	}
	return u, nil
}

// AppendUnsubscribe appends an UNSUBSCRIBE, as a client sends it.
func AppendUnsubscribe(dst []byte, u *Unsubscribe, v Version) []byte {
	p := newControl(UNSUBSCRIBE, v)
	p.PacketID, p.FixedHeader.Qos = u.ID, 1
	for _, f := range u.Filters {
		p.Filters = append(p.Filters, packets.Subscription{Filter: f})
	}
	return appendControl(dst, p, (*packets.Packet).UnsubscribeEncode)
}

// Unsuback is an UNSUBACK; in 3.x it has no reasons.
type Unsuback struct {
	ID      uint16
	Reasons []Reason
}

// AppendUnsuback appends an UNSUBACK.
func AppendUnsuback(dst []byte, a *Unsuback, v Version) []byte {
	p := newControl(UNSUBACK, v)
	p.PacketID = a.ID
	for _, r := range a.Reasons {
		p.ReasonCodes = append(p.ReasonCodes, byte(r))
	}
	return appendControl(dst, p, (*packets.Packet).UnsubackEncode)
}

// DecodeUnsuback reads an UNSUBACK, as a client does.
func DecodeUnsuback(body []byte, v Version) (*Unsuback, error) {
	p, err := decodeControl(UNSUBACK, byte(UNSUBACK)<<4, body, v, (*packets.Packet).UnsubackDecode)
	if err != nil {
		return nil, err
	}
	return &Unsuback{p.PacketID, reasons(p.ReasonCodes)}, nil
}
