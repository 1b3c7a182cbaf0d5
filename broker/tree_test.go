package broker_test

import (
	"testing"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
)

// Who subscribes to # and wonders why nothing of the trees comes finds a line in the
// log, one for each session.
func TestAFilterThatDoesNotSeeTheTreesIsLoggedOncePerSession(t *testing.T) {
	for _, row := range []struct {
		name    string
		trees   string
		filters []string
		lines   int
	}{
		{"everything", "own other", []string{"#"}, 1},
		{"any first level", "own", []string{"+/x"}, 1},
		{"in turns", "own", []string{"$share/g/#"}, 1},
		{"several", "own", []string{"+/x", "#", "own/x", "+/y", "#"}, 1},
		{"a wildcard further on", "own", []string{"own/#", "own/+", "plain/#", "$share/g/own/+"}, 0},
		{"no trees", "", []string{"#", "+/x"}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			log := &logText{}
			hook := &tree{row.trees, func(string, string) bool { return true }}
			_, addr := start(t, broker.Config{Log: log.logger(), Hooks: []any{hook}})
			for sessions := range 2 {
				for range 2 { // once more in the same session
					c := join(t, addr, "c"+string(rune('0'+sessions)), lasting)
					for _, f := range row.filters {
						c.subscribe(f, 1)
					}
					c.nc.Close()
				}
				if n := log.count("does not see the topic trees"); n != row.lines*(sessions+1) {
					t.Errorf("%d lines after %d sessions", n, sessions+1)
				}
			}
			if want := `client=c0 user=c0 filter=` + row.filters[0]; row.lines > 0 && !log.have(want) {
				t.Errorf("no line has %q", want)
			}
		})
	}
}

// Beside the trees such a filter is as any other.
func TestAFilterThatDoesNotSeeTheTreesSeesAllElse(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{&tree{"own", func(string, string) bool { return true }}}})
	c, p := join(t, addr, "c"), join(t, addr, "p")
	for _, f := range []string{"#", "$share/g/+/x"} {
		c.subscribe(f, 1)
	}
	p.publish("own/x", "of the tree", 1, 1)
	p.wantAck(mqtt.PUBACK, 1)
	p.publish("else/x", "plain", 1, 2)
	p.wantAck(mqtt.PUBACK, 2)
	c.want("else/x", "plain")
	c.want("else/x", "plain") // by both
	c.quiet()
}
