package store

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkCheckFiles is what looking at the files costs a start.
func BenchmarkCheckFiles(b *testing.B) {
	dir := b.TempDir()
	s, _, err := Open(dir, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, 1000)
	for i := range 200 {
		var w Batch
		for k := range 1000 {
			for n := range value {
				value[n] = byte(rand.Uint32()) //nolint:gosec // anything does
			}
			w.Put(0x30, fmt.Appendf(nil, "%08d", i*1000+k), append([]byte(nil), value...))
		}
		if err := s.Commit(&w); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	size := int64(0)
	for _, name := range match(dir, "*.sst") {
		if fi, err := os.Stat(filepath.Clean(name)); err == nil {
			size += fi.Size()
		}
	}
	b.SetBytes(size)
	for b.Loop() {
		if err := checkFiles(dir); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzCheckTable(f *testing.F) {
	dir := f.TempDir()
	s, _, err := Open(dir, Options{Memory: 64 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	var w Batch
	for i := range 300 {
		w.Put(0x30, fmt.Append(nil, i), make([]byte, 50))
	}
	if err := s.Commit(&w); err != nil {
		f.Fatal(err)
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(match(dir, "*.sst")[0])
	if err != nil {
		f.Fatal(err)
	}
	if why := checkTable(b); why != "" {
		f.Fatalf("a good table: %s", why)
	}
	f.Add(0, byte(0))
	f.Fuzz(func(t *testing.T, at int, x byte) { // a byte that is another one is found
		if at < 0 || at >= len(b) || x == 0 {
			return
		}
		c := append([]byte(nil), b...)
		c[at] ^= x
		if checkTable(c) == "" {
			t.Errorf("byte %d of %d is another one", at, len(b))
		}
		checkTable(c[:at])
	})
}
