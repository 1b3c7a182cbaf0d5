package broker_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// What the broker itself tells is written as docs/wire.md has it, but for the epoch, the
// time and how far a gap goes.
func TestWireDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	varies := regexp.MustCompile(`"epoch":"[^"]*"|"ts":\d+|"to":\d+`)
	page := "\n" + varies.ReplaceAllString(string(text), "") + "\n"
	has := func(line []byte) {
		t.Helper()
		if !strings.Contains(page, "\n"+varies.ReplaceAllString(string(line), "")+"\n") {
			t.Errorf("the page does not have %s", line)
		}
	}
	own := &tree{"users", func(string, string) bool { return true }}
	no := authorizer(func(r *hooks.Request) error {
		if r.Topic != "users/ann/location" {
			return nil
		}
		return &hooks.Refusal{Reason: mqtt.TopicNameInvalid, Text: "publish your own location to users/tim/location[/{tracker}]"}
	})
	simulate(t, broker.Config{Hooks: []any{teller{}, own, no}}, func(s *sim) {
		p := s.joins(mqtt.V5, "p")
		for _, body := range []string{"1", "2", "3", "4", "soon", "6"} {
			tell(s.t, p, "tim", body)
		}
		time.Sleep(time.Second)
		d := s.joins(mqtt.V311, "watch", user("tim"))
		d.subscribe("users/tim/inbox", 0)
		for range 4 {
			d.message()
		}
		has(d.message().Payload) // the gap
		d.message()
		d.subscribe("users/tim/reply", 0)
		d.publish("users/ann/location", "{}", 1, 7)
		has(d.message().Payload)
		d.wantAck(mqtt.PUBACK, 7)
	})
}
