package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// refused is a publish that is not taken, and why.
type refused struct {
	topic string
	qos   byte
	id    uint16
	err   error
}

// refusal is the one place where an error becomes an MQTT reason.
func refusal(err error) (reason mqtt.Reason, text string) {
	var r *hooks.Refusal
	var perr *mqtt.Error
	switch {
	case errors.As(err, &r) && r.Reason == 0:
		return mqtt.NotAuthorized, r.Text
	case errors.As(err, &r):
		return r.Reason, r.Text
	case errors.As(err, &perr):
		return perr.Reason, perr.Text
	}
	return mqtt.UnspecifiedError, ""
}

// later reports whether a refusal is for now only.
func later(err error) bool {
	var r *hooks.Refusal
	return errors.As(err, &r) && r.Later
}

// refuse answers a publish that is not taken, in its place among the
// connection's acknowledgements. MQTT 5 has reason codes for it. A 3.x client is
// acknowledged, so that it does not try for ever, and told why on its reply
// topic if the publish was into the trees; or, if trying again is right, its
// connection is closed without an acknowledgement.
func (c *core) refuse(cn *conn, kept bool, r refused) {
	reason, text := refusal(r.err)
	c.b.stats.refused.Add(1)
	if reason == mqtt.UnspecifiedError && text == "" {
		c.log.Error("a publish failed", "topic", r.topic, "client", cn.identity.Client, "err", r.err)
	}
	c.b.often.warn("a publish was refused", "topic", r.topic, "client", cn.identity.Client, "user", cn.identity.User, "reason", reason, "text", text)
	if cn.version != mqtt.V5 {
		if later(r.err) {
			c.emit(cn, kept, effect{do: func() { c.drop(cn, reason, text) }})
			return
		}
		c.replyError(cn, kept, r, reason, text)
	}
	ack := mqtt.Ack{Type: mqtt.PUBACK, ID: r.id, Reason: publishReason(reason), ReasonString: text}
	switch r.qos {
	case 0:
		return
	case 2:
		ack.Type = mqtt.PUBREC
	}
	c.emit(cn, kept, effect{conn: cn, ack: ack})
}

// refuseFilter counts and logs a filter that is not taken, and returns what its SUBACK
// says.
func (c *core) refuseFilter(cn *conn, filter string, err error) (mqtt.Reason, string) {
	reason, text := refusal(err)
	c.b.stats.refusedFilters.Add(1)
	c.b.often.warn("a subscription was refused", "filter", short(filter), "client", short(cn.identity.Client), "user", short(cn.identity.User), "reason", reason, "text", text)
	return subscribeReason(reason), text
}

// subscribeReason is a reason that SUBACK may have [MQTT-3.9.3].
func subscribeReason(r mqtt.Reason) mqtt.Reason {
	switch r {
	case mqtt.UnspecifiedError, mqtt.NotAuthorized, mqtt.TopicFilterInvalid, mqtt.QuotaExceeded:
		return r
	case mqtt.TopicNameInvalid:
		return mqtt.TopicFilterInvalid
	}
	return mqtt.ImplementationSpecificError
}

// publishReason is a reason that PUBACK and PUBREC may have [MQTT-3.4.2-1].
func publishReason(r mqtt.Reason) mqtt.Reason {
	switch r {
	case mqtt.UnspecifiedError, mqtt.NotAuthorized, mqtt.TopicNameInvalid, mqtt.QuotaExceeded, mqtt.PayloadFormatInvalid:
		return r
	}
	return mqtt.ImplementationSpecificError
}

// replyError tells a 3.x client on `users/{me}/reply` why a publish into the
// trees was refused, if it listens there.
func (c *core) replyError(cn *conn, kept bool, r refused, reason mqtt.Reason, text string) {
	s := cn.sess
	first, _, _ := strings.Cut(r.topic, "/")
	if s == nil || s.key.user == "" || len(c.trees[first]) == 0 {
		return
	}
	topic := "users/" + encodeName(s.key.user) + "/reply"
	if !s.listens(topic) {
		return
	}
	payload, err := json.Marshal(struct {
		V      int    `json:"v"`
		Type   string `json:"type"`
		Reason byte   `json:"reason"`
		Name   string `json:"name"`
		Text   string `json:"text,omitempty"`
		Topic  string `json:"topic"`
		ID     uint16 `json:"id,omitempty"`
		TS     int64  `json:"ts"`
	}{1, "err", byte(reason), reason.Name(), text, r.topic, r.id, c.clock.now})
	if err != nil {
		return // strings and numbers only: it can't be
	}
	m := &mqtt.Message{Topic: topic, Payload: payload, QoS: 1}
	c.emit(cn, kept, effect{sess: s, it: item{msg: m, qos: 1}})
}

// listens reports whether one of the session's own filters matches a topic.
func (s *session) listens(topic string) bool {
	for _, o := range s.subs {
		if mqtt.Match(o.filter, topic) {
			return true
		}
	}
	return false
}

// publishable refuses a topic that a client can't publish to, whatever its rights:
// one that is out of bounds, or the server's own.
func (b *Broker) publishable(topic string) error {
	if text := b.cfg.Limits.outOfBounds(topic); text != "" {
		return &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: text}
	}
	return b.serversOwn(topic)
}

// outOfBounds says which bound a topic name or filter is beyond, if it is.
func (l *Limits) outOfBounds(topic string) string {
	switch {
	case len(topic) > l.Topic:
		return fmt.Sprintf("a topic has at most %d bytes here", l.Topic)
	case strings.Count(topic, "/") >= l.TopicLevels:
		return fmt.Sprintf("a topic has at most %d levels here", l.TopicLevels)
	}
	return ""
}

// serversOwn refuses what only the server publishes: its own topics, and events of
// an inbox.
func (b *Broker) serversOwn(topic string) error {
	switch {
	case strings.HasPrefix(topic, "$SYS/") || strings.HasPrefix(topic, "$share/"):
		return &hooks.Refusal{Reason: mqtt.NotAuthorized, Text: "$SYS and $share are the server's"}
	case b.core.inboxes && mqtt.Match("users/+/inbox", topic):
		return &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: "an inbox is written by the server; publish to users/{me}/location or users/{peer}/chat"}
	}
	return nil
}

// refuseEarly answers a publish that was refused before the core. It was sent,
// so it counts against the client's Receive Maximum until it is answered.
func (c *core) refuseEarly(cn *conn, r refused) {
	if _, again := cn.sess.in2[r.id]; again && r.qos == 2 { // it was taken when it came first
		c.emit(cn, false, effect{conn: cn, ack: mqtt.Ack{Type: mqtt.PUBREC, ID: r.id}})
		return
	}
	if r.qos > 0 {
		cn.unacked++
	}
	c.refuse(cn, false, r)
}
