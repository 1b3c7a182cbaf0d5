package broker

import (
	"encoding/binary"

	"github.com/geocast/geocast/mqtt"
)

// will is a message that a session leaves behind, and its delay in seconds.
type will struct {
	msg    *mqtt.Message
	delay  uint32
	expiry uint32 // counted from when it is sent; 0 for never
	due    int64  // when a waiting will is sent, core time
}

func newWill(w *mqtt.Will) *will {
	if w == nil {
		return nil
	}
	m := &mqtt.Message{
		Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain,
		Format: w.Format, HasFormat: w.HasFormat, ContentType: w.ContentType,
		ResponseTopic: w.ResponseTopic, Correlation: w.Correlation, User: w.User,
	}
	r := &will{msg: m, delay: w.Delay}
	if w.HasExpiry {
		r.expiry = max(w.Expiry, 1)
	}
	return r
}

// append is the stored form: nothing for no will, else delay, expiry, message.
func (w *will) append(dst []byte) []byte {
	if w == nil {
		return dst
	}
	dst = binary.BigEndian.AppendUint32(dst, w.delay)
	dst = binary.BigEndian.AppendUint32(dst, w.expiry)
	return w.msg.Append(dst)
}

func decodeWill(b []byte) (*will, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 8 {
		return nil, errItem
	}
	w := &will{delay: binary.BigEndian.Uint32(b), expiry: binary.BigEndian.Uint32(b[4:])}
	var err error
	w.msg, _, err = mqtt.DecodeMessage(b[8:])
	return w, err
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
	c.timers.add(w.due, func() {
		if s.will == w && s.conn == nil {
			c.sendWill(s)
		}
	})
}

// sendWill publishes the will once; it was authorised at CONNECT and is asked
// about again.
func (c *core) sendWill(s *session) {
	w := s.will
	s.will = nil
	if !c.b.mayWrite(s.key, w.msg, true) {
		c.log.Warn("will refused", "client", s.key.client, "topic", w.msg.Topic)
		return
	}
	m := *w.msg
	if w.expiry != 0 {
		m.Expires = c.clock.now + int64(w.expiry)*1000
	}
	kept, err := c.route(&m, s)
	if err != nil {
		c.log.Warn("will refused", "client", s.key.client, "topic", m.Topic, "err", err)
	}
	if kept || s.lasting {
		c.keep(nil)
	}
	c.release(nil, true)
	c.keep(nil)
}
