package store_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/geocast/geocast/store"
)

var small = store.Options{Memory: 64 << 20, Log: slog.New(slog.DiscardHandler)}

const filled = 12_000

// aStore makes a store of several tables; a killed one is what a kill leaves.
func aStore(t *testing.T, killed bool) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	s, _, err := store.Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	for i := range filled / 100 {
		commit(t, s, func(b *store.Batch) {
			for k := range 100 {
				b.Put(table, fmt.Appendf(nil, "%08d", i*100+k), make([]byte, 1000))
			}
		})
	}
	if killed {
		dir = copyOf(t, dir)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// wantAll wants that everything of aStore is there.
func wantAll(t *testing.T, s store.Store) {
	t.Helper()
	n := 0
	if err := s.Scan(table, nil, nil, func(_, _ []byte) store.Next { n++; return store.Next{} }); err != nil || n != filled {
		t.Errorf("%d of %d records are there, %v", n, filled, err)
	}
}

func reopen(t *testing.T, dir string) {
	t.Helper()
	s, _, err := store.Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func remove(name string) error   { return os.Remove(name) }
func truncate(name string) error { return os.Truncate(name, 0) }

func half(name string) error {
	fi, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.Truncate(name, fi.Size()/2)
}

func cutEnd(name string) error {
	fi, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.Truncate(name, fi.Size()-1)
}

// flip returns what changes a byte, at a place from the front, or from the end.
func flip(at int64) func(string) error {
	return func(name string) error {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		i := at
		if i < 0 {
			i += int64(len(b))
		}
		b[i] ^= 0x5a
		return os.WriteFile(name, b, 0o600)
	}
}

// A file that is gone or not what was written either takes nothing away, or Open says
// which it is and what to do, and leaves the folder alone.
func TestAFileThatIsGoneOrDamagedIsNamed(t *testing.T) {
	clean, killed := aStore(t, false), aStore(t, true)
	for _, test := range []struct {
		name, of, file string
		do             func(string) error
		says           string // in the error; "" for a start with everything
	}{
		{"MANIFEST gone", clean, "MANIFEST", remove, "MANIFEST"},
		{"MANIFEST gone after a kill", killed, "MANIFEST", remove, "MANIFEST"},
		{"MANIFEST empty", clean, "MANIFEST", truncate, "MANIFEST"},
		{"MANIFEST cut", clean, "MANIFEST", half, "restore a backup"},
		{"MANIFEST cut at its end", clean, "MANIFEST", cutEnd, "MANIFEST: it was cut"},
		{"MANIFEST flipped", clean, "MANIFEST", flip(-5), "MANIFEST"},
		{"a table gone", clean, "*.sst", remove, "table"},
		{"a table empty", clean, "*.sst", truncate, ".sst"},
		{"a table cut", clean, "*.sst", half, ".sst"},
		{"a table's data flipped", clean, "*.sst", flip(20), ".sst"},
		{"a table's index flipped", clean, "*.sst", flip(-40), ".sst"},
		{"a table's end flipped", clean, "*.sst", flip(-1), ".sst"},
		{"a table's end flipped after a kill", killed, "*.sst", flip(-3), ".sst"},
		{"the write-ahead file gone", killed, "*.mem", remove, ".mem"},
		{"the write-ahead file empty", killed, "*.mem", truncate, ".mem"},
		{"the value log gone", clean, "*.vlog", remove, ""},
		{"the value log gone after a kill", killed, "*.vlog", remove, ""},
		{"the value log empty", clean, "*.vlog", truncate, ".vlog"},
		{"KEYREGISTRY gone", clean, "KEYREGISTRY", remove, ""},
		{"KEYREGISTRY empty", clean, "KEYREGISTRY", truncate, "KEYREGISTRY"},
		{"KEYREGISTRY flipped", clean, "KEYREGISTRY", flip(-1), "KEYREGISTRY"},
		{"DISCARD gone", clean, "DISCARD", remove, ""},
		{"DISCARD cut", killed, "DISCARD", half, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := copyOf(t, test.of)
			files, err := filepath.Glob(filepath.Join(dir, test.file))
			if err != nil || len(files) == 0 {
				t.Fatalf("there is no %s, %v", test.file, err)
			}
			if err := test.do(files[len(files)-1]); err != nil {
				t.Fatal(err)
			}
			if test.says == "" {
				reopen(t, dir)
				return
			}
			before := tablesOf(dir)
			s, _, err := store.Open(dir, small)
			if err == nil {
				wantAll(t, s)
				t.Fatalf("it opens: %v", s.Close())
			}
			if !errors.Is(err, store.ErrDamaged) || !strings.Contains(strings.ReplaceAll(err.Error(), dir, ""), test.says) || !strings.Contains(err.Error(), dir) ||
				!strings.Contains(err.Error(), "restore a backup") && !strings.Contains(err.Error(), "remove it") {
				t.Errorf("it says: %v", err)
			}
			if after := tablesOf(dir); !slices.Equal(before, after) {
				t.Errorf("of the tables %q are left, there were %q", after, before)
			}
		})
	}
}

func tablesOf(dir string) []string {
	names, _ := filepath.Glob(filepath.Join(dir, "*.sst")) // the pattern is good
	return names
}

// What a kill leaves is whole, also one while it is opened or closed: the copy may be of
// any moment.
func TestAKilledStoreIsWhole(t *testing.T) {
	dir := aStore(t, true)
	reopen(t, copyOf(t, dir))
	s, rec, err := store.Open(dir, small)
	if err != nil || rec.Clean {
		t.Fatalf("opened with %+v, %v", rec, err)
	}
	reopen(t, copyOf(t, dir))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	reopen(t, copyOf(t, dir))
}

// Badger cuts a file before it removes it: a kill between the two leaves it empty.
func TestAFileThatWasBeingRemovedIsNoDamage(t *testing.T) {
	for _, state := range []string{"open", "opening"} {
		for _, name := range []string{"00000.mem", "000000.vlog"} {
			t.Run(state+" "+name, func(t *testing.T) {
				dir := copyOf(t, aStore(t, true))
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if state == "opening" {
					if err := os.Remove(filepath.Join(dir, "state")); err != nil {
						t.Fatal(err)
					}
				}
				reopen(t, dir)
			})
		}
	}
}

func TestAFolderOfAnotherUserIsNamed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	for name, mode := range map[string]os.FileMode{"closed": 0o700, "readable": 0o755} {
		t.Run(name, func(t *testing.T) {
			dir := aStore(t, false)
			for up := dir; up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
				if err := os.Chmod(up, 0o755); err != nil { //nolint:gosec // others are to come as far as dir
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			var s store.Store
			var err error
			done := make(chan struct{})
			go func() {
				defer close(done)
				runtime.LockOSThread() // and the thread ends with the goroutine
				if err = unix.Setfsuid(65534); err == nil {
					s, _, err = store.Open(dir, small)
				}
			}()
			if <-done; err == nil {
				t.Fatalf("it opens: %v", s.Close())
			}
			if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "must belong to") {
				t.Errorf("it says: %v", err)
			}
		})
	}
}

// volume mounts a small file system, if that is allowed.
func volume(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAReadOnlyVolumeIsNamed(t *testing.T) {
	at := volume(t, "96m")
	if err := os.CopyFS(filepath.Join(at, "data"), os.DirFS(aStore(t, false))); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skip("it can't be made read-only here: ", err)
	}
	s, _, err := store.Open(filepath.Join(at, "data"), small)
	if err == nil {
		t.Fatalf("it opens: %v", s.Close())
	}
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), at) {
		t.Errorf("it says: %v", err)
	}
}

// fill leaves so many bytes of a volume free.
func fill(t *testing.T, at string, leave int64) (room func()) {
	t.Helper()
	free, _, err := store.Space(at)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(at, "other"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, free-leave), f.Close()); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	}
}

func TestAFullVolume(t *testing.T) {
	t.Run("refuses a start and says how much is missing", func(t *testing.T) {
		at := volume(t, "96m")
		dir := filepath.Join(at, "data")
		if err := os.CopyFS(dir, os.DirFS(aStore(t, false))); err != nil {
			t.Fatal(err)
		}
		room := fill(t, at, 1<<20)
		if _, _, err := store.Open(dir, small); !errors.Is(err, store.ErrNoSpace) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "make room") {
			t.Errorf("it says: %v", err)
		}
		room()
		reopen(t, dir)
	})
	t.Run("starts by its ballast", func(t *testing.T) {
		at := volume(t, "256m")
		dir := filepath.Join(at, "data")
		if err := os.CopyFS(dir, os.DirFS(aStore(t, false))); err != nil {
			t.Fatal(err)
		}
		if err := store.Ballast(dir, 1<<20); err != nil {
			t.Fatal(err)
		}
		fill(t, at, 0)
		reopen(t, dir)
	})
	t.Run("ends a store that runs before Badger is killed by it", func(t *testing.T) {
		at := volume(t, "96m")
		dir := filepath.Join(at, "data")
		s, _, err := store.Open(dir, small)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, s, func(b *store.Batch) { b.Put(table, []byte("acknowledged"), nil) })
		room := fill(t, at, 1<<20)
		var b store.Batch
		b.Put(table, []byte("too late"), nil)
		if err := s.Commit(&b); !errors.Is(err, store.ErrNoSpace) || !strings.Contains(err.Error(), dir) {
			t.Errorf("it says: %v", err)
		}
		room()
		if err := s.Commit(&b); !errors.Is(err, store.ErrFailed) {
			t.Errorf("the commit after it: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s, _, err = store.Open(copyOf(t, dir), small)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(table, []byte("acknowledged")); err != nil {
			t.Errorf("what was acknowledged: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
