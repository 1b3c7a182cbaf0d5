package broker_test

import (
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks/chat"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// P4: what a cid stands for is known for seven days, over a restart, and is forgotten
// then, in the real order of Gates and commits.
func TestARetryWithinSevenDaysHasNoSecondEffect(t *testing.T) {
	hook := func() []any { return []any{chat.New(&rules.Roster{}, true)} }
	simulate(t, broker.Config{Hooks: hook(), Limits: broker.Limits{InboxKeep: 1 << 62}}, func(s *sim) {
		begin := func() (ann, bob *client) {
			ann, bob = s.joins(mqtt.V311, "a", user("ann"), still), s.joins(mqtt.V5, "b", user("bob"), still)
			bob.subscribe("users/bob/inbox", 1)
			return ann, bob
		}
		say := func(c *client, topic string) {
			c.publish("users/bob/chat"+topic, "x", 1, 1)
			c.wantAck(mqtt.PUBACK, 1)
		}
		ann, bob := begin()
		say(ann, "/message-1")
		first := bob.event()
		say(ann, "/message-1")
		bob.nothing()
		pass := func(d time.Duration) { // while the broker is not there
			s.stop()
			time.Sleep(d)
			s.cfg.Hooks = hook()
			s.start()
			ann, bob = begin()
		}
		for range 2 {
			pass(3*24*time.Hour + 11*time.Hour)
			say(ann, "/message-1")
			bob.nothing()
		}
		pass(3 * time.Hour)
		say(ann, "") // forgets it
		bob.event()
		if n := memories(t, s); n != 0 {
			t.Errorf("%d memories of retries are kept", n)
		}
		say(ann, "/message-1")
		if e := bob.event(); e.Seq != first.Seq+2 {
			t.Errorf("got %+v", e)
		}
	})
}

// memories counts the records of clients' own ids in a simulated store.
func memories(t *testing.T, s *sim) (n int) {
	t.Helper()
	err := broker.HookRecords(s.mem, "chat").Scan([]byte("d"), func([]byte, []byte) bool { n++; return true })
	if err != nil {
		t.Fatal(err)
	}
	return n
}
