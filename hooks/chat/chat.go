// Package chat lets chat join a broker: a message to users/{peer}/chat or
// groups/{group}/chat is stamped and goes to the inboxes of its readers and of its
// sender, in the publish's own batch.
package chat

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/geocast/geocast/chat"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// Hook is chat as a Gate (addresses, and the memory of retries) and an Applier.
// Make one with New.
type Hook struct {
	people rules.People
	open   bool
	last   uint64 // the last CSeq given; owned by the core
}

var (
	_ hooks.Gate    = (*Hook)(nil)
	_ hooks.Applier = (*Hook)(nil)
)

// remembered is how long a client's own id of a message is known, in ms: 7 days.
const remembered = 7 * 24 * 3600 * 1000

// New returns a hook over people. In open mode any valid name can be written to,
// else only users that people knows.
func New(people rules.People, open bool) *Hook { return &Hook{people: people, open: open} }

// Name keys the hook's records.
func (h *Hook) Name() string { return "chat" }

// Filters are the chat topics.
func (h *Hook) Filters() []string {
	return []string{"users/+/chat", "users/+/chat/+", "groups/+/chat", "groups/+/chat/+"}
}

// prepared is what Gate found out.
type prepared struct {
	to      chat.Address
	readers []string // with the sender, each once
	dedup   []byte   // the key of the client's id, nil for none
	seen    []byte   // what was stored there
	sum     uint64   // of address and body
}

// fingerprint tells a retry from another message under the same cid.
func fingerprint(to chat.Address, body []byte) uint64 {
	h := sha256.New()
	fmt.Fprintf(h, "%v %q ", to.Group, to.Name)
	h.Write(body)
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// memory is what is kept of a client's own id: kind, version, when, fingerprint.
func memory(at int64, sum uint64) []byte {
	rec := binary.BigEndian.AppendUint64([]byte{'D', 1}, uint64(at))
	return binary.BigEndian.AppendUint64(rec, sum)
}

// recall reads memory; ok is false for what is older than it is kept, or nothing.
func recall(rec []byte, now int64) (sum uint64, ok bool) {
	if len(rec) < 18 || rec[0] != 'D' || now-int64(binary.BigEndian.Uint64(rec[2:])) >= remembered {
		return 0, false
	}
	return binary.BigEndian.Uint64(rec[10:]), true
}

func refuse(r mqtt.Reason, format string, args ...any) error {
	return &hooks.Refusal{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// Gate checks sender and recipient, and reads whether the message was sent before.
func (h *Hook) Gate(_ context.Context, p *hooks.Publish, r hooks.Reader) error {
	to, err := chat.ParseTopic(p.Message.Topic)
	if err != nil {
		return refuse(mqtt.TopicNameInvalid, "%v", err)
	}
	level := to.Name
	if to.Name = hooks.DecodeName(level); hooks.EncodeName(to.Name) != level { // one name, one topic
		return refuse(mqtt.TopicNameInvalid, "%.200s stands for nobody; a name stands in a topic as in %.200s", level, hooks.EncodeName(to.Name))
	}
	if len(p.Message.Payload) > chat.MostBody {
		return refuse(mqtt.QuotaExceeded, "a message has at most %d bytes; send what is larger by its address", chat.MostBody)
	}
	from := p.From.User
	if from == "" {
		return refuse(mqtt.NotAuthorized, "chat needs a user name")
	}
	d := prepared{to: to, readers: []string{to.Name, from}}
	if to.Group {
		members := h.people.Group(to.Name)
		if !slices.Contains(members, from) {
			return refuse(mqtt.NotAuthorized, "you are no member of group %s", to.Name)
		}
		d.readers = slices.Clone(members)
	} else if _, known := h.people.User(to.Name); !known && !h.open {
		return refuse(mqtt.TopicNameInvalid, "nobody is called %s", to.Name)
	}
	slices.Sort(d.readers)
	d.readers = slices.Compact(d.readers)
	if to.CID != "" {
		d.dedup = []byte("d" + from + "\x00" + to.CID)
		d.sum = fingerprint(to, p.Message.Payload)
		if d.seen, _, err = r.Get(d.dedup); err != nil {
			return fmt.Errorf("%w: %w", &hooks.Refusal{Reason: mqtt.ImplementationSpecificError, Text: "the server can't read its disk; send it again later", Later: true}, err)
		}
	}
	p.Prepare(h, &d)
	return nil
}

// Restore reads where numbering stopped.
func (h *Hook) Restore(r hooks.Reader, _ int64) error {
	v, ok, err := r.Get([]byte("l"))
	if ok && len(v) == 8 {
		h.last = binary.BigEndian.Uint64(v)
	}
	return err
}

// Apply stamps the message and puts it in the inboxes, once.
func (h *Hook) Apply(tx hooks.Tx, p *hooks.Publish) (hooks.Verdict, error) {
	d, ok := p.Prepared[h].(*prepared)
	if !ok {
		return hooks.Consume, refuse(mqtt.NotAuthorized, "chat is sent by users only")
	}
	if d.dedup != nil {
		seen := d.seen
		if v, ok := tx.Get(d.dedup); ok {
			seen = v
		}
		switch sum, again := recall(seen, tx.Now()); {
		case again && sum != d.sum:
			return hooks.Consume, refuse(mqtt.ImplementationSpecificError, "cid %s was used for another message; each has its own", d.to.CID)
		case again:
			return hooks.Consume, nil // acknowledged, and nothing more
		}
		tx.Put(d.dedup, memory(tx.Now(), d.sum))
	}
	last := max(h.last+1, uint64(tx.Now())<<10)
	tx.Put([]byte("l"), binary.BigEndian.AppendUint64(nil, last))
	m := &chat.Message{To: d.to, From: p.From.User, Dev: p.From.Client, Body: p.Message.Payload,
		ContentType: p.Message.ContentType, Expires: p.Message.Expires, CSeq: last, TS: tx.Now()}
	for _, reader := range d.readers {
		err := tx.Inbox(reader, p.Message.Expires, func(dst []byte, at hooks.Place) []byte {
			return m.AppendEvent(dst, reader, at.Seq, at.Epoch)
		})
		if err != nil {
			return hooks.Consume, err
		}
	}
	h.last = last
	return hooks.Consume, nil
}

// Tick has nothing to do.
func (h *Hook) Tick(hooks.Tx) int64 { return 0 }
