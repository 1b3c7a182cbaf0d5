package mqtt

import (
	"bytes"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// UserProp is one user property; their order is kept.
type UserProp struct{ Key, Value string }

// Connect is a CONNECT of any level. What a level doesn't have is as that level
// implies: Session Expiry is NeverExpires for CleanSession 0 in 3.x.
type Connect struct {
	Version     Version
	ClientID    string // empty asks for one; 3.1 has none that is empty
	CleanStart  bool   // CleanSession in 3.x
	KeepAlive   uint16 // seconds, 0 for none
	HasUsername bool
	Username    string
	HasPassword bool
	Password    []byte
	Will        *Will // nil for none
	// SessionExpiry is in seconds, 0 ends the session with the connection,
	// NeverExpires never.
	SessionExpiry uint32
	// ReceiveMaximum is 65,535 if the client did not say.
	ReceiveMaximum uint16
	// MaximumPacketSize is in bytes, 0 for no limit.
	MaximumPacketSize   uint32
	TopicAliasMaximum   uint16 // the highest alias that the client takes, 0 for none
	RequestResponseInfo bool
	RequestProblemInfo  bool   // false asks for no reason strings outside of CONNACK and DISCONNECT
	AuthMethod          string // empty for none
	AuthData            []byte
	UserProps           []UserProp
}

// Will is the message that a client leaves behind [MQTT-3.1.2-7]. Its properties are
// those of a PUBLISH; zero in 3.x.
type Will struct {
	Topic         string
	Payload       []byte
	QoS           byte
	Retain        bool
	Delay         uint32 // seconds
	Expiry        uint32 // seconds, if HasExpiry
	HasExpiry     bool
	Format        byte
	HasFormat     bool
	ContentType   string
	ResponseTopic string
	Correlation   []byte
	User          []byte // as on the wire
}

// DecodeConnect reads a CONNECT of level 3, 4 or 5. If the level could be read,
// the Connect is returned with an error, too, so that the answer can be of that
// level. It fails with an *Error.
func DecodeConnect(body []byte) (*Connect, error) {
	name, rest, ok := cutString(body)
	if !ok || len(rest) < 2 {
		return nil, malformed("MQTT-3.1.2-1", "CONNECT is cut short")
	}
	v := Version(rest[0])
	c := &Connect{Version: v, ReceiveMaximum: 65535, RequestProblemInfo: true}
	switch {
	case string(name) == "MQIsdp" && v == V31, string(name) == "MQTT" && (v == V311 || v == V5):
	case string(name) == "MQTT" || string(name) == "MQIsdp":
		c.Version = V311
		return c, &Error{UnsupportedProtocolVersion, "MQTT-3.1.2-2", "the protocol level is not 3, 4 or 5"}
	default:
		return nil, protocolError("MQTT-3.1.2-1", "the protocol name is not MQTT")
	}
	if err := checkConnectFlags(rest[1], v); err != nil {
		return c, err
	}
	if err := checkConnectShape(rest[1], rest[2:], v); err != nil {
		return c, err
	}
	p, err := decodeControl(CONNECT, byte(CONNECT)<<4, body, v, (*packets.Packet).ConnectDecode)
	if err != nil {
		return c, err
	}
	c.fill(p)
	return c, c.check(p)
}

// checkConnectFlags checks what mochi's decoder lets pass.
func checkConnectFlags(f byte, v Version) error {
	will, qos, retain := f&4 != 0, f>>3&3, f&32 != 0
	switch {
	case f&1 != 0:
		return malformed("MQTT-3.1.2-3", "the reserved connect flag is set")
	case qos == 3:
		return malformed("MQTT-3.1.2-12", "the will QoS is 3")
	case !will && (qos != 0 || retain):
		return malformed("MQTT-3.1.2-11", "will flags without a will")
	case v != V5 && f&0x40 != 0 && f&0x80 == 0:
		return malformed("MQTT-3.1.2-22", "a password without a user name")
	}
	return nil
}

// checkConnectShape checks that the properties and the payload after the flags
// f are there, whole, and the end of the packet [MQTT-3.1.3-1].
func checkConnectShape(f byte, b []byte, v Version) (err error) {
	if len(b) < 2 {
		return malformed("MQTT-3.1.2-1", "CONNECT is cut short")
	}
	b = b[2:]
	props := func(allowed uint64) {
		if err == nil && v == V5 {
			b, err = cutProps(b, allowed)
		}
	}
	field := func(on bool, cut func([]byte) ([]byte, []byte, bool)) {
		if err != nil || !on {
			return
		}
		var ok bool
		if _, b, ok = cut(b); !ok {
			err = malformed("MQTT-3.1.3-1", "CONNECT is cut short, or a string is not UTF-8")
		}
	}
	props(connectProps)
	field(true, cutString)
	if will := f&4 != 0; will {
		props(willProps)
		field(will, cutString)
		field(will, cutBytes)
	}
	field(f&0x80 != 0, cutString)
	field(f&0x40 != 0, cutBytes)
	if err == nil && len(b) > 0 {
		err = malformed("MQTT-3.1.3-1", "CONNECT is longer than its fields")
	}
	return err
}

func (c *Connect) fill(p *packets.Packet) {
	k, q := &p.Connect, &p.Properties
	c.ClientID, c.CleanStart, c.KeepAlive = strings.Clone(k.ClientIdentifier), k.Clean, k.Keepalive // it is kept, and the packet may be large
	c.HasUsername, c.Username = k.UsernameFlag, string(k.Username)
	c.HasPassword, c.Password = k.PasswordFlag, k.Password
	if k.WillFlag {
		c.Will = newWill(k)
	}
	if c.Version != V5 {
		if !k.Clean {
			c.SessionExpiry = NeverExpires
		}
		return
	}
	c.SessionExpiry = q.SessionExpiryInterval
	if q.ReceiveMaximum != 0 {
		c.ReceiveMaximum = q.ReceiveMaximum
	}
	c.MaximumPacketSize, c.TopicAliasMaximum = q.MaximumPacketSize, q.TopicAliasMaximum
	c.RequestResponseInfo = q.RequestResponseInfo == 1
	c.RequestProblemInfo = !q.RequestProblemInfoFlag || q.RequestProblemInfo == 1
	c.AuthMethod, c.AuthData = q.AuthenticationMethod, q.AuthenticationData
	c.UserProps = userProps(q.User)
}

func newWill(k *packets.ConnectParams) *Will {
	q := &k.WillProperties
	w := &Will{Topic: strings.Clone(k.WillTopic), Payload: bytes.Clone(k.WillPayload), QoS: k.WillQos, Retain: k.WillRetain,
		Delay: q.WillDelayInterval, Expiry: q.MessageExpiryInterval, HasExpiry: q.MessageExpiryInterval != 0,
		Format: q.PayloadFormat, HasFormat: q.PayloadFormatFlag, ContentType: strings.Clone(q.ContentType),
		ResponseTopic: strings.Clone(q.ResponseTopic), Correlation: bytes.Clone(q.CorrelationData)}
	for _, u := range q.User {
		w.User = appendBytes(appendBytes(append(w.User, propUser), u.Key), u.Val)
	}
	return w
}

func (c *Connect) check(p *packets.Packet) error {
	if c.Will != nil && !ValidTopicName([]byte(c.Will.Topic)) {
		return &Error{TopicNameInvalid, "MQTT-3.1.3-11", "the will topic is not a topic name"}
	}
	if c.AuthMethod == "" && len(c.AuthData) > 0 {
		return protocolError("MQTT-3.1.2.11.10", "authentication data without a method")
	}
	if p.Properties.RequestProblemInfo > 1 || p.Properties.RequestResponseInfo > 1 {
		return protocolError("MQTT-3.1.2.11.6", "request information is neither 0 nor 1")
	}
	return nil
}

func userProps(u []packets.UserProperty) (props []UserProp) {
	for _, p := range u {
		props = append(props, UserProp{p.Key, p.Val})
	}
	return props
}

// wireProps reads user properties as they are on the wire.
func wireProps(b []byte) (props []packets.UserProperty) {
	for len(b) > 0 {
		key, rest, ok := cutString(b[1:])
		if !ok {
			break
		}
		var val []byte
		if val, b, ok = cutString(rest); !ok {
			break
		}
		props = append(props, packets.UserProperty{Key: string(key), Val: string(val)})
	}
	return props
}

func mochiProps(u []UserProp) (props []packets.UserProperty) {
	for _, p := range u {
		props = append(props, packets.UserProperty{Key: p.Key, Val: p.Value})
	}
	return props
}

// AppendConnect appends a CONNECT, as a client sends it.
func AppendConnect(dst []byte, c *Connect) []byte {
	p := newControl(CONNECT, c.Version)
	k, q := &p.Connect, &p.Properties
	k.ProtocolName = []byte("MQTT")
	if c.Version == V31 {
		k.ProtocolName = []byte("MQIsdp")
	}
	k.ClientIdentifier, k.Clean, k.Keepalive = c.ClientID, c.CleanStart, c.KeepAlive
	k.UsernameFlag, k.Username = c.HasUsername, []byte(c.Username)
	k.PasswordFlag, k.Password = c.HasPassword, c.Password
	if c.Version == V5 {
		q.SessionExpiryInterval, q.SessionExpiryIntervalFlag = c.SessionExpiry, c.SessionExpiry != 0
		q.ReceiveMaximum, q.MaximumPacketSize, q.TopicAliasMaximum = c.ReceiveMaximum, c.MaximumPacketSize, c.TopicAliasMaximum
		if c.RequestResponseInfo {
			q.RequestResponseInfo = 1
		}
		q.AuthenticationMethod, q.AuthenticationData, q.User = c.AuthMethod, c.AuthData, mochiProps(c.UserProps)
	}
	if w := c.Will; w != nil {
		k.WillFlag, k.WillTopic, k.WillPayload, k.WillQos, k.WillRetain = true, w.Topic, w.Payload, w.QoS, w.Retain
		k.WillProperties = packets.Properties{WillDelayInterval: w.Delay, MessageExpiryInterval: w.Expiry,
			PayloadFormat: w.Format, PayloadFormatFlag: w.HasFormat, ContentType: w.ContentType,
			ResponseTopic: w.ResponseTopic, CorrelationData: w.Correlation, User: wireProps(w.User)}
	}
	return appendControl(dst, p, (*packets.Packet).ConnectEncode)
}

// Connack is a CONNACK [MQTT-3.2]; 3.x has SessionPresent and Reason only. A nil
// pointer, a zero number or an empty text leaves its property out, which then has the
// standard's default: a Receive Maximum of 65,535, QoS 2, everything available, no
// topic aliases, packets of any size. Times are in seconds, sizes in bytes.
type Connack struct {
	SessionPresent    bool
	Reason            Reason
	SessionExpiry     *uint32
	ReceiveMaximum    uint16
	MaximumQoS        *byte
	RetainAvailable   *bool
	MaximumPacketSize uint32
	AssignedClientID  string
	TopicAliasMaximum uint16
	ReasonString      string
	UserProps         []UserProp
	WildcardAvailable *bool
	SubIDAvailable    *bool
	SharedAvailable   *bool
	ServerKeepAlive   *uint16
	ResponseInfo      string
}

// AppendConnack appends a CONNACK; in 3.x the reason becomes a return code.
func AppendConnack(dst []byte, a *Connack, v Version) []byte {
	if v != V5 {
		present := byte(0)
		if a.SessionPresent && a.Reason == Success && v == V311 {
			present = 1
		}
		return append(dst, byte(CONNACK)<<4, 2, present, connackCode(a.Reason))
	}
	p := newControl(CONNACK, v)
	p.SessionPresent, p.ReasonCode = a.SessionPresent, byte(a.Reason)
	q := &p.Properties
	if a.SessionExpiry != nil {
		q.SessionExpiryInterval, q.SessionExpiryIntervalFlag = *a.SessionExpiry, true
	}
	q.ReceiveMaximum, q.MaximumPacketSize, q.TopicAliasMaximum = a.ReceiveMaximum, a.MaximumPacketSize, a.TopicAliasMaximum
	q.AssignedClientID, q.ReasonString, q.ResponseInfo, q.User = a.AssignedClientID, a.ReasonString, a.ResponseInfo, mochiProps(a.UserProps)
	if a.MaximumQoS != nil {
		q.MaximumQos, q.MaximumQosFlag = *a.MaximumQoS, true
	}
	flag := func(v *bool, b *byte, on *bool) {
		if v == nil {
			return
		}
		*on = true
		if *v {
			*b = 1
		}
	}
	flag(a.RetainAvailable, &q.RetainAvailable, &q.RetainAvailableFlag)
	flag(a.WildcardAvailable, &q.WildcardSubAvailable, &q.WildcardSubAvailableFlag)
	flag(a.SubIDAvailable, &q.SubIDAvailable, &q.SubIDAvailableFlag)
	flag(a.SharedAvailable, &q.SharedSubAvailable, &q.SharedSubAvailableFlag)
	if a.ServerKeepAlive != nil {
		q.ServerKeepAlive, q.ServerKeepAliveFlag = *a.ServerKeepAlive, true
	}
	return appendControl(dst, p, (*packets.Packet).ConnackEncode)
}

// DecodeConnack reads a CONNACK, as a client does. In 3.x Reason is Success, or
// the reason that its return code stands for.
func DecodeConnack(body []byte, v Version) (*Connack, error) {
	if v != V5 {
		if len(body) != 2 {
			return nil, malformed("MQTT-3.2", "CONNACK has the wrong length")
		}
		codes := [...]Reason{Success, UnsupportedProtocolVersion, ClientIdentifierNotValid, ServerUnavailable, BadUserNameOrPassword, NotAuthorized}
		a := &Connack{SessionPresent: body[0]&1 != 0, Reason: UnspecifiedError}
		if int(body[1]) < len(codes) {
			a.Reason = codes[body[1]]
		}
		return a, nil
	}
	p, err := decodeControl(CONNACK, byte(CONNACK)<<4, body, v, (*packets.Packet).ConnackDecode)
	if err != nil {
		return nil, err
	}
	q := &p.Properties
	a := &Connack{SessionPresent: p.SessionPresent, Reason: Reason(p.ReasonCode), ReceiveMaximum: q.ReceiveMaximum,
		MaximumPacketSize: q.MaximumPacketSize, AssignedClientID: q.AssignedClientID, TopicAliasMaximum: q.TopicAliasMaximum,
		ReasonString: q.ReasonString, UserProps: userProps(q.User), ResponseInfo: q.ResponseInfo}
	if q.SessionExpiryIntervalFlag {
		a.SessionExpiry = &q.SessionExpiryInterval
	}
	if q.ServerKeepAliveFlag {
		a.ServerKeepAlive = &q.ServerKeepAlive
	}
	if q.MaximumQosFlag {
		a.MaximumQoS = &q.MaximumQos
	}
	flag := func(v **bool, b byte, on bool) {
		if yes := b == 1; on {
			*v = &yes
		}
	}
	flag(&a.RetainAvailable, q.RetainAvailable, q.RetainAvailableFlag)
	flag(&a.WildcardAvailable, q.WildcardSubAvailable, q.WildcardSubAvailableFlag)
	flag(&a.SubIDAvailable, q.SubIDAvailable, q.SubIDAvailableFlag)
	flag(&a.SharedAvailable, q.SharedSubAvailable, q.SharedSubAvailableFlag)
	return a, nil
}

// AppendPingreq appends a PINGREQ.
func AppendPingreq(dst []byte) []byte { return append(dst, byte(PINGREQ)<<4, 0) }

// AppendPingresp appends a PINGRESP.
func AppendPingresp(dst []byte) []byte { return append(dst, byte(PINGRESP)<<4, 0) }

// Disconnect is a DISCONNECT; in 3.x it has no fields. A SessionExpiry, in seconds,
// replaces that of CONNECT; nil leaves it.
type Disconnect struct {
	Reason        Reason
	SessionExpiry *uint32
	ReasonString  string
	UserProps     []UserProp
}

// DecodeDisconnect reads a DISCONNECT. It fails with an *Error.
func DecodeDisconnect(first byte, body []byte, v Version) (*Disconnect, error) {
	if v != V5 || len(body) == 0 {
		if first&15 != 0 || len(body) != 0 {
			return nil, malformed("MQTT-3.14.1-1", "DISCONNECT has flags or a body")
		}
		return &Disconnect{}, nil
	}
	if !disconnectReason(Reason(body[0])) {
		return nil, protocolError("MQTT-3.14.2-1", "an unknown reason code")
	}
	if len(body) == 1 {
		return &Disconnect{Reason: Reason(body[0])}, nil
	}
	if rest, err := cutProps(body[1:], disconnectProps); err != nil || len(rest) > 0 {
		return nil, orMalformed(err, "DISCONNECT is longer than its properties")
	}
	p, err := decodeControl(DISCONNECT, first, body, v, (*packets.Packet).DisconnectDecode)
	if err != nil {
		return nil, err
	}
	d := &Disconnect{Reason: Reason(p.ReasonCode), ReasonString: p.Properties.ReasonString, UserProps: userProps(p.Properties.User)}
	if p.Properties.SessionExpiryIntervalFlag {
		d.SessionExpiry = &p.Properties.SessionExpiryInterval
	}
	return d, nil
}

// disconnectReason reports whether DISCONNECT may carry the code
// [MQTT-3.14.2.1], from a client or a server.
func disconnectReason(r Reason) bool {
	switch r {
	case Success, DisconnectWithWill, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2: // the last are of servers
		return true
	case UnsupportedProtocolVersion, ClientIdentifierNotValid, BadUserNameOrPassword, ServerUnavailable, Banned,
		BadAuthenticationMethod, PacketIdentifierInUse, PacketIdentifierNotFound:
		return r == BadAuthenticationMethod // AUTH at the wrong time [MQTT-4.12.0-6]
	}
	return r >= UnspecifiedError && r <= PayloadFormatInvalid
}

// AppendDisconnect appends a DISCONNECT.
func AppendDisconnect(dst []byte, d *Disconnect, v Version) []byte {
	if v != V5 {
		return append(dst, byte(DISCONNECT)<<4, 0)
	}
	p := newControl(DISCONNECT, v)
	p.ReasonCode = byte(d.Reason)
	p.Properties.ReasonString, p.Properties.User = d.ReasonString, mochiProps(d.UserProps)
	if d.SessionExpiry != nil {
		p.Properties.SessionExpiryInterval, p.Properties.SessionExpiryIntervalFlag = *d.SessionExpiry, true
	}
	return appendControl(dst, p, func(p *packets.Packet, b *bytes.Buffer) error { return p.DisconnectEncode(b) })
}
