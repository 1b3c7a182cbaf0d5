package broker

import (
	"fmt"
	"runtime/metrics"
	"strconv"
	"strings"

	"github.com/geocast/geocast/mqtt"
)

// sysPrefix is where the server tells about itself.
const sysPrefix = "$SYS/broker/"

// sys are the topics below $SYS/broker, under the names that mosquitto has made
// common. Each is told once to a new subscriber, as retained messages are, and from
// then on when it has changed, at an interval, at QoS 0. Nothing of it is stored, and
// no filter that begins with a wildcard shows it [MQTT-4.7.2-1]. Owned by the core.
type sys struct {
	told     []sysValue // what subscribers know, in order of topic
	began    int64      // core time in ms
	last     int64      // when it was told, likewise
	most     int        // clients that were connected at once
	heapMost uint64
}

type sysValue struct{ topic, text string }

// tickSys tells what has changed, when it is time.
func (c *core) tickSys() {
	every := c.cfg.SysInterval.Milliseconds()
	if every <= 0 || c.clock.now-c.sys.last < every {
		return
	}
	old := c.sys.told
	c.sys.last = c.clock.now
	c.sys.told = c.sysValues()
	for i, v := range c.sys.told {
		if old[i] == v {
			continue
		}
		c.match(v.message(), nil)
		c.release(nil, false)
	}
	clear(c.targets)
	c.targets = c.targets[:0]
}

// startSys takes the values of the start.
func (c *core) startSys() {
	if c.cfg.SysInterval > 0 {
		c.sys.began, c.sys.last = c.clock.now, c.clock.now
		c.sys.told = c.sysValues()
	}
}

// sysValues are the values of now.
func (c *core) sysValues() []sysValue {
	s := c.b.Stats()
	y := &c.sys
	heap := heapInUse()
	y.heapMost = max(y.heapMost, heap)
	n := func(topic string, v uint64) sysValue { return sysValue{sysPrefix + topic, strconv.FormatUint(v, 10)} }
	total := c.sessions.len()
	return []sysValue{
		n("bytes/received", s.BytesIn),
		n("bytes/sent", s.BytesOut),
		n("clients/connected", uint64(c.online)),
		n("clients/disconnected", uint64(total-c.online)),
		n("clients/maximum", uint64(y.most)),
		n("clients/total", uint64(total)),
		n("heap/current", heap),
		n("heap/maximum", y.heapMost),
		n("publish/messages/dropped", s.Dropped+s.Overflow+s.Expired+s.TooLarge),
		n("publish/messages/received", s.Published),
		n("publish/messages/sent", s.Delivered),
		n("retained messages/count", uint64(c.topics.Len())),
		n("shared_subscriptions/count", uint64(c.groups.Len())),
		n("subscriptions/count", uint64(c.index.Len())),
		{sysPrefix + "uptime", fmt.Sprintf("%d seconds", (c.clock.now-y.began)/1000)},
		{sysPrefix + "version", strings.TrimSpace("geocast " + c.cfg.Version)},
	}
}

func (v *sysValue) message() *mqtt.Message {
	return &mqtt.Message{Topic: v.topic, Payload: []byte(v.text)}
}

// sendSys tells a new subscription what stands, as its retained messages.
func (c *core) sendSys(s *session, filter string) {
	o, ok := c.index.Get(filter, s)
	if !ok {
		return // beyond what a session may have
	}
	for i := range c.sys.told {
		if v := &c.sys.told[i]; mqtt.Match(filter, v.topic) {
			it := item{retain: true}
			it.msg = v.message()
			it.add(o, it.msg)
			c.arrive(s, &it)
		}
	}
}

// wantsSys are the filters of a SUBSCRIBE that are to be told at once
// [MQTT-3.3.1-9, -10, -11].
func (c *core) wantsSys(s *session, p *subscription) (filters []string) {
	for _, f := range p.Filters {
		had := s.subs.has(f.Filter)
		wanted := f.RetainHandling == 0 || f.RetainHandling == 1 && !had
		if wanted && p.refused[f.Filter] == nil && strings.HasPrefix(f.Filter, "$SYS/") {
			filters = append(filters, f.Filter)
		}
	}
	return filters
}

// heapInUse is what Go's heap holds, in bytes.
func heapInUse() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
