// Package geocast_test holds the house in order.
package geocast_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/geocast/geocast/"

// may is the import map of ARCHITECTURE.md: what each package may import of ours.
// cmd and examples are free.
var may = map[string][]string{
	"broker": {"hooks", "retained", "store", "mqtt", "geo"}, "hooks": {"geo", "mqtt"},
	"hooks/georules": {"hooks", "rules", "chat", "geo", "mqtt"}, "hooks/chat": {"hooks", "rules", "chat", "geo", "mqtt"},
	"hooks/users": {"hooks", "strictyaml", "regular", "rules", "mqtt"}, "hooks/acl": {"hooks", "strictyaml", "regular", "mqtt"},
	"hooks/trees": {"hooks", "strictyaml", "rules", "mqtt"},
	"hooks/mochi": {"hooks", "rules", "chat", "geo", "mqtt"},
	"strictyaml":  {}, "regular": {},
	"rules": {"geo", "mqtt", "strictyaml", "regular"}, "chat": {"geo", "mqtt"}, "retained": {"geo", "mqtt"}, "client": {"mqtt"}, "bench": {"mqtt"},
	"mqtt": {}, "geo": {}, "store": {}, "examples": {}, "conformance": {}, // the last two are tests
}

// owners are the modules that one package owns.
var owners = map[string][]string{
	"github.com/dgraph-io/badger": {"store"}, "github.com/tidwall/rtree": {"geo"},
	"github.com/mochi-mqtt/server": {"mqtt", "hooks/mochi"}, "github.com/eclipse/paho.golang": {"client"},
}

type pkg struct {
	ImportPath, Dir string
	Imports         []string
	GoFiles         []string
}

func packages(t *testing.T) (ps []pkg) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

func TestImportMap(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "examples/") || name+"/" == module {
			continue
		}
		allowed, ok := may[name]
		if !ok {
			t.Errorf("package %s is not in the import map", name)
		}
		for _, i := range p.Imports {
			if ours, ok := strings.CutPrefix(i, module); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s", name, ours)
			}
			for dep, who := range owners {
				if strings.HasPrefix(i, dep) && !slices.Contains(who, name) {
					t.Errorf("%s imports %s, which %v owns", name, i, who)
				}
			}
		}
	}
}

// Every exported name says what it means.
func TestExportedNamesAreDocumented(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range p.GoFiles {
			name := filepath.Join(p.Dir, f)
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				undocumented(d, func(id string) { t.Errorf("%s: %s has no doc comment", f, id) })
			}
		}
	}
}

func undocumented(d ast.Decl, report func(string)) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			report(d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if s, ok := s.(*ast.TypeSpec); ok && s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
				report(s.Name.Name)
			}
			if s, ok := s.(*ast.ValueSpec); ok && s.Names[0].IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
				report(s.Names[0].Name)
			}
		}
	}
}

// exportedReceiver is false for methods of unexported types: their interface
// documents them.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	if g, ok := t.(*ast.IndexExpr); ok {
		t = g.X
	}
	id, ok := t.(*ast.Ident)
	return !ok || id.IsExported()
}

var (
	testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
)

// A test that a document names is there.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	there := make(map[string]bool)
	docs := []string{"README.md", "ARCHITECTURE.md", "conformance/README.md"}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasPrefix(path, "docs/") && strings.HasSuffix(path, ".md") {
			docs = append(docs, path)
		}
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, doc := range docs {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllSubmatch(text, -1) {
			if named++; !there[string(m[1])] {
				t.Errorf("%s names %s, which is no test", doc, m[1])
			}
		}
	}
	if named < 15 {
		t.Errorf("the documents name %d tests: this test does not find them", named)
	}
}

// Every package stands in ARCHITECTURE.md, with what it may import of ours.
func TestArchitectureHasTheImportMap(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## The import map")
	section, _, _ = strings.Cut(section, "\n## ")
	for name, allowed := range may {
		row := ""
		for line := range strings.Lines(section) {
			if first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|"); strings.HasPrefix(line, "|") && strings.Contains(first, "`"+name+"`") {
				row = strings.Split(line, "|")[2]
			}
		}
		if row == "" {
			t.Errorf("%s does not stand there", name)
			continue
		}
		said := strings.FieldsFunc(row, func(r rune) bool { return strings.ContainsRune(",;: ", r) })
		for _, i := range allowed {
			if !slices.Contains(said, i) && said[0] != "any" {
				t.Errorf("%s may import %s, which is not said there", name, i)
			}
		}
	}
}

// Links between documents lead somewhere.
func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".md") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range link.FindAllSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), string(m[1]))); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreShort(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if n := bytes.Count(text, []byte("\n")); n > 500 {
			t.Errorf("%s has %d lines: it hides a noun", path, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
