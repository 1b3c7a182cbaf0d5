package regular_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/geocast/geocast/regular"
)

// TestWhatIsRead: regular files up to the bound, by links too; of all else the error
// names the file and what would be right, and nothing waits.
func TestWhatIsRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("text"), []byte("hello"), 0o600))
	must(os.WriteFile(at("empty"), nil, 0o600))
	must(os.Symlink("text", at("link")))
	must(os.Symlink("/dev/zero", at("zero")))
	must(syscall.Mkfifo(at("pipe"), 0o600))
	must(os.Mkdir(at("folder"), 0o700))
	must(os.WriteFile(at("large"), nil, 0o600))
	must(os.Truncate(at("large"), 10<<30)) // 10 GB without a block on disk
	socket, err := net.Listen("unix", at("socket"))
	must(err)
	defer socket.Close() //nolint:errcheck // of a test
	for _, row := range []struct {
		name, text, fault string
		kind              error
	}{
		{"text", "hello", "", nil},
		{"empty", "", "", nil},
		{"link", "hello", "", nil},
		{"zero", "", "a device, not a regular file; name the file that holds the text", regular.ErrKind},
		{"pipe", "", "a pipe, not a regular file; name the file that holds the text", regular.ErrKind},
		{"folder", "", "a folder, not a regular file; name the file that holds the text", regular.ErrKind},
		{"large", "", "the file is too large; at most 64 MB are read", regular.ErrLarge},
		{"socket", "", "", nil},
		{"missing", "", "no such file or directory", fs.ErrNotExist},
	} {
		t.Run(row.name, func(t *testing.T) {
			for from, read := range map[string]func() ([]byte, error){
				"disk": func() ([]byte, error) { return regular.Read(at(row.name)) },
				"fs":   func() ([]byte, error) { return regular.ReadFS(os.DirFS(dir), row.name) },
			} {
				text, err := read()
				if row.name == "socket" { // the system may refuse it before us
					if err == nil {
						t.Errorf("%s: a socket was read", from)
					}
					continue
				}
				if string(text) != row.text || !errors.Is(err, row.kind) || err != nil && (!strings.Contains(err.Error(), row.name) || !strings.HasSuffix(err.Error(), row.fault)) {
					t.Errorf("%s: %q, %v", from, text, err)
				}
			}
		})
	}
}

// TestBound: the last byte that is taken, and the first that is not.
func TestBound(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := regular.ReadUpTo(name, 5); err != nil || string(text) != "12345" {
		t.Errorf("at the bound: %q, %v", text, err)
	}
	if _, err := regular.ReadUpTo(name, 4); !errors.Is(err, regular.ErrLarge) {
		t.Errorf("above the bound: %v", err)
	}
	if text, err := regular.ReadFS(fstest.MapFS{"f": {Data: []byte("x")}}, "f"); err != nil || string(text) != "x" {
		t.Errorf("from memory: %q, %v", text, err)
	}
}
