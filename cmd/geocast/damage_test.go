package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/geocast/geocast/store"
)

// errorsOf runs the program and returns its standard error.
func errorsOf(t *testing.T, args ...string) (text string, code int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stderr
	os.Stderr = w
	defer func() { os.Stderr = old }()
	done := make(chan string)
	go func() { b, _ := io.ReadAll(r); done <- string(b) }() // a pipe that is closed at its end
	code = run(args)
	w.Close()
	return <-done, code
}

// What keeps the data folder from being opened ends serve with exit code 1, the name of
// the file or folder, and what to do.
func TestServeSaysWhyTheDataFolderCantBeOpened(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		says  []string
	}{
		{"MANIFEST is gone", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "MANIFEST")); err != nil {
				t.Fatal(err)
			}
		}, []string{"MANIFEST", "restore a backup"}},
		{"another process has it", func(t *testing.T, dir string) {
			s, _, err := store.Open(dir, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}, []string{"in use by another process"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			s, _, err := store.Open(dir, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var b store.Batch
			b.Put(0x30, []byte("k"), []byte("v"))
			if err := s.Commit(&b); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			test.spoil(t, dir)
			text, code := errorsOf(t, "serve", "--listen", "mqtt://127.0.0.1:0", "--data", dir)
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			for _, want := range append(test.says, dir) {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q: %s", want, text)
				}
			}
		})
	}
}
