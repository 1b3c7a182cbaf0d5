package strictyaml_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/geocast/geocast/strictyaml"
)

type shelf struct {
	Name  string            `yaml:"name"`
	Open  bool              `yaml:"open"`
	Size  int               `yaml:"size"`
	Tags  strictyaml.Texts  `yaml:"tags"`
	Books map[string]*book  `yaml:"books"`
	Attrs map[string]any    `yaml:"attrs"`
	Shops map[string]string `yaml:"shops"`
}

type book struct {
	Pages []int `yaml:"pages"`
}

func TestDecodeFaults(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"name: x\nopen: true\nsize: 3\ntags: a\nbooks: {b: {pages: [1, 2]}, c: }\nattrs: {x: [1, {y: z}]}\nshops:\n", ""},
		{"tags: [a, b]", ""}, {"name: 5", ""}, {"", ""}, {"# nothing\n", ""}, {"---\nname: x\n", ""},
		{"names: x", `f.yaml:1:1: unknown key "names" in this file; did you mean "name"?`}, {"books: {b: {page: 1}}", `f.yaml:1:13: unknown key "page" in b; did you mean "pages"?`},
		{"books: {b: {pages: 1}}", "f.yaml:1:20: pages is a number; a list is wanted here"}, {"books: {b: {pages: [x]}}", "f.yaml:1:21: pages is a text; a number is wanted here"},
		{"books: [b]", "f.yaml:1:8: books is a list; a mapping (key: value) is wanted here"}, {"size: x", "f.yaml:1:7: size is a text; a number is wanted here"},
		{"open: x", "f.yaml:1:7: open is a text; true or false is wanted here"}, {"name: {a: b}", "f.yaml:1:7: name is a mapping; a text is wanted here"}, {"tags: {a: b}", "f.yaml:1:7: tags is a mapping; a text is wanted here"},
		{"shops: {a: [b]}", "f.yaml:1:12: a is a list; a text is wanted here"}, {"name: x\n---\nname: y", "f.yaml:3:1: a file holds one document"}, {"name: [", "f.yaml:1:7: "},
		{"books: {b: {pages: [1]}\nname: x", "f.yaml:2:1: ',' or '}' must be specified; is a { before it not closed?"},
		{"tags: [a, b\nname: x", "f.yaml:2:1: ',' or ']' must be specified; is a [ before it not closed?"},
		{"name: a: b", "f.yaml:1:7: mapping value is not allowed in this context; is the line indented as those around it, and"},
		{"name:x\nopen: true", "f.yaml:1:1: unexpected key name; is the line indented as those around it, and a space behind the colon?"},
		{"x", "f.yaml:1:1: this file is a text; wanted is a mapping with the keys name, open,"}, {strings.Repeat("- ", 500) + "x", "f.yaml:1:1: nested too deep"},
	} {
		t.Run(row.text, func(t *testing.T) {
			var s shelf
			d, err := strictyaml.Parse("f.yaml", []byte(row.text))
			if err == nil {
				err = d.Decode(&s)
			}
			if got := message(err); !strings.HasPrefix(got, row.want) || row.want == "" && got != "" {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

// TestHazards: what YAML may hold beside what our files need is an error that says what
// would be right, or means what an operator would think.
func TestHazards(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"an alias bomb", "name: x\nattrs:\n  a: &a [x, x]\n  b: &b [*a, *a]\n  c: [*b, *b]\n", "f.yaml:3:6: this is an anchor (&), which is not supported; write the value out, or quote it"},
		{"an alias that was meant as a text", "name: *", "f.yaml:1:7: "},
		{"an unknown alias", "name: *x", "f.yaml:1:7: this is an alias (*), which is not supported; write the value out, or quote it"},
		{"a tag", "name: !x y", "f.yaml:1:7: this is a tag (!), which is not supported; write the value out, or quote it"},
		{"a merge key", "shops:\n  <<: {a: b}\n", "f.yaml:2:3: merge keys (<<) are not supported; write the keys out"},
		{"a key twice", "name: x\nname: y\n", `f.yaml:2:1: "name" stands here already, on line 1`},
		{"a name twice, once in quotes", `shops: {1: a, "1": b}`, `f.yaml:1:15: "1" stands here already, on line 1`},
		{"a key twice, deep in what is free", "attrs: {x: [{a: 1, a: 2}]}", `f.yaml:1:20: "a" stands here already, on line 1`},
		{"an explicit key", "? name\n: x\n", "f.yaml:1:1: a key is a plain word here: key: value"},
		{"a tab before a key", "books:\n\tb: {}\n", "f.yaml:2:1: a tab; YAML is indented with spaces"},
		{"tabs elsewhere", "#\tx\nname:\tx\t# y\n", "x"},
		{"a byte-order mark", "\ufeffname: x\n", "x"},
		{"CRLF", "name: x\r\nsize: 3\r\n", "x"},
		{"UTF-16", "\xff\xfen\x00", "f.yaml:1:1: this is UTF-16; save the file as UTF-8"},
		{"UTF-16 without a mark", "n\x00a\x00", "f.yaml:1:2: not UTF-8 from here on; save the file as UTF-8"},
		{"Latin-1", "size: 3\nname: caf\xe9\n", "f.yaml:2:10: not UTF-8 from here on; save the file as UTF-8"},
		{"a Windows path", `name: C:\data\new`, `C:\data\new`},
		{"a Windows path in single quotes", `name: 'C:\data\new'`, `C:\data\new`},
		{"a Windows path in double quotes", `name: "C:\data"`, `f.yaml:1:11: found unknown escape character 'd'; in double quotes \ begins one: write 'C:\data' in single ones`},
		{"a Windows path whose \\n is a line break", `name: "C:\new"`, `f.yaml:1:7: a control character; in double quotes \ begins one, as in "C:\new": write 'C:\new'`},
		{"a version line and a document", "%YAML 1.2\n---\nname: x\n", "x"},
		{"an end of document", "name: x\n...\n", "x"},
		{"several documents", "name: x\n...\nname: y\n", "f.yaml:3:1: a file holds one document; remove the --- before this line"},
		{"no", "name: no", "no"}, {"on", "name: on", "on"}, {"true", "name: true", "true"}, {"1e3", "name: 1e3", "1e3"}, {"octal", "name: 010", "010"},
		{"hex", "name: 0x1F", "0x1F"}, {"a decimal", "name: 1.50", "1.50"}, {"a time", "name: 12:30", "12:30"}, {"infinity", "name: .inf", ".inf"},
		{"yes for true", "open: yes", "f.yaml:1:7: open is a text; true or false is wanted here"},
		{"a number in quotes", "size: '3'", "f.yaml:1:7: size is a text; a number is wanted here"},
		{"a number that is too large", "size: 99999999999999999999", "f.yaml:1:7: size is a text; a number is wanted here"},
		{"no space after the colon", "name:x", "f.yaml:1:1: this file is a text; wanted is a mapping with the keys name, open,"},
		{"deep by columns", "name: x\n" + strings.Repeat(" ", 500) + "a: b", "f.yaml:2:1: nested too deep"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var s shelf
			d, err := strictyaml.Parse("f.yaml", []byte(row.text))
			if err == nil {
				err = d.Decode(&s)
			}
			if got := s.Name + message(err); got != row.want && (err == nil || !strings.HasPrefix(got, row.want)) {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

// TestNamesAreAsWritten: keys and items, too, are the texts that stand there.
func TestNamesAreAsWritten(t *testing.T) {
	var s shelf
	d, err := strictyaml.Parse("f.yaml", []byte("shops: {no: 1, 1e3: 010, 007: 0x1, ~: x, null: x, true: on, 1.0: .inf}\ntags: [no, 1e3, 1.0]\n"))
	if err == nil {
		err = d.Decode(&s)
	}
	want := map[string]string{"no": "1", "1e3": "010", "007": "0x1", "~": "x", "null": "x", "true": "on", "1.0": ".inf"}
	if err != nil || !maps.Equal(s.Shops, want) || !slices.Equal(s.Tags, []string{"no", "1e3", "1.0"}) {
		t.Errorf("%v, %v, %v", s.Shops, s.Tags, err)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestFaultPointsToItsPath(t *testing.T) {
	d, err := strictyaml.Parse("f.yaml", []byte("name: x\ntags: [a, b]\nbooks:\n  b:\n    pages: [1, 2]\n  c: {pages: 5}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		path []any
		want string
	}{
		{nil, "f.yaml:1:1: no"}, {[]any{"name"}, "f.yaml:1:1: no"}, {[]any{"name", ""}, "f.yaml:1:7: no"}, {[]any{"tags", 1}, "f.yaml:2:11: no"}, {[]any{"name", 0}, "f.yaml:1:7: no"},
		{[]any{"books", "b", "pages", 1}, "f.yaml:5:16: no"}, {[]any{"books", "b"}, "f.yaml:4:3: no"}, {[]any{"books", "gone", "pages"}, "f.yaml:3:1: no"}, {[]any{"tags", 7}, "f.yaml:2:1: no"},
	} {
		if got := d.Fault(row.path, "no").Error(); got != row.want {
			t.Errorf("%v: got %s, want %s", row.path, got, row.want)
		}
	}
}

func TestHas(t *testing.T) {
	d, err := strictyaml.Parse("f.yaml", []byte("name: x\nbooks:\n  b: {pages: 0}\n  c:\n"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"name": true, "size": false, "books": true, "books/b/pages": true, "books/c": true, "books/c/pages": false, "name/x": false} {
		if got := d.Has(strings.Split(path, "/")...); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	words := []string{"read", "write", "anonymous"}
	for word, want := range map[string]string{"reed": "read", "raed": "read", "Write": "write", "wirte": "write", "anonymus": "anonymous", "x": "", "completely": "", "": ""} {
		if want != "" {
			want = `; did you mean "` + want + `"?`
		}
		if got := strictyaml.DidYouMean(word, words); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: x\ntags: [a]\nbooks: {b: {pages: [1]}}\nattrs: {x: 1}\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		if d, err := strictyaml.Parse("f.yaml", text); err == nil {
			_ = d.Decode(&shelf{})
			d.Mapping("books", "b")
		}
	})
}
