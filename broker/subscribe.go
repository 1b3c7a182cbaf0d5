package broker

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// subscribe applies a SUBSCRIBE that was validated and authorised: refused
// filters carry their reason in the request.
func (c *core) subscribe(s *session, p *subscription) bool {
	if c.full() && (s.writes() || slices.ContainsFunc(p.Filters, func(f mqtt.Subscription) bool { return c.isInbox(s, f.Filter) })) {
		return false
	}
	cn := s.conn
	ack := mqtt.Suback{ID: p.ID}
	if p.rights != c.b.rights.Load() {
		c.askAgain(cn, p)
	}
	var fresh []*replay
	system := c.wantsSys(s, p)
	for _, f := range p.Filters {
		granted, r, err := c.subscribeOne(s, f, p)
		reason, text := mqtt.Reason(granted), ""
		if err != nil {
			reason, text = c.refuseFilter(cn, f.Filter, err)
		}
		ack.Reasons = append(ack.Reasons, reason)
		ack.ReasonString = cmp.Or(ack.ReasonString, text)
		if r != nil {
			fresh = append(fresh, r)
		}
	}
	if cn.mute || !cn.takes(len(ack.ReasonString)+len(p.Filters)) {
		ack.ReasonString = ""
	}
	kept := s.lasting || s.inbox != nil
	if kept {
		c.keep(cn)
	}
	c.emit(cn, kept, effect{do: func() {
		c.write(cn, func(dst []byte) []byte { return mqtt.AppendSuback(dst, &ack, cn.version) })
		if s.active != nil && s.inbox != nil {
			s.inbox.quiet = false
		}
		c.startReplays(s, cn, fresh)
		for _, f := range system {
			c.sendSys(s, f)
		}
		c.pump(s)
	}})
	return true
}

// subscribeOne makes or replaces one subscription of a SUBSCRIBE [MQTT-3.8.4-3].
func (c *core) subscribeOne(s *session, f mqtt.Subscription, p *subscription) (granted byte, r *replay, err error) {
	if no := p.refused[f.Filter]; no != nil {
		return 0, nil, no
	}
	had := s.subs.has(f.Filter)
	switch {
	case had:
	case len(s.subs) >= c.cfg.Limits.Subscriptions:
		return 0, nil, &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the session has as many filters as it may"}
	case c.b.crowded.Load():
		return 0, nil, errNoMemory
	}
	if c.isInbox(s, f.Filter) && s.inbox == nil {
		if err := c.mayOpenInbox(s); err != nil {
			return 0, nil, err
		}
	}
	_, inside, shared, _ := mqtt.ParseShared(f.Filter)
	if !shared {
		inside = f.Filter
	}
	if c.inTree(inside) {
		f.QoS = min(f.QoS, 1)
	}
	c.tellBlind(s, f.Filter, inside)
	o := subOptions{qos: f.QoS, noLocal: f.NoLocal, asRetain: f.RetainAsPublished, id: p.SubID, retainHow: f.RetainHandling}
	s.subs.set(f.Filter, o)
	if s.lasting {
		c.cur.w.Put(tableSub, append(be8(s.id), f.Filter...), o.append(nil))
	}
	if shared {
		c.join(s, f.Filter, o)
		return f.QoS, nil, nil // no retained messages [MQTT-3.3.1-9 note, 4.8.2]
	}
	if c.isInbox(s, f.Filter) {
		c.openInbox(s)
		c.keep(s.conn)
		if f.Filter == inboxTopic(s.key.user) {
			return f.QoS, nil, nil
		}
	}
	c.index.Set(f.Filter, s, o)
	if f.RetainHandling == 2 || f.RetainHandling == 1 && had {
		s.retune(f.Filter, o)
		return f.QoS, nil, nil
	}
	return f.QoS, c.newReplay(s, f.Filter, o), nil
}

// unsubscribe applies an UNSUBSCRIBE.
func (c *core) unsubscribe(s *session, p *mqtt.Unsubscribe) bool {
	if c.full() && s.writes() {
		return false
	}
	cn := s.conn
	ack := mqtt.Unsuback{ID: p.ID}
	for _, f := range p.Filters {
		reason := mqtt.NoSubscriptionExisted
		if s.subs.has(f) {
			reason = mqtt.Success
			c.dropFilter(s, f)
		}
		ack.Reasons = append(ack.Reasons, reason)
	}
	if s.lasting {
		c.keep(cn)
	}
	c.emit(cn, s.lasting, effect{do: func() {
		c.write(cn, func(dst []byte) []byte { return mqtt.AppendUnsuback(dst, &ack, cn.version) })
	}})
	return true
}

// dropFilter takes one filter from the session, out of the index and the store.
func (c *core) dropFilter(s *session, filter string) {
	s.wake()
	s.subs.remove(filter)
	if _, _, shared, _ := mqtt.ParseShared(filter); shared {
		c.leave(s, filter)
	} else {
		c.index.Delete(filter, s)
		if s.replays.remove(filter); !s.gone { // else an erasure does the rest
			c.dropReplay(s, filter)
		}
		if s.inbox != nil && c.isInbox(s, filter) {
			c.leaveInbox(s)
		}
	}
	if s.lasting {
		c.cur.w.Delete(tableSub, append(be8(s.id), filter...))
	}
}

// append is the stored form: kind, version, QoS and flags, identifier.
func (o subOptions) append(dst []byte) []byte {
	flags := o.qos | o.retainHow<<4
	if o.noLocal {
		flags |= 4
	}
	if o.asRetain {
		flags |= 8
	}
	return binary.BigEndian.AppendUint32(append(dst, 'B', 1, flags), o.id)
}

func decodeSubOptions(v []byte) (o subOptions, err error) {
	if err := checkRecord(v, 'B', 7); err != nil {
		return o, err
	}
	f := v[2]
	o = subOptions{qos: f & 3, noLocal: f&4 != 0, asRetain: f&8 != 0, retainHow: f >> 4 & 3}
	o.id = binary.BigEndian.Uint32(v[3:])
	if o.qos == 3 {
		return o, errRecord
	}
	return o, nil
}
