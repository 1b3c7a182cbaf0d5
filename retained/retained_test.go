package retained_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/retained"
)

// shelf is a retained table in memory.
type shelf map[string][]byte

func (s shelf) ScanRetained(prefix, from []byte, fn func(topic, record []byte) ([]byte, bool)) error {
	var keys []string
	for k := range s {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	at := string(from)
	for _, k := range keys {
		if k < at || !strings.HasPrefix(k, string(prefix)) {
			continue
		}
		seek, more := fn([]byte(k), s[k])
		if !more {
			return nil
		}
		at = max(at, string(seek))
	}
	return nil
}

// A replay in pages, with writes between them, gives what stood at its commit and
// was not changed since, in topic order.
func TestReplayAgreesWithAMap(t *testing.T) {
	level := rapid.SampledFrom([]string{"a", "b", "a-", "a0", "", "$s"})
	rapid.Check(t, func(t *rapid.T) {
		table := shelf{}
		commit := uint64(0)
		type entry struct {
			commit  uint64
			expires int64
		}
		model := map[string]entry{}
		write := func() {
			commit++
			topic := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "topic"), "/")
			if topic == "" {
				return
			}
			if rapid.IntRange(0, 4).Draw(t, "delete") == 0 {
				delete(table, topic)
				delete(model, topic)
				return
			}
			expires := int64(rapid.SampledFrom([]int{0, 0, 5, 50}).Draw(t, "expires"))
			rec := retained.Record{Stamp: commit, Message: &mqtt.Message{Topic: topic, Payload: []byte("x"), Expires: expires}}
			table[topic] = rec.Append(nil)
			model[topic] = entry{commit, expires}
		}
		for range rapid.IntRange(0, 40).Draw(t, "before") {
			write()
		}
		filter := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "+", "+", "a-", "a0", "c"}), 1, 3).Draw(t, "filter"), "/")
		if rapid.Bool().Draw(t, "hash") {
			filter += "/#"
		}
		asOf, stood := commit, map[string]entry{}
		for k, v := range model {
			stood[k] = v
		}
		r := retained.Replay{Filter: filter, AsOf: asOf}
		var got []string
		for pages := 0; !r.Done; pages++ {
			if pages > 1000 {
				t.Fatal("it does not end")
			}
			if err := r.Next(table, retained.Term{Now: 10}, 2, 1<<20, func(r *retained.Record) { got = append(got, r.Message.Topic) }); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "write") {
				write()
			}
		}
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("not in topic order, or twice: %q", got)
		}
		for topic, e := range stood {
			want := mqtt.Match(filter, topic) && (e.expires == 0 || e.expires > 10)
			if now, ok := model[topic]; ok && now == e && want != slices.Contains(got, topic) {
				t.Fatalf("%q with filter %q: sent %v, want %v", topic, filter, !want, want)
			}
		}
		for _, topic := range got {
			if _, ok := stood[topic]; !ok {
				t.Fatalf("%q did not stand when it was asked for", topic)
			}
		}
	})
}

func TestTopicsCount(t *testing.T) {
	var n retained.Topics
	for i := range 100 {
		n.Set(fmt.Sprint(i), 10)
	}
	n.Set("5", 20)
	n.Delete("6")
	n.Delete("6")
	if n.Len() != 99 || n.Bytes() != 1000 {
		t.Errorf("%d topics, %d bytes; want 99, 1000", n.Len(), n.Bytes())
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range []retained.Record{{Stamp: 7, Message: &mqtt.Message{Topic: "a", Payload: []byte("b")}}, {At: 8, Source: 9, Message: &mqtt.Message{Topic: "a", Expires: 5}}} {
		b := r.Append(nil)
		f.Add(b)
		f.Add(append([]byte{'R', 1}, b[2:len(b)-16]...)) // as version 1 had it
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := retained.Decode(b)
		if err != nil {
			return
		}
		again, err := retained.Decode(r.Append(nil))
		if err != nil || again.Stamp != r.Stamp || again.At != r.At || again.Source != r.Source || again.Message.Topic != r.Message.Topic {
			t.Fatalf("does not encode to itself: %v", err)
		}
	})
}

// A record goes at its message's expiry, or when it has been kept for long enough,
// whichever is first; where it is not known since when it stands, by its expiry only.
func TestWhatIsNoMore(t *testing.T) {
	for _, test := range []struct {
		name              string
		expires, at, keep int64
		ends              int64
	}{
		{"nothing says when", 0, 100, 0, 0},
		{"its expiry", 150, 100, 0, 150},
		{"its age", 0, 100, 30, 130},
		{"its expiry is first", 120, 100, 30, 120},
		{"its age is first", 150, 100, 30, 130},
		{"its age is not known", 0, 0, 30, 0},
		{"its age is not known, its expiry is", 150, 0, 30, 150},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := retained.Record{At: test.at, Message: &mqtt.Message{Topic: "t", Expires: test.expires}}
			if got := (retained.Term{Keep: test.keep}).Ends(&r); got != test.ends {
				t.Fatalf("ends at %d, want %d", got, test.ends)
			}
			for _, now := range []int64{test.ends - 1, test.ends} {
				if got, want := (retained.Term{Now: now, Keep: test.keep}).Over(&r), test.ends != 0 && now >= test.ends; got != want {
					t.Errorf("at %d it is over: %v, want %v", now, got, want)
				}
			}
		})
	}
}

// Records of version 1 are read, those of a later one are refused as such.
func TestRecordsOfOtherVersions(t *testing.T) {
	r := retained.Record{Stamp: 7, At: 8, Source: 9, Message: &mqtt.Message{Topic: "a", Payload: []byte("b")}}
	b := r.Append(nil)
	old, err := retained.Decode(append([]byte{'R', 1}, b[2:len(b)-16]...))
	if err != nil || old.Stamp != 7 || old.At != 0 || old.Source != 0 || old.Message.Topic != "a" {
		t.Errorf("version 1: %+v, %v", old, err)
	}
	if later, err := retained.Decode(append(append([]byte{'R', 3}, b[2:]...), "more"...)); !errors.Is(err, mqtt.ErrNewer) {
		t.Errorf("version 3: %+v, %v", later, err)
	}
	if _, err := retained.Decode(b[:len(b)-1]); err == nil {
		t.Error("a record that was cut is read")
	}
}

// A malformed record hides no other.
func TestAMalformedRecordIsPassedOver(t *testing.T) {
	rec := retained.Record{Message: &mqtt.Message{Topic: "c"}}
	table := shelf{"a": []byte("junk"), "c": rec.Append(nil)}
	r := retained.Replay{Filter: "#"}
	var got []string
	if err := r.Next(table, retained.Term{}, 10, 1<<20, func(r *retained.Record) { got = append(got, r.Message.Topic) }); err != nil || !r.Done || len(got) != 1 {
		t.Errorf("got %q, done %v, %v", got, r.Done, err)
	}
}

// What a page looks at is bounded by number and by size, also if it finds nothing.
func TestAPageIsBounded(t *testing.T) {
	for _, test := range []struct{ records, size int }{{20_000, 10}, {100, 200 << 10}} {
		table := shelf{}
		for i := range test.records {
			rec := retained.Record{Stamp: 9, Message: &mqtt.Message{Topic: fmt.Sprintf("t/%05d", i), Payload: make([]byte, test.size)}}
			table[rec.Message.Topic] = rec.Append(nil)
		}
		pages := 0
		for r := (retained.Replay{Filter: "#"}); !r.Done; pages++ { // all of it is later than AsOf
			if err := r.Next(table, retained.Term{}, 10, 1<<20, func(*retained.Record) { t.Error("found something") }); err != nil {
				t.Fatal(err)
			}
		}
		if pages < 4 {
			t.Errorf("%d records of %d bytes in %d pages", test.records, test.size, pages)
		}
	}
}

// What can't match is not looked at, one topic after the other.
func TestAReplaySkipsWhatCannotMatch(t *testing.T) {
	table := shelf{}
	for i := range 1000 {
		for _, leaf := range []string{"a", "state", "z1", "z2", "z3"} {
			rec := retained.Record{Message: &mqtt.Message{Topic: fmt.Sprintf("dev/%03d/%s", i, leaf)}}
			table[rec.Message.Topic] = rec.Append(nil)
		}
	}
	for filter, most := range map[string]int{"dev/+/state": 3000, "+/+/none": 2010, "de/#": 1, "dev/+/state/+": 3000, "dev/500/#": 5} {
		looked := 0
		r := retained.Replay{Filter: filter}
		for !r.Done {
			if err := r.Next(&counting{table, &looked}, retained.Term{}, 100, 1<<20, func(*retained.Record) {}); err != nil {
				t.Fatal(err)
			}
		}
		if looked > most {
			t.Errorf("%s looked at %d topics of 5,000, want at most %d", filter, looked, most)
		}
	}
}

// counting counts what a scan looks at.
type counting struct {
	shelf
	n *int
}

func (c *counting) ScanRetained(prefix, from []byte, fn func(topic, record []byte) ([]byte, bool)) error {
	return c.shelf.ScanRetained(prefix, from, func(topic, record []byte) ([]byte, bool) { *c.n++; return fn(topic, record) })
}
