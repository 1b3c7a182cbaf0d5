// Package chat is what a chat message is: where it is sent, and the event that its
// readers get. It is pure: no goroutine, clock, I/O or log.
package chat

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Address is where a message is sent: to a user, or to a group.
type Address struct {
	Group bool
	Name  string
	// CID is the client's own id for the message, empty for none: a retry with
	// the same one has no second effect.
	CID string
}

// ParseTopic reads users/{peer}/chat[/{cid}] and groups/{group}/chat[/{cid}].
func ParseTopic(topic string) (a Address, ok bool) {
	level := strings.Split(topic, "/")
	if len(level) < 3 || len(level) > 4 || level[2] != "chat" || level[1] == "" {
		return a, false
	}
	a.Name = level[1]
	if len(level) == 4 {
		a.CID = level[3]
	}
	a.Group = level[0] == "groups"
	return a, a.Group || level[0] == "users"
}

// Message is a message as the server stamped it.
type Message struct {
	To   Address
	From string
	Dev  string // the sender's device
	Body []byte
	// CSeq rises per conversation; gaps are allowed.
	CSeq uint64
	// TS is the core's time in Unix milliseconds.
	TS int64
}

// ID is the message's id: the same for every reader, and for a retry.
func (m *Message) ID() string { return strconv.FormatUint(m.CSeq, 36) }

// Conversation is the conversation's name from the reader's view: g:{group}, or
// u:{the other one}.
func (m *Message) Conversation(reader string) string {
	switch {
	case m.To.Group:
		return "g:" + m.To.Name
	case reader == m.From:
		return "u:" + m.To.Name
	}
	return "u:" + m.From
}

// event is the message as an inbox holds it.
type event struct {
	V     int    `json:"v"`
	Seq   uint64 `json:"seq"`
	Epoch string `json:"epoch"`
	Type  string `json:"type"`
	Conv  string `json:"conv"`
	CSeq  uint64 `json:"cseq"`
	ID    string `json:"id"`
	CID   string `json:"cid,omitempty"`
	From  string `json:"from"`
	Dev   string `json:"dev,omitempty"`
	TS    int64  `json:"ts"`
	Body  string `json:"body,omitempty"`
	B64   string `json:"b64,omitempty"`
}

// AppendEvent appends the event of one reader's inbox, at seq of epoch. A body
// that is not UTF-8 is in b64, in base64.
func (m *Message) AppendEvent(dst []byte, reader string, seq uint64, epoch string) []byte {
	e := event{V: 1, Seq: seq, Epoch: epoch, Type: "msg", Conv: m.Conversation(reader), CSeq: m.CSeq, ID: m.ID(),
		CID: m.To.CID, From: m.From, Dev: m.Dev, TS: m.TS}
	if utf8.Valid(m.Body) {
		e.Body = string(m.Body)
	} else {
		e.B64 = base64.StdEncoding.EncodeToString(m.Body)
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic("chat: " + err.Error()) // strings and numbers only
	}
	return append(dst, b...)
}
