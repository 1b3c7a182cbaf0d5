// Package chat lets chat join a broker: a message to users/{peer}/chat or
// groups/{group}/chat is stamped and goes to the inboxes of its readers and of its
// sender, in the publish's own batch.
package chat

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

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
	numbering
	// oldest is numbering's first, for Gates: it may lag behind.
	oldest atomic.Uint64
	// sweeping means that the oldest memories are being read; sweep is when they are
	// read next (core time, ms).
	sweeping bool
	sweep    int64
}

var (
	_ hooks.Gate    = (*Hook)(nil)
	_ hooks.Applier = (*Hook)(nil)
)

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
	over    []over   // memories to forget
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
		d.dedup, d.sum = keyOf(from, to.CID), fingerprint(to, p.Message.Payload)
		if d.seen, _, err = r.Get(d.dedup); err != nil {
			return unread(err)
		}
	}
	if d.over, err = overdue(r, h.oldest.Load(), p.At); err != nil {
		return unread(err)
	}
	p.Prepare(h, &d)
	return nil
}

// unread is the refusal of a message because of the disk.
func unread(err error) error {
	return fmt.Errorf("%w: %w", &hooks.Refusal{Reason: mqtt.ImplementationSpecificError, Text: "the server can't read its disk; send it again later", Later: true}, err)
}

// Restore reads where numbering stopped. If that is lost it goes on from what is
// remembered.
func (h *Hook) Restore(r hooks.Reader, _ int64) error {
	v, had, err := r.Get([]byte(numberingKey))
	if err != nil {
		return err
	}
	if len(v) > 1 && v[0] == 'N' && v[1] > recordVersion {
		return fmt.Errorf("chat: the record of numbering: %w", mqtt.ErrNewer)
	}
	var damage hooks.Damage
	n, ok := readNumbering(v)
	if !ok {
		if had {
			damage.Add([]byte(numberingKey))
		}
		if n, err = renumber(r); err != nil {
			return err
		}
	}
	h.numbering = n
	h.oldest.Store(n.first)
	return damage.Err()
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
	}
	n := h.numbering
	if d.dedup != nil {
		n.remember(tx, d.dedup, d.sum)
	}
	n.forget(tx, d.over)
	n.last = max(n.last+1, uint64(tx.Now())<<10)
	tx.Put([]byte(numberingKey), n.record())
	m := &chat.Message{To: d.to, From: p.From.User, Dev: p.From.Client, Body: p.Message.Payload,
		ContentType: p.Message.ContentType, Expires: p.Message.Expires, CSeq: n.last, TS: tx.Now()}
	if err := give(tx, m, d.readers); err != nil {
		return hooks.Consume, err
	}
	h.numbering = n
	h.oldest.Store(n.first)
	return hooks.Consume, nil
}

// give puts the message in the inboxes of its readers: that of a group reads the
// same for all of them.
func give(tx hooks.Tx, m *chat.Message, readers []string) error {
	if m.To.Group {
		return tx.Inboxes(readers, m.Expires, m.AppendEvent(nil, "", 0, ""))
	}
	for _, reader := range readers {
		err := tx.Inbox(reader, m.Expires, func(dst []byte, at hooks.Place) []byte {
			return m.AppendEvent(dst, reader, at.Seq, at.Epoch)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Tick lets go of memories that are over, though nobody writes.
func (h *Hook) Tick(tx hooks.Tx) int64 {
	if h.sweeping || h.first == h.next || tx.Now() < h.sweep {
		return 0
	}
	h.sweeping = true
	var all []over
	var err error
	now := tx.Now()
	tx.Read(
		func(r hooks.Reader) { all, err = allOverdue(r, now) },
		func(tx hooks.Tx) {
			h.sweeping = false
			h.swept(tx, all)
			if err != nil || len(all) < sweepMost {
				h.sweep = tx.Now() + sweepEvery
			}
		})
	return 0
}

func (h *Hook) swept(tx hooks.Tx, all []over) {
	for _, o := range all {
		if o.n >= h.first {
			h.drop(tx, o)
		}
	}
	if len(all) > 0 {
		tx.Put([]byte(numberingKey), h.record())
		h.oldest.Store(h.first)
	}
}
