package retained_test

import (
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
			table[topic] = retained.AppendRecord(nil, commit, &mqtt.Message{Topic: topic, Payload: []byte("x"), Expires: expires})
			model[topic] = entry{commit, expires}
		}
		for range rapid.IntRange(0, 40).Draw(t, "before") {
			write()
		}
		filter := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "+", "+", "a-"}), 1, 3).Draw(t, "filter"), "/")
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
			if err := r.Next(table, 10, 2, 1<<20, func(m *mqtt.Message) { got = append(got, m.Topic) }); err != nil {
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

func FuzzDecodeRecord(f *testing.F) {
	f.Add(retained.AppendRecord(nil, 7, &mqtt.Message{Topic: "a", Payload: []byte("b")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		commit, m, err := retained.DecodeRecord(b)
		if err != nil {
			return
		}
		c2, m2, err := retained.DecodeRecord(retained.AppendRecord(nil, commit, m))
		if err != nil || c2 != commit || m2.Topic != m.Topic {
			t.Fatalf("does not encode to itself: %v", err)
		}
	})
}
