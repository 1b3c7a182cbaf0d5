package mqtt

import "encoding/binary"

// Publish is a PUBLISH as it was read: Topic, Payload and what Props holds alias
// the read buffer. ID is 0 at QoS 0.
type Publish struct {
	Topic, Payload []byte
	QoS            byte
	Retain, Dup    bool
	ID             uint16
	Props          PublishProps
}

// PublishProps are the properties of a PUBLISH [MQTT-3.3.2.3]; zero for 3.x.
type PublishProps struct {
	Format        byte
	HasFormat     bool
	Expiry        uint32 // seconds
	HasExpiry     bool
	ContentType   []byte
	ResponseTopic []byte
	Correlation   []byte
	Alias         uint16 // 0 for none
	// User is the user properties, in order, as they are on the wire:
	// 0x26, key, value, again and again.
	User []byte
	// SubIDs are subscription identifiers, which only a server may send.
	SubIDs []uint32
}

// The property identifiers of PUBLISH and the acknowledgements.
const (
	propFormat        = 0x01
	propExpiry        = 0x02
	propContentType   = 0x03
	propResponseTopic = 0x08
	propCorrelation   = 0x09
	propSubID         = 0x0B
	propReasonString  = 0x1F
	propAlias         = 0x23
	propUser          = 0x26
)

// Decode reads a PUBLISH in place. An empty topic is only taken with a topic
// alias, which the caller resolves with Aliases. It fails with an *Error.
func (p *Publish) Decode(first byte, body []byte, v Version) error {
	*p = Publish{QoS: first >> 1 & 3, Retain: first&1 != 0, Dup: first&8 != 0}
	if p.QoS == 3 {
		return malformed("MQTT-3.3.1-4", "PUBLISH with QoS 3")
	}
	if p.QoS == 0 && p.Dup {
		return malformed("MQTT-3.3.1-2", "PUBLISH at QoS 0 with DUP")
	}
	var ok bool
	if p.Topic, body, ok = cutString(body); !ok {
		return malformed("MQTT-3.3.2-1", "the topic is cut short or is not UTF-8")
	}
	if p.QoS > 0 {
		if len(body) < 2 {
			return malformed("MQTT-3.3.2", "the packet identifier is missing")
		}
		p.ID, body = binary.BigEndian.Uint16(body), body[2:]
		if p.ID == 0 {
			return protocolError("MQTT-2.2.1-3", "the packet identifier is 0")
		}
	}
	if v == V5 {
		n, rest, ok := cutLength(body)
		if !ok || n > len(rest) {
			return malformed("MQTT-2.2.2-1", "the property length is wrong")
		}
		if err := p.Props.decode(rest[:n:n]); err != nil {
			return err
		}
		body = rest[n:]
	}
	p.Payload = body
	if len(p.Topic) == 0 && p.Props.Alias == 0 {
		return protocolError("MQTT-3.3.2-8", "the topic is empty and there is no alias")
	}
	if len(p.Topic) > 0 && !ValidTopicName(p.Topic) {
		return &Error{TopicNameInvalid, "MQTT-3.3.2-2", "the topic name holds a wildcard"}
	}
	return nil
}

func (q *PublishProps) decode(b []byte) error {
	all, seen := b, uint64(0)
	for len(b) > 0 {
		id, from := b[0], len(all)-len(b)
		if id != propUser && id != propSubID {
			if id < 64 && seen&(1<<id) != 0 {
				return protocolError("MQTT-3.3.2.3", "a property occurs twice")
			}
			seen |= 1 << (id & 63)
		}
		var ok bool
		if b, ok = q.property(id, b[1:]); !ok {
			return malformed("MQTT-3.3.2.3", "a property is malformed or not of PUBLISH")
		}
		if id == propUser {
			q.addUser(all, from, len(all)-len(b))
		}
	}
	return q.check(seen)
}

// addUser notes the user property all[from:to]. Those that stand together are
// one slice of the buffer; others are gathered.
func (q *PublishProps) addUser(all []byte, from, to int) {
	k := len(q.User)
	switch {
	case k == 0:
		q.User = all[from:to:to]
	case from >= k && &all[from-k] == &q.User[0]:
		q.User = all[from-k : to : to]
	default:
		q.User = append(q.User, all[from:to]...) // its capacity is its length
	}
}

func (q *PublishProps) property(id byte, b []byte) (rest []byte, ok bool) {
	switch id {
	case propFormat:
		if len(b) < 1 || b[0] > 1 {
			return nil, false
		}
		q.Format, q.HasFormat = b[0], true
		return b[1:], true
	case propExpiry:
		if len(b) < 4 {
			return nil, false
		}
		q.Expiry, q.HasExpiry = binary.BigEndian.Uint32(b), true
		return b[4:], true
	case propContentType:
		q.ContentType, rest, ok = cutString(b)
	case propResponseTopic:
		q.ResponseTopic, rest, ok = cutString(b)
	case propCorrelation:
		q.Correlation, rest, ok = cutBytes(b)
	case propAlias:
		if len(b) < 2 {
			return nil, false
		}
		q.Alias = binary.BigEndian.Uint16(b)
		return b[2:], true
	case propSubID:
		var n int
		n, rest, ok = cutLength(b)
		q.SubIDs = append(q.SubIDs, uint32(n))
	case propUser:
		if _, rest, ok = cutString(b); ok {
			_, rest, ok = cutString(rest)
		}
	}
	return rest, ok
}

func (q *PublishProps) check(seen uint64) error {
	if seen&(1<<propAlias) != 0 && q.Alias == 0 {
		return &Error{TopicAliasInvalid, "MQTT-3.3.2-8", "the topic alias is 0"}
	}
	if seen&(1<<propResponseTopic) != 0 && !ValidTopicName(q.ResponseTopic) {
		return protocolError("MQTT-3.3.2-14", "the response topic is not a topic name")
	}
	return nil
}

// AppendPublish appends p as a packet, with its topic and properties as they
// stand.
func AppendPublish(dst []byte, p *Publish, v Version) []byte {
	first := byte(PUBLISH)<<4 | p.QoS<<1
	if p.Retain {
		first |= 1
	}
	if p.Dup {
		first |= 8
	}
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	props := 0
	if v == V5 {
		props = p.Props.size()
		n += lengthSize(props) + props
	}
	dst = appendBytes(appendLength(append(dst, first), n), p.Topic)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.ID)
	}
	if v == V5 {
		dst = p.Props.append(appendLength(dst, props))
	}
	return append(dst, p.Payload...)
}

func (q *PublishProps) size() (n int) {
	if q.HasFormat {
		n += 2
	}
	if q.HasExpiry {
		n += 5
	}
	for _, f := range [3][]byte{q.ContentType, q.ResponseTopic, q.Correlation} {
		if f != nil {
			n += 3 + len(f)
		}
	}
	if q.Alias != 0 {
		n += 3
	}
	for _, id := range q.SubIDs {
		n += 1 + lengthSize(int(id))
	}
	return n + len(q.User)
}

func (q *PublishProps) append(dst []byte) []byte {
	if q.HasFormat {
		dst = append(dst, propFormat, q.Format)
	}
	if q.HasExpiry {
		dst = binary.BigEndian.AppendUint32(append(dst, propExpiry), q.Expiry)
	}
	if q.ContentType != nil {
		dst = appendBytes(append(dst, propContentType), q.ContentType)
	}
	if q.ResponseTopic != nil {
		dst = appendBytes(append(dst, propResponseTopic), q.ResponseTopic)
	}
	if q.Correlation != nil {
		dst = appendBytes(append(dst, propCorrelation), q.Correlation)
	}
	if q.Alias != 0 {
		dst = binary.BigEndian.AppendUint16(append(dst, propAlias), q.Alias)
	}
	for _, id := range q.SubIDs {
		dst = appendLength(append(dst, propSubID), int(id))
	}
	return append(dst, q.User...)
}
