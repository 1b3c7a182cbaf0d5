package strictyaml_test

import (
	"strings"
	"testing"

	"github.com/geocast/geocast/hooks/strictyaml"
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
