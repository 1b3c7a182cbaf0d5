package mqtt

import "fmt"

// Reason is a reason code [MQTT 2.4]: from 0x80 on it is a failure.
type Reason byte

// The reason codes that geocast sends or understands.
const (
	Success                     Reason = 0x00
	GrantedQoS1                 Reason = 0x01
	GrantedQoS2                 Reason = 0x02
	DisconnectWithWill          Reason = 0x04
	NoMatchingSubscribers       Reason = 0x10
	NoSubscriptionExisted       Reason = 0x11
	UnspecifiedError            Reason = 0x80
	MalformedPacket             Reason = 0x81
	ProtocolError               Reason = 0x82
	ImplementationSpecificError Reason = 0x83
	UnsupportedProtocolVersion  Reason = 0x84
	ClientIdentifierNotValid    Reason = 0x85
	BadUserNameOrPassword       Reason = 0x86
	NotAuthorized               Reason = 0x87
	ServerUnavailable           Reason = 0x88
	ServerBusy                  Reason = 0x89
	Banned                      Reason = 0x8A
	ServerShuttingDown          Reason = 0x8B
	BadAuthenticationMethod     Reason = 0x8C
	KeepAliveTimeout            Reason = 0x8D
	SessionTakenOver            Reason = 0x8E
	TopicFilterInvalid          Reason = 0x8F
	TopicNameInvalid            Reason = 0x90
	PacketIdentifierInUse       Reason = 0x91
	PacketIdentifierNotFound    Reason = 0x92
	ReceiveMaximumExceeded      Reason = 0x93
	TopicAliasInvalid           Reason = 0x94
	PacketTooLarge              Reason = 0x95
	MessageRateTooHigh          Reason = 0x96
	QuotaExceeded               Reason = 0x97
	AdministrativeAction        Reason = 0x98
	PayloadFormatInvalid        Reason = 0x99
)

var reasonNames = map[Reason]string{
	Success: "Success", GrantedQoS1: "Granted QoS 1", GrantedQoS2: "Granted QoS 2", DisconnectWithWill: "Disconnect with Will Message",
	NoMatchingSubscribers: "No matching subscribers", NoSubscriptionExisted: "No subscription existed",
	UnspecifiedError: "Unspecified error", MalformedPacket: "Malformed Packet", ProtocolError: "Protocol Error",
	ImplementationSpecificError: "Implementation specific error", UnsupportedProtocolVersion: "Unsupported Protocol Version",
	ClientIdentifierNotValid: "Client Identifier not valid", BadUserNameOrPassword: "Bad User Name or Password",
	NotAuthorized: "Not authorized", ServerUnavailable: "Server unavailable", ServerBusy: "Server busy", Banned: "Banned",
	ServerShuttingDown: "Server shutting down", BadAuthenticationMethod: "Bad authentication method",
	KeepAliveTimeout: "Keep Alive timeout", SessionTakenOver: "Session taken over", TopicFilterInvalid: "Topic Filter invalid",
	TopicNameInvalid: "Topic Name invalid", PacketIdentifierInUse: "Packet Identifier in use",
	PacketIdentifierNotFound: "Packet Identifier not found", ReceiveMaximumExceeded: "Receive Maximum exceeded",
	TopicAliasInvalid: "Topic Alias invalid", PacketTooLarge: "Packet too large", MessageRateTooHigh: "Message rate too high",
	QuotaExceeded: "Quota exceeded", AdministrativeAction: "Administrative action", PayloadFormatInvalid: "Payload format invalid",
}

// String returns the name that the specification gives the code, and the code.
func (r Reason) String() string { return fmt.Sprintf("%s (0x%02X)", r.Name(), byte(r)) }

// Name returns the name that the specification gives the code, or the code.
func (r Reason) Name() string {
	if name, ok := reasonNames[r]; ok {
		return name
	}
	return fmt.Sprintf("0x%02X", byte(r))
}

// Error is a packet that breaks the protocol. Every decoding error is one.
type Error struct {
	// Reason is what the peer is told.
	Reason Reason
	// Clause is the normative statement that was broken.
	Clause string
	// Text says what was wrong.
	Text string
}

// Error says what was wrong, and which clause.
func (e *Error) Error() string {
	return fmt.Sprintf("mqtt: %s (%v, %s)", e.Text, e.Reason, e.Clause)
}

func malformed(clause, text string) error { return &Error{MalformedPacket, clause, text} }

func protocolError(clause, text string) error { return &Error{ProtocolError, clause, text} }

// connackCode maps a reason to the return codes 0 to 5 of 3.x [MQTT-3.2.2.3].
func connackCode(r Reason) byte {
	switch r {
	case Success:
		return 0
	case UnsupportedProtocolVersion:
		return 1
	case ClientIdentifierNotValid:
		return 2
	case BadUserNameOrPassword:
		return 4
	case NotAuthorized, Banned, BadAuthenticationMethod, TopicNameInvalid: // the last is of a will
		return 5
	}
	return 3
}
