package chat_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/geocast/geocast/chat"
)

func TestTopics(t *testing.T) {
	for _, row := range []struct {
		topic string
		want  chat.Address
		err   error
	}{
		{"users/bob/chat", chat.Address{Name: "bob"}, nil},
		{"users/bob/chat/7f3ac2e1", chat.Address{Name: "bob", CID: "7f3ac2e1"}, nil},
		{"groups/climb/chat/7f3ac2e1", chat.Address{Group: true, Name: "climb", CID: "7f3ac2e1"}, nil},
		{"users/bob/chat/" + strings.Repeat("x", 64), chat.Address{Name: "bob", CID: strings.Repeat("x", 64)}, nil},
		{"users/bob/chat/" + strings.Repeat("x", 65), chat.Address{}, chat.ErrCID}, {"users/bob/chat/1234567", chat.Address{}, chat.ErrCID}, {"users/bob/chat/", chat.Address{}, chat.ErrCID},
		{"users/bob/chat/12345678/x", chat.Address{}, chat.ErrTopic}, {"users//chat", chat.Address{}, chat.ErrTopic}, {"users/bob/act", chat.Address{}, chat.ErrTopic},
		{"plant/bob/chat", chat.Address{}, chat.ErrTopic}, {"users/chat", chat.Address{}, chat.ErrTopic}, {"", chat.Address{}, chat.ErrTopic},
	} {
		if got, err := chat.ParseTopic(row.topic); got != row.want || !errors.Is(err, row.err) {
			t.Errorf("%s: %+v, %v", row.topic, got, err)
		}
	}
}

func TestEvents(t *testing.T) {
	for _, row := range []struct {
		name   string
		m      chat.Message
		reader string
		want   string
	}{
		{"the peer's", chat.Message{To: chat.Address{Name: "bob", CID: "7f3ac2e1"}, From: "ann", Dev: "pixel", Body: []byte("hi"), CSeq: 911, TS: 5}, "bob",
			`{"v":1,"seq":3,"epoch":"k3x9","type":"msg","conv":"u:ann","cseq":911,"id":"pb","cid":"7f3ac2e1","from":"ann","dev":"pixel","ts":5,"body":"hi"}`},
		{"the sender's own", chat.Message{To: chat.Address{Name: "bob"}, From: "ann", Body: []byte("hi"), CSeq: 911, TS: 5}, "ann",
			`{"v":1,"seq":3,"epoch":"k3x9","type":"msg","conv":"u:bob","cseq":911,"id":"pb","from":"ann","ts":5,"body":"hi"}`},
		{"a group's", chat.Message{To: chat.Address{Group: true, Name: "climb"}, From: "ann", Body: []byte("<&>"), CSeq: 1, TS: 5}, "bob",
			`{"v":1,"seq":3,"epoch":"k3x9","type":"msg","conv":"g:climb","cseq":1,"id":"1","from":"ann","ts":5,"body":"<&>"}`},
		{"not UTF-8", chat.Message{To: chat.Address{Name: "bob"}, From: "ann", Body: []byte{0xff, 0}, CSeq: 1, TS: 5}, "bob",
			`{"v":1,"seq":3,"epoch":"k3x9","type":"msg","conv":"u:ann","cseq":1,"id":"1","from":"ann","ts":5,"b64":"/wA="}`},
		{"empty, with type and expiry", chat.Message{To: chat.Address{Name: "bob"}, From: "ann", ContentType: "text/plain", Expires: 9, CSeq: 1, TS: 5}, "bob",
			`{"v":1,"seq":3,"epoch":"k3x9","type":"msg","conv":"u:ann","cseq":1,"id":"1","from":"ann","ts":5,"ct":"text/plain","exp":9,"body":""}`},
	} {
		if got := row.m.AppendEvent([]byte("head "), row.reader, 3, "k3x9"); string(got) != "head "+row.want {
			t.Errorf("%s:\n%s, want\n%s", row.name, got, row.want)
		}
	}
}

// Whatever is published, its event is JSON that holds the body as it was.
func FuzzEvent(f *testing.F) {
	f.Add("users/bob/chat/7f3ac2e1", []byte("hi\x00\u2028"))
	f.Add("groups/a/chat", []byte{0xc3})
	f.Fuzz(func(t *testing.T, topic string, body []byte) {
		to, err := chat.ParseTopic(topic)
		if err != nil {
			return
		}
		m := chat.Message{To: to, From: "ann", Body: body}
		var e struct {
			Body *string
			B64  []byte
		}
		if err := json.Unmarshal(m.AppendEvent(nil, "bob", 1, "e"), &e); err != nil {
			t.Fatal(err)
		}
		if e.Body != nil && *e.Body != string(body) || e.Body == nil && string(e.B64) != string(body) {
			t.Errorf("%q became %v, %q", body, e.Body, e.B64)
		}
	})
}
