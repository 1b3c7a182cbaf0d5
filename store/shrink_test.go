package store_test

import (
	"os"
	"testing"

	"github.com/geocast/geocast/store"
)

// Less memory than the last process had is no reason not to start: what that left in a
// memtable is larger than one is now.
func TestAStoreOpensWithLessMemory(t *testing.T) {
	dir := t.TempDir()
	s, _, err := store.Open(dir, store.Options{Memory: 2 << 30})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1200 {
		var b store.Batch
		b.Put(1, []byte{byte(i >> 8), byte(i)}, make([]byte, 50_000))
		if err := s.Commit(&b); err != nil {
			t.Fatal(err)
		}
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _, err = store.Open(crashed, store.Options{Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if v, err := s.Get(1, []byte{1200 >> 8, 1199 & 255}); err != nil || len(v) != 50_000 {
		t.Errorf("got %d bytes, %v", len(v), err)
	}
}
