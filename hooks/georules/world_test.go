package georules_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// A world is a broker as a hook sees it: its records, its clock, and what it sent.
type world struct {
	t        *testing.T
	hook     *georules.Hook
	set      *rules.Set
	now      int64
	records  records
	retained map[string]string
	inbox    map[string][]string
	replies  []string
	log      []string // what was published, in order
	// by the last call
	puts, deletes, published int
}

var (
	_ hooks.Tx     = (*world)(nil)
	_ hooks.Reader = records{}
)

const start = int64(1_790_000_000_000)

func newWorld(t *testing.T, text string, people ...rules.Person) *world {
	t.Helper()
	set, err := rules.Parse("rules.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, set: set, now: start, records: records{}, retained: map[string]string{}, inbox: map[string][]string{}}
	w.hook = georules.New(set, rules.NewRoster(people))
	return w
}

// restart goes on with a new hook from the records.
func (w *world) restart() {
	w.t.Helper()
	h := georules.New(w.set, rules.NewRoster(nil))
	h.Keep, h.Fixes = w.hook.Keep, w.hook.Fixes
	if err := h.Restore(w.records, w.now); err != nil {
		w.t.Fatal(err)
	}
	w.hook = h
}

// publish is a publish of user from a client called dev.
func (w *world) publish(user, topic, payload string) error {
	w.puts, w.deletes, w.published = 0, 0, 0
	p := &hooks.Publish{From: hooks.Identity{User: user, Client: "dev"}, Message: &mqtt.Message{Topic: topic, Payload: []byte(payload)}, At: w.now}
	if err := w.hook.Gate(context.Background(), p, w.records); err != nil {
		return err
	}
	_, err := w.hook.Apply(w, p)
	return err
}

func (w *world) must(user, topic, payload string) {
	w.t.Helper()
	if err := w.publish(user, topic, payload); err != nil {
		w.t.Fatal(err)
	}
}

// Read is not for these tests.
func (w *world) Read(func(hooks.Reader), func(hooks.Tx)) {}

// told is what was published on topics that begin so, one a line.
func (w *world) told(prefix string) string {
	var lines []string
	for _, line := range w.log {
		if strings.HasPrefix(line, prefix) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// pass lets time pass, with a tick at its end until nothing is left to do.
func (w *world) pass(d time.Duration) (ticks int) {
	w.now += d.Milliseconds()
	for {
		w.deletes = 0
		ticks++
		if next := w.hook.Tick(w); next == 0 {
			return ticks
		} else if next <= w.now {
			w.t.Fatalf("a tick that wants to be called at once: %d at %d", next, w.now)
		} else {
			w.now = next
		}
	}
}

// kept returns the kept fixes as text.
func (w *world) kept(q georules.Query) string {
	w.t.Helper()
	fixes := fixesOf(w.t, w.records, q)
	var lines []string
	for _, f := range fixes {
		lines = append(lines, fmt.Sprintf("%s/%s %g %d", f.Who, f.Tracker, f.Lat, (f.Tst-start)/1000))
	}
	return strings.Join(lines, ", ")
}

func (w *world) Now() int64                    { return w.now }
func (w *world) Put(key, value []byte)         { w.records[string(key)] = slices.Clone(value); w.puts++ }
func (w *world) Delete(key []byte)             { delete(w.records, string(key)); w.deletes++ }
func (w *world) Reply(m *mqtt.Message)         { w.replies = append(w.replies, m.Topic+" "+string(m.Payload)) }
func (w *world) Get(key []byte) ([]byte, bool) { v, ok := w.records[string(key)]; return v, ok }
func (w *world) at(offset int) string          { return fmt.Sprint(start/1000 + int64(offset)) }
func (w *world) fix(lat float64, o int) string {
	return fmt.Sprintf(`{"lat":%g,"lon":11,"tst":%s}`, lat, w.at(o))
}

// records are the store as a hook reads it.
type records map[string][]byte

func (r records) Get(key []byte) ([]byte, bool, error) {
	v, ok := r[string(key)]
	return v, ok, nil
}

func (r records) Scan(prefix []byte, fn func(key, value []byte) bool) error {
	for _, k := range slices.Sorted(maps.Keys(r)) {
		if strings.HasPrefix(k, string(prefix)) && !fn([]byte(k), r[k]) {
			return nil
		}
	}
	return nil
}

func (w *world) Inbox(user string, _ int64, encode func([]byte, hooks.Place) []byte) error {
	seq := uint64(len(w.inbox[user]) + 1)
	w.inbox[user] = append(w.inbox[user], string(encode(nil, hooks.Place{Seq: seq, Epoch: "e"})))
	return nil
}

func (w *world) Inboxes(users []string, expires int64, event []byte) error {
	for _, user := range users {
		err := w.Inbox(user, expires, func(dst []byte, at hooks.Place) []byte {
			return fmt.Appendf(dst, `{"v":1,"seq":%d,"epoch":%q,%s`, at.Seq, at.Epoch, event[len(`{"v":1,`):])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) Publish(m *mqtt.Message) {
	w.published++
	w.log = append(w.log, m.Topic+" "+string(m.Payload))
	switch {
	case !m.Retain:
	case len(m.Payload) == 0:
		delete(w.retained, m.Topic)
	default:
		w.retained[m.Topic] = string(m.Payload)
	}
}
