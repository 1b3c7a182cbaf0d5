// Package chat lets chat join a broker: a message to users/{peer}/chat or
// groups/{group}/chat is stamped and goes to the inboxes of its readers and of its
// sender, in the publish's own batch.
package chat

import (
	"context"
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
}

func refuse(r mqtt.Reason, format string, args ...any) error {
	return &hooks.Refusal{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// Gate checks sender and recipient, and reads whether the message was sent before.
func (h *Hook) Gate(_ context.Context, p *hooks.Publish, r hooks.Reader) error {
	to, ok := chat.ParseTopic(p.Message.Topic)
	if !ok {
		return refuse(mqtt.TopicNameInvalid, "chat goes to users/{peer}/chat[/{cid}] or groups/{group}/chat[/{cid}]")
	}
	to.Name = hooks.DecodeName(to.Name)
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
		var err error
		if d.seen, _, err = r.Get(d.dedup); err != nil {
			return err
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
		if len(seen) == 8 && tx.Now()-int64(binary.BigEndian.Uint64(seen)) < remembered {
			return hooks.Consume, nil // a retry: acknowledged, and nothing more
		}
		tx.Put(d.dedup, binary.BigEndian.AppendUint64(nil, uint64(tx.Now())))
	}
	h.last = max(h.last+1, uint64(tx.Now())<<10)
	tx.Put([]byte("l"), binary.BigEndian.AppendUint64(nil, h.last))
	m := &chat.Message{To: d.to, From: p.From.User, Dev: p.From.Client, Body: p.Message.Payload, CSeq: h.last, TS: tx.Now()}
	for _, reader := range d.readers {
		err := tx.Inbox(reader, p.Message.Expires, func(dst []byte, at hooks.Place) []byte {
			return m.AppendEvent(dst, reader, at.Seq, at.Epoch)
		})
		if err != nil {
			return hooks.Consume, err
		}
	}
	return hooks.Consume, nil
}

// Tick has nothing to do.
func (h *Hook) Tick(hooks.Tx) int64 { return 0 }
