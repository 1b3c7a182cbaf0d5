package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/geocast/geocast/store"
)

// What Get returns is the caller's own, and a batch is the caller's again after Commit.
func TestNobodySharesBytesWithAStore(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		key, value := []byte("k"), []byte("v")
		commit(t, s, func(b *store.Batch) { b.Put(table, key, value) })
		key[0], value[0] = 'x', 'x'
		v, err := s.Get(table, []byte("k"))
		if err != nil || string(v) != "v" {
			t.Fatalf("got %q, %v", v, err)
		}
		v[0] = 'y'
		if v, _ := s.Get(table, []byte("k")); string(v) != "v" {
			t.Errorf("what was returned is shared: %q", v)
		}
	})
}

func TestReadingStopsWhereItIsTold(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		l := store.Log{Kind: 'q', ID: 1<<64 - 1}
		last := store.Pos(1<<64 - 1)
		commit(t, s, func(b *store.Batch) {
			for _, at := range []store.Pos{1, 2, last} {
				b.Append(l, at, []byte("entry"))
			}
			b.Append(store.Log{Kind: 'r', ID: 0}, 1, []byte("of the next kind"))
		})
		for _, test := range []struct {
			name           string
			after          store.Pos
			entries, bytes int
			stop           bool
			want           int
		}{
			{"all", 0, 10, 100, false, 3},
			{"no entries", 0, 0, 100, false, 0},
			{"a number", 0, 2, 100, false, 2},
			{"the first one, however large", 0, 10, 1, false, 1},
			{"when fn says so", 0, 10, 100, true, 1},
			{"behind the last one", last, 10, 100, false, 0},
			{"from the middle", 2, 10, 100, false, 1},
		} {
			n := 0
			if err := s.Read(l, test.after, test.entries, test.bytes, func(store.Pos, []byte) bool { n++; return !test.stop }); err != nil || n != test.want {
				t.Errorf("%s: %d entries, %v; want %d", test.name, n, err, test.want)
			}
		}
		n := 0
		if err := s.Logs('q', func(uint64, store.Pos, []byte) bool { n++; return false }); err != nil || n != 1 {
			t.Errorf("Logs goes on: %d, %v", n, err)
		}
		if err := s.Scan(table, nil, nil, func(_, _ []byte) store.Next { t.Error("a log's entry is in a table"); return store.Next{} }); err != nil {
			t.Error(err)
		}
	})
}

// Reads run beside each other and beside a Commit, and see a batch whole or not at all.
func TestReadsBesideACommit(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		const rounds = 200
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					seen := map[string]bool{}
					if err := s.Scan(table, nil, nil, func(_, v []byte) store.Next { seen[string(v)] = true; return store.Next{} }); err != nil || len(seen) > 1 {
						t.Errorf("a batch is seen in parts: %v, %v", seen, err)
						return
					}
					last := store.Pos(0)
					err := s.Read(store.Log{Kind: 'q', ID: 1}, 0, rounds, 1<<20, func(at store.Pos, _ []byte) bool {
						if at != last+1 {
							t.Errorf("entry %d stands behind %d", at, last)
						}
						last = at
						return true
					})
					if _, notYet := s.Get(table, []byte("3")); err != nil || notYet != nil && !errors.Is(notYet, store.ErrNotFound) {
						t.Errorf("a read fails: %v, %v", err, notYet)
						return
					}
				}
			})
		}
		for i := range rounds {
			commit(t, s, func(b *store.Batch) {
				for k := range 10 {
					b.Put(table, fmt.Append(nil, k), fmt.Append(nil, i))
				}
				b.Append(store.Log{Kind: 'q', ID: 1}, store.Pos(i+1), nil)
			})
		}
		close(stop)
		wg.Wait()
	})
}

// A commit that is late is not seen before it is made.
func TestALateCommitIsNotSeen(t *testing.T) {
	m := store.NewMemory()
	gate := make(chan struct{})
	m.Hold(gate)
	done := make(chan error)
	go func() {
		var b store.Batch
		b.Put(table, []byte("k"), nil)
		done <- m.Commit(&b)
	}()
	if _, err := m.Get(table, []byte("k")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it is seen before: %v", err)
	}
	gate <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := m.Get(table, []byte("k")); err != nil {
		t.Errorf("it is not seen after: %v", err)
	}
}

// both holds what a store should: tables by key, and logs by place.
type both struct {
	tables map[string]string // table, key
	logs   map[store.Log]map[store.Pos]string
}

// Both stores against a model, with any bytes as keys: scans by prefix, from a key on and
// with leaps, and pages of logs, also over a reopening.
func TestStoresAgreeWithAModel(t *testing.T) {
	dir := t.TempDir()
	disk, _, err := store.Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	}()
	mem := store.NewMemory()
	want := both{map[string]string{}, map[store.Log]map[store.Pos]string{}}
	next := store.Pos(1)
	key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xfe, 0xff}), 0, 4)
	tables := rapid.SampledFrom([]store.Table{0x20, 0x21, 0x60})
	logs := rapid.SampledFrom([]store.Log{{Kind: 'g', ID: 0}, {Kind: 'g', ID: 1}, {Kind: 'q', ID: 1}, {Kind: 'q', ID: 1 << 63}})
	rapid.Check(t, func(t *rapid.T) {
		if rapid.IntRange(0, 9).Draw(t, "reopen") == 0 {
			if err := disk.Close(); err != nil {
				t.Fatal(err)
			}
			if disk, _, err = store.Open(dir, small); err != nil {
				t.Fatal(err)
			}
		}
		var b store.Batch
		for range rapid.IntRange(1, 10).Draw(t, "writes") {
			tb, k, l := tables.Draw(t, "table"), key.Draw(t, "key"), logs.Draw(t, "log")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				b.Delete(tb, k)
				delete(want.tables, string([]byte{byte(tb)})+string(k))
			case 1:
				v := rapid.StringN(0, 5, 20).Draw(t, "value")
				b.Put(tb, k, []byte(v))
				want.tables[string([]byte{byte(tb)})+string(k)] = v
			case 2:
				v := rapid.StringN(0, 5, 20).Draw(t, "value")
				b.Append(l, next, []byte(v))
				if want.logs[l] == nil {
					want.logs[l] = map[store.Pos]string{}
				}
				want.logs[l][next] = v
				next++
			case 3:
				at := store.Pos(rapid.Uint64Range(0, uint64(next)).Draw(t, "at"))
				b.Remove(l, at)
				delete(want.logs[l], at)
			}
		}
		tb, prefix, from, leap, l := tables.Draw(t, "table"), key.Draw(t, "prefix"), key.Draw(t, "from"), key.Draw(t, "leap"), logs.Draw(t, "log")
		after, most := store.Pos(rapid.Uint64Range(0, uint64(next)).Draw(t, "after")), rapid.IntRange(0, 20).Draw(t, "most")
		for name, s := range map[string]store.Store{"disk": disk, "memory": mem} {
			if err := s.Commit(&b); err != nil {
				t.Fatal(err)
			}
			got := []string{}
			err := s.Scan(tb, prefix, from, func(k, v []byte) store.Next {
				got = append(got, string(k)+"="+string(v))
				if len(got) == 1 {
					return store.SkipTo(leap)
				}
				return store.Next{}
			})
			if exp := want.scan(tb, string(prefix), string(from), string(leap)); err != nil || !slices.Equal(got, exp) {
				t.Fatalf("%s: table %x from %q below %q, leap to %q: %q, %v; want %q", name, tb, from, prefix, leap, got, err, exp)
			}
			got = []string{}
			err = s.Read(l, after, most, 1<<20, func(at store.Pos, v []byte) bool { got = append(got, fmt.Sprint(at, "=", string(v))); return true })
			if exp := want.read(l, after, most); err != nil || !slices.Equal(got, exp) {
				t.Fatalf("%s: log %v after %d, %d: %q, %v; want %q", name, l, after, most, got, err, exp)
			}
		}
	})
}

func (w *both) scan(t store.Table, prefix, from, leap string) []string {
	all := []string{}
	for _, k := range slices.Sorted(maps.Keys(w.tables)) {
		key := k[1:]
		if k[0] != byte(t) || !strings.HasPrefix(key, prefix) || key < from || len(all) > 0 && key < leap {
			continue
		}
		all = append(all, key+"="+w.tables[k])
	}
	return all
}

func (w *both) read(l store.Log, after store.Pos, most int) []string {
	all := []string{}
	for _, at := range slices.Sorted(maps.Keys(w.logs[l])) {
		if at > after && len(all) < most {
			all = append(all, fmt.Sprint(at, "=", w.logs[l][at]))
		}
	}
	return all
}
