package chat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

var people = rules.NewRoster([]rules.Person{
	{Name: "ann", Groups: []string{"climb"}}, {Name: "bob", Groups: []string{"climb"}}, {Name: "cat"}, {Name: "a/b"},
})

// world is a broker of the simplest kind: it keeps what a hook writes in a map.
type world struct {
	hook    *chat.Hook
	records map[string][]byte
	now     int64
	inbox   map[string][]string
	full    bool // no inbox takes anything
	recent  map[string]write
}

// write is what a broker knows of a write for a while; nil is a deletion.
type write struct {
	value []byte
	at    int64
}

func newWorld(open bool) *world {
	return &world{hook: chat.New(people, open), records: map[string][]byte{}, now: 1_790_000_000_000, inbox: map[string][]string{}, recent: map[string]write{}}
}

func (w *world) Now() int64 { return w.now }
func (w *world) Get(key []byte) ([]byte, bool, error) {
	v, ok := w.records[string(key)]
	return v, ok, nil
}
func (w *world) Scan(prefix []byte, fn func(key, value []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(w.records)) {
		if strings.HasPrefix(key, string(prefix)) && !fn([]byte(key), w.records[key]) {
			return nil
		}
	}
	return nil
}

// tx is the world as an Applier sees it.
type tx struct{ *world }

func (t tx) Get(key []byte) ([]byte, bool) {
	r, ok := t.recent[string(key)]
	return r.value, ok && t.now-r.at < 40_000
}
func (t tx) Put(key, value []byte) {
	t.records[string(key)] = slices.Clone(value)
	t.recent[string(key)] = write{slices.Clone(value), t.now}
}
func (t tx) Delete(key []byte) {
	delete(t.records, string(key))
	t.recent[string(key)] = write{nil, t.now}
}
func (t tx) Publish(*mqtt.Message) {}
func (t tx) Reply(*mqtt.Message)   {}
func (t tx) Read(look func(hooks.Reader), then func(hooks.Tx)) {
	look(t.world)
	then(t)
}
func (t tx) Inboxes(users []string, expires int64, event []byte) error {
	for _, user := range users {
		err := t.Inbox(user, expires, func(dst []byte, at hooks.Place) []byte {
			return fmt.Appendf(dst, `{"v":1,"seq":%d,"epoch":%q,%s`, at.Seq, at.Epoch, event[len(`{"v":1,`):])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t tx) Inbox(user string, _ int64, encode func(dst []byte, at hooks.Place) []byte) error {
	if t.full {
		return errFull
	}
	t.inbox[user] = append(t.inbox[user], string(encode(nil, hooks.Place{Seq: uint64(len(t.inbox[user]) + 1), Epoch: "e"})))
	return nil
}

func (w *world) send(from, topic, body string) error {
	p, err := w.gate(from, topic, body)
	if err != nil {
		return err
	}
	return w.apply(p)
}

func (w *world) gate(from, topic, body string) (*hooks.Publish, error) {
	p := &hooks.Publish{From: hooks.Identity{User: from, Client: "dev"}, Message: &mqtt.Message{Topic: topic, Payload: []byte(body)}, At: w.now}
	return p, w.hook.Gate(context.Background(), p, w)
}

// apply does all that an Applier asks for, or nothing.
func (w *world) apply(p *hooks.Publish) error {
	records, recent := maps.Clone(w.records), maps.Clone(w.recent)
	_, err := w.hook.Apply(tx{w}, p)
	if err != nil {
		w.records, w.recent = records, recent
	}
	return err
}

func TestRefusals(t *testing.T) {
	for _, row := range []struct {
		from, topic, body string
		open              bool
		reason            mqtt.Reason // 0: taken
		text              string
	}{
		{from: "ann", topic: "users/bob/chat"}, {from: "ann", topic: "users/ann/chat"}, {from: "ann", topic: "groups/climb/chat"}, {from: "ann", topic: "users/a%2Fb/chat"},
		{from: "ann", topic: "users/eve/chat", reason: mqtt.TopicNameInvalid, text: "nobody is called eve"}, {from: "ann", topic: "users/eve/chat", open: true},
		{from: "cat", topic: "groups/climb/chat", reason: mqtt.NotAuthorized, text: "no member of group climb"}, {from: "ann", topic: "groups/none/chat", open: true, reason: mqtt.NotAuthorized, text: "no member"},
		{from: "", topic: "users/bob/chat", open: true, reason: mqtt.NotAuthorized, text: "user name"},
		{from: "ann", topic: "users/bob/chat/short", reason: mqtt.TopicNameInvalid, text: "8 to 64"},
		{from: "ann", topic: "users/a%2fb/chat", open: true, reason: mqtt.TopicNameInvalid, text: "a%252fb"}, {from: "ann", topic: "users/%62ob/chat", open: true, reason: mqtt.TopicNameInvalid, text: "%2562ob"},
		{from: "ann", topic: "users/a b/chat", open: true, reason: mqtt.TopicNameInvalid, text: "a%20b"},
		{from: "ann", topic: "users/bob/chat", body: strings.Repeat("x", 64<<10)}, {from: "ann", topic: "users/bob/chat", body: strings.Repeat("x", 64<<10+1), reason: mqtt.QuotaExceeded, text: "65536"},
	} {
		err := newWorld(row.open).send(row.from, row.topic, row.body)
		no, _ := errors.AsType[*hooks.Refusal](err)
		switch {
		case row.reason == 0 && err != nil:
			t.Errorf("%s to %s: %v", row.from, row.topic, err)
		case row.reason != 0 && (no == nil || no.Reason != row.reason || !strings.Contains(no.Text, row.text)):
			t.Errorf("%s to %s: got %#v", row.from, row.topic, err)
		}
	}
}

// sent is a message as the oracle remembers it.
type sent struct {
	topic, body string
	at          int64
}

// Whatever is sent and repeated, over restarts and days, everybody has each message
// once, in the order of sending, and so has its sender.
func TestChatAgreesWithAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(false)
		known, want := map[string]sent{}, map[string][]string{}
		for range rapid.IntRange(1, 40).Draw(t, "n") {
			w.now += rapid.SampledFrom([]int64{0, 1, 1000, 3 * 24 * 3600 * 1000}).Draw(t, "pass")
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				w.hook = chat.New(people, false)
				if err := w.hook.Restore(w, w.now); err != nil {
					t.Fatal(err)
				}
			}
			from := rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "from")
			topic := rapid.SampledFrom([]string{"users/ann/chat", "users/bob/chat", "users/cat/chat", "groups/climb/chat"}).Draw(t, "topic")
			cid := rapid.SampledFrom([]string{"", "aaaaaaaa", "bbbbbbbb"}).Draw(t, "cid")
			m := sent{topic, rapid.SampledFrom([]string{"x", "y"}).Draw(t, "body"), w.now}
			address := topic
			if cid != "" {
				address += "/" + cid
			}
			err := w.send(from, address, m.body)
			was, again := known[from+cid]
			again = again && cid != "" && w.now-was.at < 7*24*3600*1000
			if conflict := again && (was.topic != topic || was.body != m.body); conflict != (err != nil) {
				t.Fatalf("%s to %s: %v, before: %+v", from, address, err, was)
			}
			if again {
				continue
			}
			known[from+cid] = m
			readers := []string{from, strings.Split(topic, "/")[1]}
			if strings.HasPrefix(topic, "groups") {
				readers = []string{"ann", "bob"}
			}
			slices.Sort(readers)
			for _, r := range slices.Compact(readers) {
				want[r] = append(want[r], from+" "+m.body)
			}
		}
		ids := map[string]uint64{}
		for user, events := range w.inbox {
			var got []string
			last := map[string]uint64{}
			for i, text := range events {
				var e struct {
					Seq, CSeq            uint64
					ID, Conv, From, Body string
				}
				if err := json.Unmarshal([]byte(text), &e); err != nil {
					t.Fatal(err)
				}
				if e.Seq != uint64(i+1) || e.CSeq <= last[e.Conv] || ids[e.ID] != 0 && ids[e.ID] != e.CSeq {
					t.Fatalf("%s: event %d is %s", user, i+1, text)
				}
				last[e.Conv], ids[e.ID] = e.CSeq, e.CSeq
				got = append(got, e.From+" "+e.Body)
			}
			if fmt.Sprint(got) != fmt.Sprint(want[user]) {
				t.Fatalf("%s has %v, want %v", user, got, want[user])
			}
		}
		if len(w.inbox) != len(want) {
			t.Fatalf("inboxes of %d, want %d", len(w.inbox), len(want))
		}
	})
}
