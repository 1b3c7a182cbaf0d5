package mqtt

import (
	"encoding/binary"
	"errors"
)

// Message is an application message as it is passed on and stored: it is
// self-contained, immutable once made, and the same for every protocol level.
type Message struct {
	Topic   string
	Payload []byte
	// QoS and Retain are the publisher's.
	QoS    byte
	Retain bool
	// Format is the payload format indicator, if HasFormat.
	Format    byte
	HasFormat bool
	// Expires is when the message expires, in Unix milliseconds of the core's
	// time; 0 means never.
	Expires       int64
	ContentType   string
	ResponseTopic string
	Correlation   []byte
	// User is the user properties as they are on the wire.
	User []byte
}

// Message copies the publish out of its buffer; now is the core's time in Unix
// milliseconds, from which its expiry counts. A topic alias is never in it.
func (p *Publish) Message(now int64) *Message {
	m := &Message{
		Topic: string(p.Topic), QoS: p.QoS, Retain: p.Retain,
		Format: p.Props.Format, HasFormat: p.Props.HasFormat,
		ContentType: string(p.Props.ContentType), ResponseTopic: string(p.Props.ResponseTopic),
	}
	if len(p.Payload) > 0 {
		m.Payload = append([]byte(nil), p.Payload...)
	}
	if p.Props.HasExpiry {
		m.Expires = now + max(int64(p.Props.Expiry)*1000, 1)
	}
	if len(p.Props.Correlation) > 0 {
		m.Correlation = append([]byte(nil), p.Props.Correlation...)
	}
	if len(p.Props.User) > 0 {
		m.User = append([]byte(nil), p.Props.User...)
	}
	return m
}

// The stored form of a message: 'm', version 1, flags, the expiry if it has
// one, then topic, payload, content type, response topic, correlation data and
// user properties, each with its length as a uvarint. Fields are only appended.
const (
	messageKind    = 'm'
	messageVersion = 1

	flagRetain  = 1 << 2
	flagFormat  = 1 << 3
	flagText    = 1 << 4
	flagExpires = 1 << 5
)

// ErrNewer is returned for what is stored and was written by a newer version.
var ErrNewer = errors.New("it was written by a newer version of geocast")

var errMessage = errors.New("mqtt: malformed stored message")

// Append appends the stored form.
func (m *Message) Append(dst []byte) []byte {
	flags := m.QoS & 3
	for _, f := range [...]struct {
		on   bool
		flag byte
	}{{m.Retain, flagRetain}, {m.HasFormat, flagFormat}, {m.Format == 1, flagText}, {m.Expires != 0, flagExpires}} {
		if f.on {
			flags |= f.flag
		}
	}
	dst = append(dst, messageKind, messageVersion, flags)
	if m.Expires != 0 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(m.Expires))
	}
	dst = appendField(dst, m.Topic)
	dst = appendField(dst, m.Payload)
	dst = appendField(dst, m.ContentType)
	dst = appendField(dst, m.ResponseTopic)
	dst = appendField(dst, m.Correlation)
	return appendField(dst, m.User)
}

// Size is the length in bytes of what the message carries: about what it takes on
// the wire and in the store.
func (m *Message) Size() int {
	return len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.Correlation) + len(m.User)
}

func appendField[T ~[]byte | ~string](dst []byte, v T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(v))), v...)
}

// DecodeMessage reads a stored message off the front of b and returns what
// follows it. The message aliases b.
func DecodeMessage(b []byte) (*Message, []byte, error) {
	if len(b) < 3 || b[0] != messageKind || b[2]&3 == 3 {
		return nil, nil, errMessage
	}
	if b[1] > messageVersion {
		return nil, nil, ErrNewer
	}
	flags := b[2]
	m := &Message{QoS: flags & 3, Retain: flags&flagRetain != 0, HasFormat: flags&flagFormat != 0}
	if flags&flagText != 0 {
		m.Format = 1
	}
	b = b[3:]
	if flags&flagExpires != 0 {
		if len(b) < 8 {
			return nil, nil, errMessage
		}
		m.Expires, b = int64(binary.BigEndian.Uint64(b)), b[8:]
	}
	var f [6][]byte
	for i := range f {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return nil, nil, errMessage
		}
		f[i], b = b[k:k+int(n):k+int(n)], b[k+int(n):]
	}
	m.Topic, m.Payload, m.ContentType, m.ResponseTopic = string(f[0]), f[1], string(f[2]), string(f[3])
	m.Correlation, m.User = f[4], f[5]
	return m, b, nil
}

// Delivery says how one subscriber gets a message.
type Delivery struct {
	ID          uint16 // 0 at QoS 0
	QoS         byte
	Dup, Retain bool
	SubIDs      []uint32
	// Now is the core's time in Unix milliseconds: the expiry that is sent is
	// what is left [MQTT-3.3.2-6].
	Now int64
	// Alias, if not 0, is sent as the topic's alias; AliasOnly leaves the topic
	// out.
	Alias     uint16
	AliasOnly bool
}

// AppendDelivery appends m as a PUBLISH for one subscriber.
func AppendDelivery(dst []byte, m *Message, d Delivery, v Version) []byte {
	first := byte(PUBLISH)<<4 | d.QoS<<1
	if d.Retain {
		first |= 1
	}
	if d.Dup && d.QoS > 0 {
		first |= 8
	}
	topic := m.Topic
	if d.AliasOnly {
		topic = ""
	}
	n := 2 + len(topic) + len(m.Payload)
	if d.QoS > 0 {
		n += 2
	}
	var q PublishProps
	props := 0
	if v == V5 {
		q = m.props(&d)
		props = q.size()
		n += lengthSize(props) + props
	}
	dst = appendBytes(appendLength(append(dst, first), n), topic)
	if d.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, d.ID)
	}
	if v == V5 {
		dst = q.append(appendLength(dst, props))
	}
	return append(dst, m.Payload...)
}

func (m *Message) props(d *Delivery) PublishProps {
	q := PublishProps{Format: m.Format, HasFormat: m.HasFormat, Alias: d.Alias, SubIDs: d.SubIDs, User: m.User}
	if m.Expires != 0 {
		q.HasExpiry, q.Expiry = true, uint32(max(m.Expires-d.Now+999, 0)/1000)
	}
	if m.ContentType != "" {
		q.ContentType = []byte(m.ContentType)
	}
	if m.ResponseTopic != "" {
		q.ResponseTopic = []byte(m.ResponseTopic)
	}
	if len(m.Correlation) > 0 {
		q.Correlation = m.Correlation
	}
	return q
}
