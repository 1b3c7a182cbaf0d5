package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/geocast/geocast/store"
)

const table store.Table = 0x30

// each runs the contract against both stores.
func each(t *testing.T, f func(t *testing.T, s store.Store)) {
	t.Run("memory", func(t *testing.T) { f(t, store.NewMemory()) })
	t.Run("disk", func(t *testing.T) {
		s, _, err := store.Open(t.TempDir(), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(t, s)
	})
}

func commit(t testing.TB, s store.Store, fill func(b *store.Batch)) {
	t.Helper()
	var b store.Batch
	fill(&b)
	if err := s.Commit(&b); err != nil {
		t.Fatal(err)
	}
}

func TestGetPutDelete(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		if _, err := s.Get(table, []byte("k")); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("Get of nothing: %v", err)
		}
		commit(t, s, func(b *store.Batch) { b.Put(table, []byte("k"), []byte("v")) })
		if v, err := s.Get(table, []byte("k")); err != nil || string(v) != "v" {
			t.Fatalf("got %q, %v", v, err)
		}
		commit(t, s, func(b *store.Batch) { b.Put(table, []byte("k"), []byte("w")); b.Delete(table, []byte("k")) })
		if _, err := s.Get(table, []byte("k")); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("the last write of a batch does not hold: %v", err)
		}
	})
}

func TestLogIsReadInOrderFromACursor(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		mine, other := store.Log{Kind: 'q', ID: 7}, store.Log{Kind: 'q', ID: 8}
		commit(t, s, func(b *store.Batch) {
			for i := range 300 {
				b.Append(mine, store.Pos(i+1), fmt.Append(nil, i+1))
			}
			b.Append(other, 1, []byte("not mine"))
			b.Remove(mine, 12)
		})
		var got []store.Pos
		err := s.Read(mine, 9, 5, 1<<20, func(at store.Pos, v []byte) bool {
			if string(v) != fmt.Sprint(at) {
				t.Errorf("entry %d holds %q", at, v)
			}
			got = append(got, at)
			return true
		})
		if want := []store.Pos{10, 11, 13, 14, 15}; err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
		n := 0
		if err := s.Read(mine, 0, 1000, 20, func(store.Pos, []byte) bool { n++; return true }); err != nil || n != 15 {
			t.Fatalf("20 bytes gave %d entries, %v; want 15", n, err)
		}
		all := 0
		if err := s.Logs('q', func(uint64, store.Pos, []byte) bool { all++; return true }); err != nil || all != 300 {
			t.Fatalf("Logs gave %d entries, %v; want 300", all, err)
		}
	})
}

func TestScanSeeksAndSeesOneState(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		commit(t, s, func(b *store.Batch) {
			for _, k := range []string{"a", "a/1", "a/2", "b/1", "b/2", "c"} {
				b.Put(table, []byte(k), nil)
			}
			b.Put(table+1, []byte("a/other"), nil)
		})
		var got []string
		err := s.Scan(table, nil, []byte("a/1"), func(key, _ []byte) store.Next {
			got = append(got, string(key))
			if string(key) == "a/1" {
				commit(t, s, func(b *store.Batch) { b.Delete(table, []byte("b/2")) })
			}
			if string(key) == "a/2" {
				return store.SkipTo([]byte("b/2"))
			}
			return store.Next{}
		})
		if want := []string{"a/1", "a/2", "b/2", "c"}; err != nil || !slices.Equal(got, want) {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
	})
}

// A batch is committed whole whatever its size: within Limit in one transaction,
// beyond it in several.
func TestABatchOfAnySizeIsCommitted(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		entries, bytesMost := s.Limit()
		for name, size := range map[string][2]int{
			"within": {entries, bytesMost / entries / 2}, "many writes": {3 * entries, 0}, "many bytes": {40, bytesMost / 8}, "large writes": {5, bytesMost - 100},
		} {
			var b store.Batch
			b.Put(table, []byte("gone"), []byte(name))
			for i := range size[0] - 1 {
				b.Put(table, fmt.Appendf(nil, "%s %08d", name, i), bytes.Repeat([]byte("x"), max(0, size[1]-64)))
			}
			b.Delete(table, []byte("gone"))
			if err := s.Commit(&b); err != nil {
				t.Fatalf("%s: a batch of %d entries, %d bytes: %v", name, b.Len(), b.Size(), err)
			}
			n := 0
			err := s.Scan(table, []byte(name), nil, func([]byte, []byte) store.Next { n++; return store.Next{} })
			if err != nil || n != size[0]-1 {
				t.Errorf("%s: %d of %d writes are there, %v", name, n, size[0]-1, err)
			}
			if _, err := s.Get(table, []byte("gone")); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: the last write does not hold: %v", name, err)
			}
		}
	})
}

func TestAWriteThatNoBatchTakesIsRefusedWithAllOfIts(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		_, most := s.Limit()
		for name, fill := range map[string]func(b *store.Batch){
			"key":    func(b *store.Batch) { b.Put(table, bytes.Repeat([]byte("k"), store.MaxKey+1), nil) },
			"delete": func(b *store.Batch) { b.Delete(table, bytes.Repeat([]byte("k"), store.MaxKey+1)) },
			"value":  func(b *store.Batch) { b.Put(table, []byte("k"), make([]byte, most)) },
		} {
			var b store.Batch
			b.Put(table, []byte("0"), nil)
			fill(&b)
			if err := s.Commit(&b); !errors.Is(err, store.ErrTooBig) {
				t.Fatalf("%s: got %v", name, err)
			}
			if _, err := s.Get(table, []byte("0")); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("%s: part of it was written: %v", name, err)
			}
		}
		commit(t, s, func(b *store.Batch) { b.Put(table, bytes.Repeat([]byte("k"), store.MaxKey), nil) })
	})
}

// Both stores against a map, the one on disk also over reopening.
func TestStoreAgreesWithAMap(t *testing.T) {
	dir := t.TempDir()
	disk, _, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mem, want := store.NewMemory(), map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		if rapid.IntRange(0, 9).Draw(t, "reopen") == 0 {
			if err := disk.Close(); err != nil {
				t.Fatal(err)
			}
			var rec store.Recovery
			if disk, rec, err = store.Open(dir, store.Options{}); err != nil || !rec.Clean {
				t.Fatalf("reopened with %+v, %v", rec, err)
			}
			mem = mem.Crash()
		}
		var b store.Batch
		for range rapid.IntRange(1, 20).Draw(t, "writes") {
			k := rapid.StringOfN(rapid.RuneFrom([]rune("abc")), 1, 3, 3).Draw(t, "key")
			if rapid.Bool().Draw(t, "delete") {
				b.Delete(table, []byte(k))
				delete(want, k)
			} else {
				v := rapid.StringN(0, 5, 20).Draw(t, "value")
				b.Put(table, []byte(k), []byte(v))
				want[k] = v
			}
		}
		for _, s := range []store.Store{disk, mem} {
			if err := s.Commit(&b); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			var keys []string
			err := s.Scan(table, nil, nil, func(key, v []byte) store.Next {
				keys = append(keys, string(key))
				got[string(key)] = string(v)
				return store.Next{}
			})
			if err != nil || len(got) != len(want) || !slices.IsSorted(keys) {
				t.Fatalf("holds %v, %v; want %v", got, err, want)
			}
			for k, v := range want {
				if got[k] != v {
					t.Fatalf("%q is %q, want %q", k, got[k], v)
				}
			}
		}
	})
	if err := disk.Close(); err != nil {
		t.Fatal(err)
	}
}

// The run that must fail: with the sync taken away, a crash loses what was
// committed.
func TestForgettingStoreLosesItsTail(t *testing.T) {
	m := store.NewMemory()
	commit(t, m, func(b *store.Batch) { b.Put(table, []byte("synced"), nil) })
	m.Forget()
	commit(t, m, func(b *store.Batch) { b.Put(table, []byte("tail"), nil) })
	after := m.Crash()
	if _, err := after.Get(table, []byte("synced")); err != nil {
		t.Errorf("what was synced: %v", err)
	}
	if _, err := after.Get(table, []byte("tail")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was not: %v", err)
	}
}

func TestAFailedCommitIsFinal(t *testing.T) {
	m := store.NewMemory()
	m.FailNext(errors.New("input/output error"))
	var b store.Batch
	if err := m.Commit(&b); err == nil {
		t.Fatal("the commit did not fail")
	}
	if err := m.Commit(&b); !errors.Is(err, store.ErrFailed) {
		t.Fatalf("the commit after it: %v, want ErrFailed", err)
	}
}

func TestASecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, _, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Open(dir, store.Options{}); err == nil {
		t.Error("opened twice")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkCommit(b *testing.B) {
	s, _, err := store.Open(b.TempDir(), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // a benchmark
	value := bytes.Repeat([]byte("x"), 200)
	for i := 0; b.Loop(); i++ {
		var w store.Batch
		for k := range 100 {
			w.Append(store.Log{Kind: 'q', ID: uint64(k)}, store.Pos(i+1), value)
		}
		if err := s.Commit(&w); err != nil {
			b.Fatal(err)
		}
	}
}
