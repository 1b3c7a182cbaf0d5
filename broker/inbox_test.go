package broker_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// teller is an Applier: what is published on tell/{user} becomes an event in the
// user's inbox; a payload of "soon" expires after a moment.
type teller struct{}

func (teller) Name() string                      { return "teller" }
func (teller) Filters() []string                 { return []string{"tell/+"} }
func (teller) Restore(hooks.Reader, int64) error { return nil }
func (teller) Tick(hooks.Tx) int64               { return 0 }
func (teller) Apply(tx hooks.Tx, p *hooks.Publish) (hooks.Verdict, error) {
	expires := int64(0)
	look := func(hooks.Reader) {}
	switch p.Message.Topic {
	case "tell/panic":
		panic("as it was told to")
	case "tell/panic-read":
		look = func(hooks.Reader) { panic("as it was told to") }
		fallthrough
	case "tell/panic-then":
		tx.Read(look, func(hooks.Tx) { panic("as it was told to") })
		return hooks.Consume, nil
	}
	if string(p.Message.Payload) == "soon" {
		expires = tx.Now() + 1
	}
	return hooks.Consume, tx.Inbox(p.Message.Topic[len("tell/"):], expires, func(dst []byte, at hooks.Place) []byte {
		return fmt.Appendf(dst, `{"seq":%d,"epoch":%q,"type":"msg","body":%q}`, at.Seq, at.Epoch, p.Message.Payload)
	})
}

type event struct {
	Seq, To     int
	Epoch, Type string
	Body, Why   string
}

func user(name string) func(*mqtt.Connect) {
	return func(p *mqtt.Connect) { p.HasUsername, p.Username = true, name }
}

// event reads the next inbox event and acknowledges it.
func (c *client) event() (e event) {
	c.t.Helper()
	p := c.message()
	if err := json.Unmarshal(p.Payload, &e); err != nil {
		c.t.Fatalf("%s: %v", p.Payload, err)
	}
	if p.QoS == 1 {
		c.ack(mqtt.PUBACK, p.ID)
	}
	return e
}

func tell(t testing.TB, c *client, to, body string) {
	t.Helper()
	c.publish("tell/"+to, body, 1, 1)
	if a := c.wantAck(mqtt.PUBACK, 1); a.Reason >= 0x80 {
		t.Fatalf("refused: %v %s", a.Reason, a.ReasonString)
	}
}

func TestAnInboxOverItsBoundTellsOfTheGap(t *testing.T) {
	cfg := broker.Config{Data: t.TempDir(), Hooks: []any{teller{}}, Limits: broker.Limits{InboxEvents: 5}}
	b, addr := start(t, cfg)
	p := dial(t, addr, mqtt.V5)
	p.connect("p")
	d := dial(t, addr, mqtt.V311)
	d.connect("phone", user("ann"), lasting)
	d.subscribe("users/ann/inbox", 1)
	tell(t, p, "ann", "first")
	if e := d.event(); e.Seq != 1 || e.Body != "first" {
		t.Fatalf("got %+v", e)
	}
	d.quiet() // the acknowledgement is in
	d.nc.Close()
	for i := range 12 {
		tell(t, p, "ann", fmt.Sprint(i))
	}
	if err := b.Close(); err != nil { // the sweep is in, too
		t.Fatal(err)
	}
	_, addr = start(t, cfg)
	d = dial(t, addr, mqtt.V311)
	d.connect("phone", user("ann"), lasting)
	e := d.event()
	if e.Type != "gap" || e.Seq != 2 || e.To < 2 || e.Why != "retention" {
		t.Fatalf("got %+v, want a gap from 2", e)
	}
	for seq := e.To + 1; seq <= 13; seq++ {
		if e := d.event(); e.Seq != seq || e.Type != "msg" || e.Body != fmt.Sprint(seq-2) {
			t.Fatalf("got %+v, want %d", e, seq)
		}
	}
	d.quiet()
}

func TestAnExpiredEventLeavesAGap(t *testing.T) {
	simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) {
		p := s.joins(mqtt.V5, "p")
		tell(s.t, p, "ann", "soon")
		tell(s.t, p, "ann", "stays")
		time.Sleep(time.Second)
		d := s.joins(mqtt.V5, "phone", user("ann"))
		d.subscribe("users/ann/inbox", 1)
		if e := d.event(); e.Type != "gap" || e.Seq != 1 || e.To != 1 || e.Why != "expired" {
			s.t.Errorf("got %+v", e)
		}
		if e := d.event(); e.Seq != 2 || e.Body != "stays" {
			s.t.Errorf("got %+v", e)
		}
	})
}

func TestAUserHasAtMost16DevicesAndTheLongestIdleGoes(t *testing.T) {
	_, addr := start(t, broker.Config{Hooks: []any{teller{}}})
	p := dial(t, addr, mqtt.V5)
	p.connect("p")
	tell(t, p, "ann", "1")
	for i := range 17 {
		d := dial(t, addr, mqtt.V5)
		d.connect(fmt.Sprint("dev", i), user("ann"), lasting)
		d.subscribe("users/ann/inbox", 1)
		if i == 0 {
			d.event()
		}
		d.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, mqtt.V5))
		d.next(time.Second) //nolint:errcheck // the connection closes
	}
	tell(t, p, "ann", "2")
	d := dial(t, addr, mqtt.V5)
	d.connect("dev16", user("ann"), lasting)
	if e := d.event(); e.Seq != 2 {
		t.Errorf("a device that is known got %+v", e)
	}
	d = dial(t, addr, mqtt.V5)
	d.connect("dev0", user("ann"), lasting)
	d.quiet() // it was the longest idle, and begins at the head
}

// An inbox is bounded by its events, its bytes and their age: the oldest go, counted, and a
// gap tells a device that had not read them.
func TestAnInboxIsBoundedByEventsBytesAndAge(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits broker.Limits
		wait   time.Duration
	}{
		{"events", broker.Limits{InboxEvents: 20}, 0},
		{"bytes", broker.Limits{InboxBytes: 20_000}, 0},
		{"age", broker.Limits{InboxKeep: 24 * time.Hour}, 26 * time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			simulate(t, broker.Config{Hooks: []any{teller{}}, Limits: row.limits}, func(s *sim) {
				d := s.joins(mqtt.V5, "phone", user("ann"), month)
				d.subscribe("users/ann/inbox", 1)
				d.nc.Close()
				p := s.joins(mqtt.V5, "p", still)
				for i := range 100 {
					tell(t, p, "ann", fmt.Sprintf("%d %*d", i, 1000, 0))
				}
				time.Sleep(time.Second + row.wait)
				for i := range 2 { // young ones
					tell(t, p, "ann", fmt.Sprintf("young %d", i))
				}
				time.Sleep(time.Minute)
				d = s.joins(mqtt.V5, "phone", user("ann"), month)
				gap := d.event()
				if gap.Type != "gap" || gap.Seq != 1 || gap.To < 75 || gap.To > 100 || gap.Why != "retention" {
					t.Fatalf("got %+v, want a gap from 1", gap)
				}
				if n := s.b.Stats().InboxCut; n != uint64(gap.To) {
					t.Errorf("%d are counted, the gap ends at %d", n, gap.To)
				}
				for seq := gap.To + 1; seq <= 102; seq++ {
					if e := d.event(); e.Seq != seq || e.Type != "msg" {
						t.Fatalf("got %+v, want %d", e, seq)
					}
				}
				d.nothing()
			})
		})
	}
}
