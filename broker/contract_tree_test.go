package broker_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// boom owns a tree at which it panics.
type boom struct{}

func (boom) Trees() []string            { return []string{"boom"} }
func (boom) MaySee(string, string) bool { panic("boom") }

func treesAreGuarded(t *testing.T) {
	var asked list
	sees := &tree{"own", func(user, topic string) bool { asked.add(user + " " + topic); return user != "eve" }}
	also := &tree{"own other", func(user, topic string) bool { return user != "bob" }}
	b, addr := start(t, broker.Config{Hooks: []any{sees, also}})
	names := []string{"ann", "bob", "eve", ""}
	all := map[string]*client{}
	for _, name := range names {
		c := join(t, addr, "c"+name, func(p *mqtt.Connect) {
			if name != "" {
				user(name)(p)
			} else {
				p.ClientID = ""
			}
		})
		for _, f := range []string{"own/+", "#", "+/x", "plain/#"} {
			c.subscribe(f, 0)
		}
		all[name] = c
	}
	sees.levels = "plain" // read at start
	pub(t, b, &mqtt.Message{Topic: "own/x", Payload: []byte("1")})
	pub(t, b, &mqtt.Message{Topic: "plain/x", Payload: []byte("2")})
	for _, name := range names {
		c := all[name]
		if name == "ann" || name == "" {
			c.want("own/x", "1")
		}
		c.want("plain/x", "2")
	}
	for _, q := range asked.take() {
		if _, topic, _ := strings.Cut(q, " "); topic != "own/x" {
			t.Errorf("asked about %q", q)
		}
	}
	all["ann"].publish("own/y", "mine", 0, 0)
	all[""].want("own/y", "mine")
	all["ann"].publish("plain/y", "mine", 0, 0)
	all["ann"].want("plain/y", "mine") // and nothing before it
}

func treesKeepNoWill(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{&tree{"own", func(string, string) bool { return true }}}})
	sub := join(t, addr, "sub")
	for _, row := range []struct {
		filter  string
		granted byte
	}{{"own/x", 1}, {"own/#", 1}, {"$share/g/own/x", 1}, {"plain", 2}} {
		sub.send(mqtt.AppendSubscribe(nil, &mqtt.Subscribe{ID: 1, Filters: []mqtt.Subscription{{Filter: row.filter, QoS: 2}}}, sub.v))
		_, body := sub.read()
		if a, err := mqtt.DecodeSuback(body, sub.v); err != nil || a.Reasons[0] != mqtt.Reason(row.granted) {
			t.Errorf("%s: %+v, %v", row.filter, a, err)
		}
	}
	sub = join(t, addr, "sub2")
	sub.subscribe("own/x", 1)
	c := join(t, addr, "c", func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "own/x", Payload: []byte("bye"), Retain: true} })
	c.nc.Close()
	sub.want("own/x", "bye")
	late := join(t, addr, "late")
	late.subscribe("own/x", 1)
	late.quiet()
}

func consentEndsInOrder(t *testing.T) {
	var consent atomic.Bool
	ends := &applier{name: "a", filters: "consent", apply: func(_ hooks.Tx, p *hooks.Publish) error {
		consent.Store(string(p.Message.Payload) == "yes")
		return nil
	}}
	b, addr := start(t, broker.Config{Hooks: []any{ends, &tree{"own", func(string, string) bool { return consent.Load() }}}})
	sub, c := join(t, addr, "sub", lasting), join(t, addr, "c")
	sub.subscribe("own/x", 1)
	sub.nc.Close() // what it may see waits for it
	for i, m := range []string{"0", "yes", "1", "no", "2", "yes", "3"} {
		topic := "own/x"
		if len(m) > 1 {
			topic = "consent"
		}
		c.publish(topic, m, 1, uint16(i+1))
	}
	for i := range 7 {
		c.wantAck(mqtt.PUBACK, uint16(i+1))
	}
	pub(t, b, &mqtt.Message{Topic: "own/kept", Payload: []byte("r"), Retain: true})
	c.say("consent", "no")
	sub = join(t, addr, "sub", lasting)
	sub.want("own/x", "1")
	sub.want("own/x", "3")
	sub.subscribe("own/kept", 1)
	sub.quiet()
	c.say("consent", "yes")
	sub.subscribe("own/kept", 1)
	sub.want("own/kept", "r")
}

// wideTreesAreSeen: by filters that begin with a wildcard, live, retained and in turns,
// for as long as the hook says so.
func wideTreesAreSeen(t *testing.T) {
	var withdrawn atomic.Bool
	wide := wideTree{&tree{"own both", func(_, topic string) bool { return topic != "own/secret" }}, func(user, filter string) bool {
		return user != "bob" && filter == "#" && !withdrawn.Load()
	}}
	narrow := &tree{"both", func(string, string) bool { return true }}
	log := &logText{}
	b, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{wide, narrow}})
	for _, topic := range []string{"own/kept", "own/secret", "both/kept"} {
		pub(t, b, &mqtt.Message{Topic: topic, Payload: []byte("r"), Retain: true})
	}
	listen := func(id, name, filter string) *client {
		c := join(t, addr, id, user(name))
		c.subscribe(filter, 1)
		return c
	}
	ann, bob, other := listen("1", "ann", "#"), listen("2", "bob", "#"), listen("3", "ann", "+/x")
	alone, mixed, mixedWith := listen("4", "eve", "$share/one/#"), listen("5", "ann", "$share/two/#"), listen("6", "bob", "$share/two/#")
	ann.want("own/kept", "r")
	for _, topic := range []string{"own/x", "own/secret", "both/x"} {
		pub(t, b, &mqtt.Message{Topic: topic, Payload: []byte("1"), QoS: 1})
	}
	withdrawn.Store(true)
	pub(t, b, &mqtt.Message{Topic: "own/x", Payload: []byte("2"), QoS: 1})
	ann.want("own/x", "1")
	alone.want("own/x", "1")
	for _, c := range []*client{ann, bob, other, alone, mixed, mixedWith} {
		c.quiet()
	}
	for _, line := range []string{"user=ann filter=# trees=both", `user=bob filter=# trees="both own"`} {
		if !log.have(line) {
			t.Errorf("the log does not say %s", line)
		}
	}
}
