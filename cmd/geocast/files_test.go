package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/geocast/geocast/hooks/acl"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/rules"
)

// operatorFiles are the readers of what operators write, by what the file is called.
var operatorFiles = map[string]func(name string) error{
	"rules.yaml":   func(name string) error { _, err := rules.Load(name); return err },
	"users.yaml":   func(name string) error { _, err := users.Load(name); return err },
	"acl.yaml":     func(name string) error { _, err := acl.Load(name); return err },
	"geocast.yaml": func(name string) error { _, err := readConfig(name); return err },
}

// TestHazardsOfYAML: what no such file needs is refused in each with its place.
func TestHazardsOfYAML(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"an alias bomb", "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: [*c, *c, *c, *c, *c, *c, *c, *c]\n", `:1:\d+: .*`},
		{"deep nesting", strings.Repeat("[", 1<<20), ":1:1: nested too deep"},
		{"the version twice", "version: 1\nversion: 1\n", `:2:1: "version" stands here already, on line 1`},
		{"a merge key", "version: 1\n<<: {version: 1}\n", `:2:1: merge keys \(<<\) are not supported`},
		{"a tab", "version:\n\t1\n", ":2:1: a tab; YAML is indented with spaces"},
		{"not UTF-8", "version: 1 # caf\xe9\n", ":1:17: not UTF-8 from here on; save the file as UTF-8"},
		{"UTF-16", "\xff\xfev\x00", ":1:1: this is UTF-16; save the file as UTF-8"},
		{"several documents", "version: 1\n---\nversion: 1\n", ":3:1: a file holds one document; remove the --- before this line"},
		{"another version", "version: 2\n", ":1:10: .*reads version 1"},
		{"an unknown key", "version: 1\nversoin: 1\n", `:2:1: unknown key "versoin" in .*did you mean "version"`},
	} {
		for file, load := range operatorFiles {
			t.Run(row.name+"/"+file, func(t *testing.T) {
				name := filepath.Join(t.TempDir(), file)
				if err := os.WriteFile(name, []byte(row.text), 0o600); err != nil {
					t.Fatal(err)
				}
				err := load(name)
				if err == nil || !regexp.MustCompile(regexp.QuoteMeta(name)+row.want).MatchString(err.Error()) {
					t.Errorf("got  %v\nwant %s%s", err, file, row.want)
				}
			})
		}
	}
}

// TestHarmlessYAML: what means one thing to everybody is read so.
func TestHarmlessYAML(t *testing.T) {
	for what, text := range map[string]string{
		"a byte-order mark": "\ufeffversion: 1\n", "CRLF": "version: 1\r\n\r\n# x\r\n", "a document's start and end": "---\nversion: 1\n...\n",
		"a version line": "%YAML 1.2\n---\nversion: 1\n", "comments only behind": "version: 1 # \t x\n\n\n",
	} {
		for file, load := range operatorFiles {
			name := filepath.Join(t.TempDir(), file)
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := load(name); err != nil {
				t.Errorf("%s in %s: %v", what, file, err)
			}
		}
	}
}

// TestFilesThatAreNone: whatever file the program is told to read, a device, a pipe that
// nobody writes and a folder end in an error that names it. (How much of a large one is
// read is held in package regular.)
func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	readers := map[string]func(name string) error{
		"track":       func(name string) error { _, err := readTrack(name); return err },
		"payload":     func(name string) error { _, err := readPayload(name); return err },
		"certificate": func(name string) error { _, err := loadCerts(tlsConfig{Cert: name, Key: name}); return err },
		"users edit":  func(name string) error { return users.Add(name, "ann", users.User{}) },
		"pub -f": func(name string) error {
			p := &pubCmd{File: name, Repeat: 1}
			return p.payloads(t.Context(), nil, func([]byte) error { return nil })
		},
		"zones": func(name string) error {
			if err := os.Symlink(name, filepath.Join(dir, filepath.Base(name)+".geojson")); err != nil {
				return err
			}
			_, err := rules.Parse("rules.yaml", []byte("version: 1\nzones: {z: {file: "+filepath.Base(name)+".geojson}}"), os.DirFS(dir))
			return err
		},
	}
	for what, read := range operatorFiles {
		readers[what] = read
	}
	for what, read := range readers {
		for name, kind := range map[string]string{"/dev/zero": "a device", pipe: "a pipe", dir: "a folder"} {
			t.Run(what+"/"+kind, func(t *testing.T) {
				err := read(name)
				if err == nil || !strings.Contains(err.Error(), kind+", not a regular file") || !strings.Contains(err.Error(), filepath.Base(name)) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}
