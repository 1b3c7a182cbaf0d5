// Package chat is what a chat message is: where it is sent, and the event that its
// readers get. It is pure: no goroutine, clock, I/O or log.
package chat

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
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

// Bounds of a message.
const (
	// LeastCID and MostCID bound a client's own id, in bytes: a short one would soon
	// be used twice, and what is sent under it the second time be taken for a retry.
	LeastCID, MostCID = 8, 64
	// MostBody is the largest body, in bytes.
	MostBody = 64 << 10
)

// Errors of ParseTopic; the text says what would be right.
var (
	ErrTopic = errors.New("chat goes to users/{peer}/chat[/{cid}] or groups/{group}/chat[/{cid}]")
	ErrCID   = errors.New("a cid has 8 to 64 bytes: make it of random characters, and send a retry with the same one")
)

// ParseTopic reads users/{peer}/chat[/{cid}] and groups/{group}/chat[/{cid}]. The name
// is as it stands in the topic. The error is ErrTopic or ErrCID.
func ParseTopic(topic string) (a Address, err error) {
	level := strings.Split(topic, "/")
	if len(level) < 3 || len(level) > 4 || level[2] != "chat" || level[1] == "" || level[0] != "users" && level[0] != "groups" {
		return a, ErrTopic
	}
	a.Group, a.Name = level[0] == "groups", level[1]
	if len(level) == 4 {
		if a.CID = level[3]; len(a.CID) < LeastCID || len(a.CID) > MostCID {
			return Address{}, ErrCID
		}
	}
	return a, nil
}

// Message is a message as the server stamped it.
type Message struct {
	To   Address
	From string
	Dev  string // the sender's device
	Body []byte
	// ContentType is what the sender says of the body, empty for nothing.
	ContentType string
	// Expires is when the message is of no use any more, in Unix milliseconds of
	// the core's time; 0 for never.
	Expires int64
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
	Seq   uint64 `json:"seq,omitempty"`
	Epoch string `json:"epoch,omitempty"`
	Type  string `json:"type"`
	Conv  string `json:"conv"`
	CSeq  uint64 `json:"cseq"`
	ID    string `json:"id"`
	CID   string `json:"cid,omitempty"`
	From  string `json:"from"`
	Dev   string `json:"dev,omitempty"`
	TS    int64  `json:"ts"`
	CT    string `json:"ct,omitempty"`
	Exp   int64  `json:"exp,omitempty"`
	// Body is set but for a body that is not UTF-8.
	Body *string `json:"body,omitempty"`
	B64  string  `json:"b64,omitempty"`
}

// AppendEvent appends the event of one reader's inbox, at seq of epoch; 0 and an
// empty epoch leave the place out. A body that is not UTF-8 is in b64, in base64.
func (m *Message) AppendEvent(dst []byte, reader string, seq uint64, epoch string) []byte {
	e := event{V: 1, Seq: seq, Epoch: epoch, Type: "msg", Conv: m.Conversation(reader), CSeq: m.CSeq, ID: m.ID(),
		CID: m.To.CID, From: m.From, Dev: m.Dev, TS: m.TS, CT: m.ContentType, Exp: m.Expires}
	if utf8.Valid(m.Body) {
		text := string(m.Body)
		e.Body = &text
	} else {
		e.B64 = base64.StdEncoding.EncodeToString(m.Body)
	}
	buf := bytes.NewBuffer(dst)
	j := json.NewEncoder(buf)
	j.SetEscapeHTML(false)
	if err := j.Encode(e); err != nil {
		panic("chat: " + err.Error()) // strings and numbers only
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
