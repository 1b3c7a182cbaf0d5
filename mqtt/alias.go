package mqtt

import "time"

// Aliases is the table of topic aliases that a client has set up on one
// connection [MQTT-3.3.2.3.4]. The zero value takes none.
type Aliases struct {
	max    uint16
	topics map[uint16][]byte
}

// NewAliases returns a table for aliases from 1 to most.
func NewAliases(most uint16) Aliases { return Aliases{max: most} }

// Resolve puts the topic of p's alias in its place, or notes a new one. It fails
// with an *Error for an alias that is too high or was never set.
func (a *Aliases) Resolve(p *Publish) error {
	id := p.Props.Alias
	if id == 0 {
		return nil
	}
	if id > a.max {
		return &Error{TopicAliasInvalid, "MQTT-3.3.2-9", "the topic alias is above the server's maximum"}
	}
	if len(p.Topic) == 0 {
		t, ok := a.topics[id]
		if !ok {
			return protocolError("MQTT-3.3.4-2", "the topic alias was never set")
		}
		p.Topic = t
		return nil
	}
	if a.topics == nil {
		a.topics = make(map[uint16][]byte)
	}
	a.topics[id] = append([]byte(nil), p.Topic...)
	return nil
}

// KeepAliveLimit is how long a client with this keep alive, in seconds, may be
// silent: one and a half times as long; 0 means for ever [MQTT-3.1.2-22].
func KeepAliveLimit(seconds uint16) time.Duration {
	return time.Duration(seconds) * 3 * time.Second / 2
}

// OutAliases are the topic aliases that a server sets up towards one client
// [MQTT-3.3.2.3.4]. Which topics have one is by recency: when all aliases are
// taken, the topic that was sent longest ago gives its own up. The zero value
// uses none.
type OutAliases struct {
	slots []outAlias
	clock uint64
	max   uint16
}

type outAlias struct {
	topic string
	used  uint64
}

// NewOutAliases returns a table for aliases from 1 to most, the client's Topic
// Alias Maximum or a lower bound of the server's own.
func NewOutAliases(most uint16) OutAliases { return OutAliases{max: most} }

// Use returns the alias under which topic is sent now. known means that the
// client has it, so that the topic itself can be left out; else the packet
// carries both. 0 means none. It must be called once for each PUBLISH that is
// sent, in the order of sending.
func (a *OutAliases) Use(topic string) (alias uint16, known bool) {
	if a.max == 0 {
		return 0, false
	}
	a.clock++
	oldest := 0
	for i := range a.slots {
		if a.slots[i].topic == topic {
			a.slots[i].used = a.clock
			return uint16(i + 1), true
		}
		if a.slots[i].used < a.slots[oldest].used {
			oldest = i
		}
	}
	if len(a.slots) < int(a.max) {
		a.slots = append(a.slots, outAlias{topic, a.clock})
		return uint16(len(a.slots)), false
	}
	a.slots[oldest] = outAlias{topic, a.clock}
	return uint16(oldest + 1), false
}
