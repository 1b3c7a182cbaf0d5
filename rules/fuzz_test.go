package rules_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

// FuzzParse: any text gives either a set that steps, or faults with a place, and never both.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.txtar", "testdata/faults/*.txtar"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(archive.Files[0].Data))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, err := rules.Parse("rules.yaml", []byte(text), fstest.MapFS{})
		var faults rules.Faults
		switch {
		case (set == nil) == (err == nil):
			t.Fatalf("set %v, error %v", set, err)
		case err == nil:
			e := rules.New(set, crew{})
			e.Step(geo.Fix{Who: "ann", Position: geo.Position{Lat: 48, Lon: 11}, Tst: 1})
			e.Step(geo.Fix{Who: "bob", Position: geo.Position{Lat: 48, Lon: 11}, Tst: 1})
		case !errors.As(err, &faults) || len(faults) == 0:
			t.Fatalf("the error %v is %T", err, err)
		}
	})
}

// FuzzSource: what a source makes of any payload is a fix of a name, or a reason.
func FuzzSource(f *testing.F) {
	set, err := rules.Parse("rules.yaml", []byte(`version: 1
sources:
  - topic: t/{who}
    map: {lat: latitude, lon: "pos[0]", tst: "at / 1000", acc: "hdop * 5", vel: "speed * 1.852", event: "alarm ? 'sos' : word", tracker: dev, id: "string(seq) + who"}
  - topic: p/{who}
`), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(true, `{"latitude":48,"pos":[11],"at":1790000000000,"hdop":2,"speed":3,"alarm":true,"dev":"gps","seq":7,"who":"x"}`)
	f.Add(true, `[{"latitude":1e999},{"latitude":"x","pos":{}}]`)
	f.Add(false, `{"lat":1,"lon":2,"tracker":"a/b"}`)
	f.Fuzz(func(t *testing.T, mapped bool, payload string) {
		s, topic := set.Sources()[0], "t/ann"
		if !mapped {
			s, topic = set.Sources()[1], "p/ann"
		}
		fixes, _, _ := s.Decode(topic, []byte(payload), 1790000000000)
		for _, fix := range fixes {
			if !fix.Valid() || fix.Who != "ann" || fix.Tracker != "" && !geo.ValidName(fix.Tracker) || fix.Tst < 1000 || fix.Acc < 0 || len(fix.Event) > 128 || len(fix.ID) > 128 {
				t.Fatalf("%+v came through", fix)
			}
		}
	})
}

// TestDeep: what would overflow a recursive parser is a fault.
func TestDeep(t *testing.T) {
	rule := "version: 1\nrules: {a: {when: {near: {within: 1m}}, to: self, if: '"
	for _, test := range []struct{ name, text, want string }{
		{"lists", strings.Repeat("[", 1<<20), "r.yaml:1:1: nested too deep"},
		{"maps", strings.Repeat("{a: ", 1<<20), "r.yaml:1:1: nested too deep"},
		{"items", "a:\n" + strings.Repeat("- ", 1<<20), "r.yaml:2:1: nested too deep"},
		{"anchors", strings.Repeat("&", 1<<20), "r.yaml:1:1: nested too deep"},
		{"parentheses", rule + strings.Repeat("(", 1<<20) + "'}}", "r.yaml:2:56: if: longer than 1000 bytes"},
		{"signs", rule + strings.Repeat("!", 1<<20) + "true'}}", "r.yaml:2:56: if: longer than 1000 bytes"},
		{"size", strings.Repeat("#", 1<<25), "r.yaml: larger than 16 MB; move zones into GeoJSON files"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := rules.Parse("r.yaml", []byte(test.text), nil); err == nil || err.Error() != test.want {
				t.Errorf("got %.200v, want %s", err, test.want)
			}
		})
	}
}

// FuzzRestore: any bytes are refused or taken, never a panic.
func FuzzRestore(f *testing.F) {
	set, err := rules.Parse("rules.yaml", []byte("version: 1\nrules: {met: {when: {near: {within: 1km}}, to: self}}"), nil)
	if err != nil {
		f.Fatal(err)
	}
	people := crew{"ann": {Groups: []string{"g"}}, "bob": {Groups: []string{"g"}}}
	e := rules.New(set, people)
	for _, who := range []string{"ann", "bob"} {
		_, records := e.Step(geo.Fix{Who: who, Position: geo.Position{Lat: 48, Lon: 11}, Tst: 1})
		for _, r := range records {
			f.Add(r.Key, r.Value)
		}
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		_, _ = rules.New(set, people).Restore([]rules.StateRecord{{Key: key, Value: value}})
	})
}

// TestLoad reads files from disk, which use each other's zones.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := write("a.yaml", "version: 1\nzones:\n  depot: {circle: {lat: 48, lon: 11, radius: 1km}}\n")
	b := write("b.yaml", "version: 1\nrules:\n  in: {when: {enter: depot}, to: self}\n")
	c := write("c.yaml", "version: 1\nrules:\n  in: {when: {enter: depot}, to: self}\nzones:\n  depot: {circle: {lat: 48, lon: 11, radius: 1km}}\n")
	set, err := rules.Load(a, b)
	if err != nil || len(set.Zones()) != 1 || len(set.Rules()) != 1 {
		t.Errorf("two files: %v", err)
	}
	if _, err := rules.Load(b); err == nil || err.Error() != b+`:3:22: unknown zone "depot"` {
		t.Errorf("a file without its zones: %v", err)
	}
	want := c + `:3:3: rule "in" stands already in ` + b + "\n" + c + `:5:3: zone "depot" stands already in ` + a
	if _, err := rules.Load(a, b, c); err == nil || err.Error() != want {
		t.Errorf("names twice:\n got %v\nwant %s", err, want)
	}
	if _, err := rules.Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
