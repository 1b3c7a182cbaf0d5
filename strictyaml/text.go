package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxText bounds a file, in bytes.
const maxText = 32 << 20

// Root parses the one document of a file and returns its top node; nil if it holds
// nothing. Keys that stand twice are left to the caller, and so are anchors, aliases
// and merge keys, which no file of ours needs: nothing here resolves them, so that
// none can blow up. Any text ends in a node or a fault, never in a panic or a full
// stack.
func Root(name string, text []byte) (root ast.Node, f *Fault) {
	defer func() {
		if r := recover(); r != nil { // the YAML parser is not ours; what it can't read is the file's fault
			root, f = nil, &Fault{File: name, Text: "not readable as YAML"}
		}
	}()
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // the byte-order mark that some editors write
	if f := unreadable(name, text); f != nil {
		return nil, f
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntax(name, text, err)
	}
	for _, doc := range file.Docs {
		switch {
		case doc == nil || doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.DirectiveType:
		case root != nil:
			return nil, at(name, doc.Body, "a file holds one document; remove the --- before this line")
		default:
			root = doc.Body
		}
	}
	return root, nil
}

// unreadable finds what the YAML parser must not be given.
func unreadable(name string, text []byte) *Fault {
	if len(text) > maxText {
		return &Fault{File: name, Text: fmt.Sprintf("larger than %d MB", maxText>>20)}
	}
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return &Fault{name, 1, 1, "this is UTF-16; save the file as UTF-8"}
	}
	if line, column := notText(text); line > 0 {
		return &Fault{name, line, column, "not UTF-8 from here on; save the file as UTF-8"}
	}
	if line := tooDeep(text); line > 0 {
		return &Fault{name, line, 1, "nested too deep"}
	}
	return nil
}

// notText returns where text is not UTF-8, or holds a NUL, as UTF-16 and programs do; or 0.
func notText(text []byte) (line, column int) {
	for row := range bytes.Lines(text) {
		line, column = line+1, 1
		for len(row) > 0 {
			r, size := utf8.DecodeRune(row)
			if r == 0 || r == utf8.RuneError && size == 1 {
				return line, column
			}
			row, column = row[size:], column+1
		}
	}
	return 0, 0
}

// tooDeep returns the line on which text nests deeper than any such file does, or 0. The
// YAML parser recurses without a bound, and a stack that is full can't be recovered
// from. Brackets in texts and comments count, too: the bounds leave room for them.
func tooDeep(text []byte) int {
	const brackets, indicators, columns = 100, 20, 400
	depth, line := 0, 0
	for row := range bytes.Lines(text) {
		line++
		head := len(row) - len(bytes.TrimLeft(row, " \t-?&!*:|>"))
		blanks := bytes.Count(row[:head], []byte(" ")) + bytes.Count(row[:head], []byte("\t"))
		if head > columns || head-blanks > indicators {
			return line
		}
		for _, c := range row {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			}
			if depth > brackets {
				return line
			}
		}
	}
	return 0
}

// syntax makes a fault of what the YAML package says, with what is mostly behind it.
func syntax(name string, text []byte, err error) *Fault {
	f := fault(name, err)
	rows := bytes.Split(text, []byte("\n"))
	switch at := max(f.Line-1, 0); {
	case at >= len(rows):
	case bytes.Contains(rows[at], []byte(" {{")):
		f.Text += `; a text with {{…}} stands in quotes: "{{.who}} …"`
	case strings.Contains(f.Text, "escape character"):
		f.Text += `; in double quotes \ begins one: write 'C:\data' in single ones`
	case bytes.HasPrefix(rows[at], []byte("\t")):
		f.Text = "a tab; YAML is indented with spaces"
	default:
		f.Text += behind(f.Text)
	}
	return f
}

// behind is what an operator mostly did where the YAML package says text.
func behind(text string) string {
	for _, h := range []struct{ part, hint string }{
		{"',' or '}' must be", "; is a { before it not closed?"},
		{"',' or ']' must be", "; is a [ before it not closed?"},
		{"value is not allowed in this context", "; is the line indented as those around it, and each bracket closed once? A text with a colon stands in quotes"},
		{"unexpected key name", "; is the line indented as those around it, and a space behind the colon?"},
	} {
		if strings.Contains(text, h.part) {
			return h.hint
		}
	}
	return ""
}

// fault makes a *Fault of what the YAML package says.
func fault(name string, err error) *Fault {
	f := &Fault{File: name, Text: err.Error()}
	var at yaml.Error
	if errors.As(err, &at) {
		f.Text = at.GetMessage()
		f.Line, f.Column = place(at.GetToken())
	}
	f.Text, _, _ = strings.Cut(f.Text, "\n")
	return f
}
