package broker

import (
	"encoding/binary"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// will is a message that a session leaves behind, and its delay in seconds.
type will struct {
	msg    *mqtt.Message
	from   hooks.Identity // who left it
	delay  uint32
	expiry uint32 // counted from when it is sent; 0 for never
	due    int64  // when a waiting will is sent, core time
}

func newWill(w *mqtt.Will, from hooks.Identity) *will {
	if w == nil {
		return nil
	}
	m := &mqtt.Message{
		Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain,
		Format: w.Format, HasFormat: w.HasFormat, ContentType: w.ContentType,
		ResponseTopic: w.ResponseTopic, Correlation: w.Correlation, User: w.User,
	}
	r := &will{msg: m, from: from, delay: w.Delay}
	if w.HasExpiry {
		r.expiry = max(w.Expiry, 1)
	}
	return r
}

// append is the stored form: nothing for no will, else delay, expiry, message, and
// what the identity source said of the one who left it.
func (w *will) append(dst []byte) []byte {
	if w == nil {
		return dst
	}
	dst = binary.BigEndian.AppendUint32(dst, w.delay)
	dst = binary.BigEndian.AppendUint32(dst, w.expiry)
	dst = w.msg.Append(dst)
	verified := byte(0)
	if w.from.Verified {
		verified = 1
	}
	dst = appendString(append(dst, verified), w.from.Role)
	return appendStrings(appendStrings(dst, w.from.Groups), w.from.Tags)
}

func decodeWill(b []byte, key sessionKey) (*will, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 8 {
		return nil, errRecord
	}
	w := &will{delay: binary.BigEndian.Uint32(b), expiry: binary.BigEndian.Uint32(b[4:])}
	w.from = hooks.Identity{User: key.user, Client: key.client}
	var err error
	if w.msg, b, err = mqtt.DecodeMessage(b[8:]); err != nil {
		return nil, err
	}
	if len(b) == 0 { // of a version that kept no identity
		return w, nil
	}
	w.from.Verified = b[0] == 1
	if w.from.Role, b, err = cutString(b[1:]); err != nil {
		return nil, err
	}
	if w.from.Groups, b, err = cutStrings(b); err != nil {
		return nil, err
	}
	if w.from.Tags, _, err = cutStrings(b); err != nil {
		return nil, err
	}
	return w, nil
}

func appendStrings(dst []byte, all []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(all)))
	for _, s := range all {
		dst = appendString(dst, s)
	}
	return dst
}

func cutStrings(v []byte) (all []string, rest []byte, err error) {
	n, k := binary.Uvarint(v)
	if k <= 0 {
		return nil, nil, errRecord
	}
	for v = v[k:]; n > 0; n-- {
		var s string
		if s, v, err = cutString(v); err != nil {
			return nil, nil, err
		}
		all = append(all, s)
	}
	return all, v, nil
}

// scheduleWill sends the will after its delay, or when the session ends,
// whichever is first [MQTT-3.1.3-9].
func (c *core) scheduleWill(s *session) {
	w := s.will
	if w.delay == 0 || s.expiry == 0 {
		c.sendWill(s)
		return
	}
	w.due = c.clock.now + int64(min(w.delay, s.expiry))*1000
	c.lookLater(s)
}

// sendWill publishes the will once, as its client would: it was authorised at
// CONNECT and is asked about again, and the hooks see it. Where a Gate wants to,
// that is on a worker.
func (c *core) sendWill(s *session) {
	w := s.will
	s.will = nil
	if s.stored && !s.gone {
		c.putSession(s) // a restart must not send it again
		c.keep(nil)
	}
	m := *w.msg
	if w.expiry != 0 {
		m.Expires = c.clock.now + int64(w.expiry)*1000
	}
	if c.inTree(m.Topic) {
		m.Retain = false // nothing that a client says is kept there
	}
	p := &hooks.Publish{From: w.from, Message: &m, At: c.clock.now}
	r := &hooks.Request{Identity: &p.From, Action: hooks.Write, Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Payload: m.Payload, Will: true}
	if !c.b.hooks.gated(m.Topic) {
		c.publishWill(s, p, c.b.authorize(r))
		return
	}
	c.b.work(func() {
		err := c.b.authorize(r)
		if err == nil {
			err = c.b.gate(p)
		}
		c.mail.post(command{kind: cmdCall, call: func() { c.publishWill(s, p, err) }})
	})
}

// publishWill applies a will that may be sent, unless err says that it may not.
func (c *core) publishWill(s *session, p *hooks.Publish, err error) {
	consumed := false
	if err == nil {
		consumed, _, err = c.applyHooks(p, nil)
	}
	c.targets = c.targets[:0] // what an Applier published has left
	if err == nil && !consumed {
		_, err = c.route(p.Message, s)
	}
	if err != nil {
		c.b.stats.refused.Add(1)
		c.b.often.warn("a will was refused", "client", s.key.client, "topic", p.Message.Topic, "err", err)
	}
	c.keep(nil)
	c.release(nil, true)
	if err == nil && len(c.b.hooks.observers) > 0 {
		e := hooks.Event{Kind: hooks.Published, Identity: p.From, Message: p.Message, At: c.clock.now}
		c.emit(nil, true, effect{do: func() { c.b.observe(e) }})
	}
}
