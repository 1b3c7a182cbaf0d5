package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// What the server tells of itself comes at once to who subscribes, as retained
// messages do, and when it has changed; # does not show it, and nobody else writes it.
func TestSysTellsOfTheServer(t *testing.T) {
	_, addr := start(t, broker.Config{SysInterval: 100 * time.Millisecond, Version: "1.2.3"})
	all := dial(t, addr, mqtt.V5)
	all.connect("all")
	all.subscribe("#", 0)
	all.subscribe("+/broker/version", 0)
	c := dial(t, addr, mqtt.V5)
	c.connect("c")
	c.subscribe("$SYS/broker/version", 0)
	if m := c.want("$SYS/broker/version", "geocast 1.2.3"); !m.Retain {
		t.Error("what stood is not marked as retained")
	}
	c.quiet()
	c.subscribe("$SYS/broker/clients/+", 0)
	for told := map[string]string{}; told["connected"] != "2" || told["maximum"] != "2"; {
		m := c.message()
		told[strings.TrimPrefix(string(m.Topic), "$SYS/broker/clients/")] = string(m.Payload)
	}
	dial(t, addr, mqtt.V311).connect("third")
	for m := c.message(); string(m.Topic) != "$SYS/broker/clients/connected" || string(m.Payload) != "3"; m = c.message() {
		if m.Retain && string(m.Payload) == "3" {
			t.Error("a change is marked as retained")
		}
	}
	c.publish("$SYS/broker/version", "mine", 1, 7)
	for first, body := c.read(); ; first, body = c.read() {
		var a mqtt.Ack
		if mqtt.Type(first>>4) == mqtt.PUBLISH {
			continue
		}
		if err := a.Decode(first, body, mqtt.V5); err != nil || a.Reason != mqtt.NotAuthorized {
			t.Errorf("a client writes below $SYS: %v, %v", a, err)
		}
		break
	}
	all.quiet()
}

func TestSysCanBeSwitchedOff(t *testing.T) {
	_, addr := start(t, broker.Config{SysInterval: -1})
	c := dial(t, addr, mqtt.V311)
	c.connect("c")
	c.subscribe("$SYS/#", 0)
	c.quiet()
}
