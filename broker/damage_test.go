package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// kindsOfRecords are what a broker keeps, with what a start says of one that is
// garbage, of a newer version, or missing: damaged (told, counted, gone without), refused,
// or nothing, since it is read later or may be missing.
var kindsOfRecords = []struct {
	name                    string
	table                   store.Table
	log                     byte
	garbage, newer, missing string
}{
	{"session", 0x20, 0, "damaged", "refused", ""}, // Session Present 0 tells its client
	{"subscription", 0x21, 0, "damaged", "refused", ""},
	{"QoS 2 received", 0x22, 0, "", "", ""}, // all of it is in its key
	{"window", 0x23, 0, "", "", ""},         // read at CONNECT
	{"QoS 2 sent", 0x24, 0, "", "", ""},     // read at CONNECT
	{"retained message", 0x25, 0, "damaged", "refused", ""},
	{"core", 0x26, 0, "refused", "refused", "refused"},
	{"message", 0x27, 0, "damaged", "refused", "damaged"}, // missing: to the fan-out that waits for it
	{"inbox", 0x28, 0, "damaged", "refused", ""},
	{"cursor", 0x29, 0, "damaged", "refused", ""},
	{"shared subscription", 0x2b, 0, "damaged", "refused", "damaged"},
	{"fan-out", 0x2d, 0, "damaged", "refused", ""},
	{"fan-out's progress", 0x2e, 0, "damaged", "refused", ""},
	{"replay", 0x2f, 0, "damaged", "refused", ""},
	{"QoS 2 arrived", 0x30, 0, "", "", ""}, // all of it is in its key
	{"age", 0x31, 0, "damaged", "refused", ""},
	{"queue", 0, 'q', "damaged", "refused", ""},
	{"shared queue", 0, 'g', "damaged", "refused", ""},
	{"inbox event", 0, 'i', "", "", ""}, // read by its devices
}

// full is a store with a record of every kind.
func full(t testing.TB) *store.Memory {
	mem := store.NewMemory()
	b, err := broker.NewOver(ageless(""), mem)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, b)
	var w store.Batch
	for _, r := range rare(t, mem) {
		r.put(&w, r.value)
	}
	w.Put(0x31, []byte(be8(1)), []byte("A\x01"+be8(1)))
	w.Put(0x30, []byte(be8(1)+be8(1)+"\x00\x00"), []byte("D\x01"))
	if err := mem.Commit(&w); err != nil {
		t.Fatal(err)
	}
	return mem
}

// first is the first record of a kind.
func first(t *testing.T, st store.Store, table store.Table, log byte) (put func(w *store.Batch, v []byte), gone func(w *store.Batch), value []byte) {
	t.Helper()
	var err error
	if log != 0 {
		err = st.Logs(log, func(id uint64, at store.Pos, v []byte) bool {
			l := store.Log{Kind: log, ID: id}
			put, gone = func(w *store.Batch, v []byte) { w.Append(l, at, v) }, func(w *store.Batch) { w.Remove(l, at) }
			value = append([]byte(nil), v...)
			return false
		})
	} else {
		err = st.Scan(table, nil, nil, func(key, v []byte) store.Next {
			key = append([]byte(nil), key...)
			put, gone = func(w *store.Batch, v []byte) { w.Put(table, key, v) }, func(w *store.Batch) { w.Delete(table, key) }
			value = append([]byte(nil), v...)
			return store.Stop
		})
	}
	if err != nil || put == nil {
		t.Fatalf("there is no such record: %v", err)
	}
	return put, gone, value
}

func TestDamageDoesNotKeepABrokerFromStarting(t *testing.T) {
	mem := full(t)
	for _, kind := range kindsOfRecords {
		put, gone, value := first(t, mem, kind.table, kind.log)
		newer := append([]byte{value[0], 9}, value[2:]...)
		for _, test := range []struct {
			name string
			do   func(w *store.Batch)
			want string
		}{
			{"garbage", func(w *store.Batch) { put(w, []byte("?garbage, and long enough to be anything")) }, kind.garbage},
			{"empty", func(w *store.Batch) { put(w, nil) }, kind.garbage},
			{"cut", func(w *store.Batch) { put(w, value[:2]) }, kind.garbage},
			{"newer", func(w *store.Batch) { put(w, newer) }, kind.newer},
			{"missing", gone, kind.missing},
		} {
			t.Run(kind.name+"/"+test.name, func(t *testing.T) {
				var w store.Batch
				test.do(&w)
				st := mem.Crash()
				if err := st.Commit(&w); err != nil {
					t.Fatal(err)
				}
				if got := startedOver(t, st); got != test.want && (test.name != "cut" || kind.log == 0) {
					t.Fatalf("the start is %q, want %q", got, test.want)
				}
			})
		}
	}
}

// startedOver says what a start over a damaged store comes to: it is refused, with the key
// and what to do; or it goes on, is visited, and the next start finds no damage any more.
func startedOver(t *testing.T, st *store.Memory) string {
	t.Helper()
	b, err := broker.NewOver(ageless(""), st)
	if err != nil {
		if !strings.Contains(err.Error(), "restore a backup") {
			t.Errorf("it does not say what to do: %v", err)
		}
		return "refused"
	}
	said := ""
	if b.Stats().Damaged > 0 {
		said = "damaged"
	}
	for _, id := range []string{"sub", "more0", "member", "pub", "phone"} {
		visit(b, id)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b, err = broker.NewOver(ageless(""), st.Crash())
	if err != nil {
		t.Fatalf("the second start: %v", err)
	}
	if n := b.Stats().Damaged; n > 0 {
		t.Errorf("the second start finds %d damaged records again", n)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return said
}

// spoil makes the n-th record of a table, or the n-th entry of a kind of log, unreadable.
func (s *sim) spoil(table store.Table, log byte, n int) {
	s.t.Helper()
	var w store.Batch
	at := 0
	if log != 0 {
		_ = s.mem.Logs(log, func(id uint64, pos store.Pos, v []byte) bool { // the twin never fails
			if at++; at == n {
				w.Append(store.Log{Kind: log, ID: id}, pos, append([]byte("?"), v[1:]...))
			}
			return true
		})
	} else {
		_ = s.mem.Scan(table, nil, nil, func(key, v []byte) store.Next {
			if at++; at == n {
				w.Put(table, append([]byte(nil), key...), append([]byte("?"), v[1:]...))
			}
			return store.Next{}
		})
	}
	if w.Len() == 0 {
		s.t.Fatalf("there are %d such records", at)
	}
	if err := s.mem.Commit(&w); err != nil {
		s.t.Fatal(err)
	}
}

// wantDamaged compares the counter of damaged records.
func (s *sim) wantDamaged(n uint64) {
	s.t.Helper()
	if got := s.b.Stats().Damaged; got != n {
		s.t.Errorf("%d damaged records were counted, want %d", got, n)
	}
}

// leave ends a client's connection and waits until that is on disk.
func (c *client) leave() {
	c.t.Helper()
	c.send(mqtt.AppendDisconnect(nil, &mqtt.Disconnect{}, c.v))
	time.Sleep(2 * time.Second)
}

// What follows a damaged entry is delivered in order, and the damage is announced as a cut
// is, whether a start finds it or a reading.
func TestAQueueGoesOnBehindADamagedEntry(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(*sim)
		before string // what the CONNACK of the connection that reads announces
	}{
		{"found at a start", func(s *sim) { s.stop(); s.spoil(0, 'q', 2); s.start() }, "1"},
		{"found by a reading", func(s *sim) { s.spoil(0, 'q', 2) }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, broker.Config{}, func(s *sim) {
				c := s.joins(mqtt.V5, "c", month)
				c.subscribe("q", 1)
				c.leave()
				for i := range 4 {
					pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: fmt.Append(nil, i)})
				}
				test.damage(s)
				c = s.dial(mqtt.V5)
				if got := droppedOf(c.connect("c", month)); got != test.before {
					t.Errorf("%q are announced as dropped, want %q", got, test.before)
				}
				for _, i := range []string{"0", "2", "3"} {
					c.want("q", i)
				}
				c.nothing()
				s.wantDamaged(1)
				if n := s.b.Stats().Overflow; n != 1 {
					t.Errorf("%d lost messages are counted, want 1", n)
				}
				c.leave()
				c = s.dial(mqtt.V5)
				if got := droppedOf(c.connect("c", month)); test.before == "" && got != "1" {
					t.Errorf("%q are announced afterwards, want 1", got)
				}
				pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: []byte("live")})
				c.want("q", "live")
				s.wantDamaged(1) // once
			})
		})
	}
}

func TestASharedQueueGoesOnBehindADamagedEntry(t *testing.T) {
	for _, when := range []string{"start", "reading"} {
		t.Run(when, func(t *testing.T) {
			simulate(t, broker.Config{}, func(s *sim) {
				s.joins(mqtt.V5, "c", month).subscribe("$share/g/q", 1)
				s.restart()
				for i := range 3 {
					pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: fmt.Append(nil, i)})
				}
				s.restart() // it reads from the store
				if s.spoil(0, 'g', 2); when == "start" {
					s.restart()
				}
				c := s.joins(mqtt.V5, "c", month)
				c.want("q", "0")
				c.want("q", "2")
				c.nothing()
				s.wantDamaged(1)
			})
		})
	}
}

// A message that many queues share is lost to each of them; they are told.
func TestADamagedMessageIsLostToItsQueuesOnly(t *testing.T) {
	for _, when := range []string{"start", "reading"} {
		t.Run(when, func(t *testing.T) {
			simulate(t, broker.Config{}, func(s *sim) {
				for i := range 6 {
					c := s.joins(mqtt.V5, fmt.Sprint("c", i), month)
					c.subscribe("q", 1)
					c.leave()
				}
				for i := range 3 {
					pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: fmt.Append(nil, i)})
				}
				if s.spoil(0x27, 0, 2); when == "start" {
					s.restart()
				}
				for i := range 6 {
					c := s.joins(mqtt.V5, fmt.Sprint("c", i), month)
					c.want("q", "0")
					c.want("q", "2")
					c.leave()
					c = s.dial(mqtt.V5)
					if got := droppedOf(c.connect(fmt.Sprint("c", i), month)); got != "1" {
						t.Errorf("%q are announced as dropped, want 1", got)
					}
					c.nothing()
				}
				s.wantDamaged(1)
			})
		})
	}
}

func TestAnInboxTellsOfADamagedEventByAGap(t *testing.T) {
	simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) {
		d := s.joins(mqtt.V5, "phone", month, user("ann"))
		d.subscribe("users/ann/inbox", 1)
		d.leave()
		p := s.joins(mqtt.V5, "p", still)
		for i := range 4 {
			tell(t, p, "ann", fmt.Sprint(i))
		}
		s.spoil(0, 'i', 2)
		s.spoil(0, 'i', 4)
		d = s.joins(mqtt.V5, "phone", month, user("ann"))
		for i, why := range []string{"", "damage", "", "damage"} {
			e := d.event()
			if e.Seq != i+1 || e.Why != why || why == "" && e.Body != fmt.Sprint(i) || why != "" && e.To != i+1 {
				t.Errorf("event %d is %+v", i+1, e)
			}
		}
		s.wantDamaged(2)
		d.leave()
		time.Sleep(time.Minute)
		s.wantEmptyLog('i') // all devices have passed them
	})
}

// wantEmptyLog wants that no log of a kind has an entry.
func (s *sim) wantEmptyLog(kind byte) {
	s.t.Helper()
	_ = s.mem.Logs(kind, func(id uint64, at store.Pos, _ []byte) bool { // the twin never fails
		s.t.Errorf("entry %d of log %c %d is left", at, kind, id)
		return true
	})
}

// An inbox whose damaged events nobody reads loses them as the others.
func TestDamagedEventsOfAnInboxGo(t *testing.T) {
	simulate(t, broker.Config{Hooks: []any{teller{}}, Limits: broker.Limits{InboxKeep: time.Hour}}, func(s *sim) {
		p := s.joins(mqtt.V5, "p", still)
		for i := range 3 {
			tell(t, p, "ann", fmt.Sprint(i))
		}
		s.spoil(0, 'i', 1)
		s.spoil(0, 'i', 3)
		time.Sleep(2 * time.Hour)
		s.wantEmptyLog('i')
	})
}

// Damage that nobody can be told of otherwise is undone as far as what is left allows.
func TestWhatIsLeftOfADamagedRecordIsServed(t *testing.T) {
	for _, test := range []struct {
		name  string
		table store.Table
		see   func(t *testing.T, s *sim)
	}{
		{"a session is a new one to its client", 0x20, func(t *testing.T, s *sim) {
			if a := s.dial(mqtt.V5).connect("c", month); a.SessionPresent {
				t.Error("the session is said to be there")
			}
			time.Sleep(time.Minute)
			s.wantEmptyLog('q')
		}},
		{"a filter goes on at QoS 1", 0x21, func(t *testing.T, s *sim) {
			pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 2, Payload: []byte("2")})
			c := s.joins(mqtt.V5, "c", month)
			c.want("q", "0")
			c.want("q", "1")
			if p := c.want("q", "2"); p.QoS != 1 {
				t.Errorf("it came at QoS %d", p.QoS)
			}
		}},
		{"what was in the window may have been sent", 0x23, func(t *testing.T, s *sim) {
			c := s.joins(mqtt.V5, "c", month)
			for _, p := range []string{"0", "1"} {
				if p := c.want("q", p); !p.Dup {
					t.Error("it does not say that it may have been sent before")
				}
			}
		}},
		{"the other retained messages are replayed", 0x25, func(t *testing.T, s *sim) {
			c := s.joins(mqtt.V5, "new", still)
			c.subscribe("r/#", 0)
			c.want("r/2", "x")
			c.want("r/3", "x")
			c.nothing()
		}},
		{"an inbox begins anew in another epoch", 0x28, func(t *testing.T, s *sim) {
			p := s.joins(mqtt.V5, "p", still)
			d := s.joins(mqtt.V5, "phone", month, user("ann"))
			tell(t, p, "ann", "new")
			if e := d.event(); e.Seq != 1 || e.Body != "new" {
				t.Errorf("got %+v", e)
			}
		}},
		{"a device whose cursor is lost gets what is kept", 0x29, func(t *testing.T, s *sim) {
			d := s.joins(mqtt.V5, "phone", month, user("ann"))
			for i := range 2 {
				if e := d.event(); e.Seq != i+1 {
					t.Errorf("got %+v", e)
				}
			}
		}},
		{"a shared subscription begins a new queue", 0x2b, func(t *testing.T, s *sim) {
			pub(t, s.b, &mqtt.Message{Topic: "shared", QoS: 1, Payload: []byte("new")})
			s.joins(mqtt.V5, "member", month).want("shared", "new")
			time.Sleep(2 * time.Second) // the acknowledgement is on disk
			s.crash()
			pub(t, s.b, &mqtt.Message{Topic: "shared", QoS: 1, Payload: []byte("newer")})
			s.joins(mqtt.V5, "member", month).want("shared", "newer")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, broker.Config{Hooks: []any{teller{}}}, func(s *sim) {
				c := s.joins(mqtt.V5, "c", month)
				c.subscribe("q", 1)
				for i := range 2 {
					pub(t, s.b, &mqtt.Message{Topic: "q", QoS: 1, Payload: fmt.Append(nil, i)})
					c.message() // not acknowledged
				}
				c.leave()
				d := s.joins(mqtt.V5, "phone", month, user("ann"))
				d.subscribe("users/ann/inbox", 1)
				d.leave()
				m := s.joins(mqtt.V5, "member", month)
				m.subscribe("$share/g/shared", 1)
				m.leave()
				for i := range 3 {
					stay(t, s.b, fmt.Sprint("r/", i+1), "x", 0)
				}
				p := s.joins(mqtt.V5, "p", still)
				tell(t, p, "ann", "0")
				tell(t, p, "ann", "1")
				s.stop()
				s.spoil(test.table, 0, 1)
				s.start()
				found := s.b.Stats().Damaged
				test.see(t, s)
				if found+s.b.Stats().Damaged == 0 {
					t.Error("no damage was counted")
				}
			})
		})
	}
}
