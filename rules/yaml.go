package rules

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile bounds a rules file, in bytes. Zone sets above some 10,000 belong into GeoJSON files: the time of the YAML parser grows
// with the square of the entries (20,000 zones and rules: 2.5 s).
const maxFile = 16 << 20

// An entry is a key of a mapping with its value.
type entry struct {
	key   string
	at    ast.Node // the key, for messages
	value ast.Node
}

// A document reads the nodes of one file and collects what is wrong with them.
type document struct {
	name     string
	faults   Faults
	mentions []mention
}

// root parses text into its top-level mapping; nil when it has none, which is a fault then.
func (d *document) root(text []byte) (root ast.Node) {
	defer func() {
		if r := recover(); r != nil { // the YAML parser is not ours; what it can't read is the file's fault
			d.faults = append(d.faults, Fault{File: d.name, Text: "not readable as YAML"})
			root = nil
		}
	}()
	if len(text) > maxFile {
		d.faults = append(d.faults, Fault{File: d.name, Text: fmt.Sprintf("larger than %d MB; move zones into GeoJSON files", maxFile>>20)})
		return nil
	}
	if line, column := notUTF8(text); line > 0 {
		d.faultAt(line, column, "not UTF-8 from here on; save the file as UTF-8")
		return nil
	}
	if line := tooDeep(text); line > 0 {
		d.faultAt(line, 1, "nested too deep")
		return nil
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(text, err)
		return nil
	}
	bodies := slices.DeleteFunc(file.Docs, func(doc *ast.DocumentNode) bool { return doc == nil || doc.Body == nil })
	if len(bodies) == 0 {
		d.faults = append(d.faults, Fault{File: d.name, Line: 1, Column: 1, Text: `empty; a rules file begins with "version: 1"`})
		return nil
	}
	if len(bodies) > 1 {
		d.fault(bodies[1].Body, "a rules file holds one document; remove the --- before this line")
	}
	return bodies[0].Body
}

// tooDeep returns the line on which text nests deeper than any rules file does, or 0. The YAML parser recurses without a bound, and
// a stack that is full can't be recovered from. Brackets in texts and comments count, too: the bounds leave room for them.
func tooDeep(text []byte) int {
	const brackets, indicators, columns = 100, 20, 400
	depth, line := 0, 0
	for row := range bytes.Lines(text) {
		line++
		head := len(row) - len(bytes.TrimLeft(row, " \t-?&!*:|>"))
		lead := row[:head]
		if head > columns || head-bytes.Count(lead, []byte(" "))-bytes.Count(lead, []byte("\t")) > indicators {
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

// notUTF8 returns where text is not UTF-8, or 0.
func notUTF8(text []byte) (line, column int) {
	for row := range bytes.Lines(text) {
		line, column = line+1, 1
		for len(row) > 0 {
			r, size := utf8.DecodeRune(row)
			if r == utf8.RuneError && size == 1 {
				return line, column
			}
			row, column = row[size:], column+1
		}
	}
	return 0, 0
}

func (d *document) syntax(text []byte, err error) {
	f := Fault{File: d.name, Text: err.Error()}
	var at yaml.Error
	if errors.As(err, &at) {
		f.Text = at.GetMessage()
		f.Line, f.Column = place(at.GetToken())
	}
	f.Text, _, _ = strings.Cut(f.Text, "\n")
	rows := bytes.Split(text, []byte("\n"))
	switch at := max(f.Line-1, 0); {
	case at >= len(rows):
	case bytes.Contains(rows[at], []byte(" {{")):
		f.Text += `; a text with {{…}} stands in quotes: "{{.who}} …"`
	case bytes.HasPrefix(rows[at], []byte("\t")):
		f.Text = "a tab; YAML is indented with spaces"
	}
	d.faults = append(d.faults, f)
}

// fault notes what is wrong at n.
func (d *document) fault(n ast.Node, format string, args ...any) {
	line, column := d.at(n)
	d.faultAt(line, column, format, args...)
}

func (d *document) faultAt(line, column int, format string, args ...any) {
	d.faults = append(d.faults, Fault{File: d.name, Line: line, Column: column, Text: fmt.Sprintf(format, args...)})
}

// at returns where n begins: for a block mapping its first key, not the colon behind it.
func (d *document) at(n ast.Node) (line, column int) {
	switch n := n.(type) {
	case nil:
		return 0, 0
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return d.at(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return d.at(n.Key)
	}
	return place(n.GetToken())
}

func place(t *token.Token) (line, column int) {
	if t == nil || t.Position == nil {
		return 0, 0
	}
	return t.Position.Line, t.Position.Column
}

// mapping returns the entries of n; what names it in messages. Repeated keys are faults, and the first one holds.
func (d *document) mapping(n ast.Node, what string) ([]entry, bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		d.fault(n, "%s is %s; a mapping (key: value) is wanted here%s", what, kind(n), example(what))
		return nil, false
	}
	seen := make(map[string]int, len(values))
	entries := make([]entry, 0, len(values))
	for _, v := range values {
		e, ok := d.entry(v)
		if !ok {
			continue
		}
		if line, again := seen[e.key]; again {
			d.fault(e.at, "%q stands here already, on line %d", e.key, line)
			continue
		}
		seen[e.key], _ = d.at(e.at)
		entries = append(entries, e)
	}
	return entries, true
}

func (d *document) entry(v *ast.MappingValueNode) (entry, bool) {
	switch key := v.Key.(type) {
	case *ast.StringNode:
		return entry{key.Value, key, v.Value}, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return entry{key.GetToken().Value, key, v.Value}, true
	case *ast.MergeKeyNode:
		d.fault(key, "merge keys (<<) are not supported")
	default:
		d.fault(key, "a key is a plain word here")
	}
	return entry{}, false
}

// list returns the items of n, which may also be a single item that is no list.
func list(n ast.Node) []ast.Node {
	if seq, ok := n.(*ast.SequenceNode); ok {
		return seq.Values
	}
	return []ast.Node{n}
}

// examples are how what is often mistaken is written.
var examples = map[string]string{
	"circle":  "circle: {lat: 48.137, lon: 11.575, radius: 300m}",
	"polygon": "polygon: [[48.1, 11.5], [48.1, 11.6], [48.2, 11.6]]",
	"a hole":  "holes: [[[48.1, 11.5], [48.1, 11.6], [48.2, 11.6]]]",
	"when":    "when: {enter: depot}",
	"near":    "near: {within: 500m, of: {group: crew}}",
	"who":     "who: {role: driver}",
	"of":      "of: {group: crew}",
	"send":    `send: {text: "{{.who}} is at {{.zone}}"}`,
	"rules":   "rules: {depot-in: {when: {enter: depot}, to: self}}",
	"zones":   "zones: {depot: {circle: {lat: 48.137, lon: 11.575, radius: 300m}}}",
	"sources": "sources: [{topic: trackers/{who}/pos, map: {lat: latitude, lon: longitude}}]",
	"tags":    "tags: [school]",
	"users":   "users: [ann, bob]",
}

func example(what string) string {
	if e := examples[what]; e != "" {
		return ", as in " + e
	}
	return ""
}

// sequence returns the items of n.
func (d *document) sequence(n ast.Node, what string) ([]ast.Node, bool) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fault(n, "%s is %s; a list is wanted here%s", what, kind(n), example(what))
		return nil, false
	}
	return seq.Values, true
}

// text returns the scalar n as it is written.
func (d *document) text(n ast.Node, what string) (string, bool) {
	s, ok := scalar(n)
	if !ok {
		d.fault(n, "%s is %s; a text is wanted here", what, kind(n))
	}
	return s, ok
}

// scalar returns a string, number or bool as written.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// number returns n as a float.
func (d *document) number(n ast.Node, what string) (float64, bool) {
	switch v := n.(type) {
	case *ast.InfinityNode, *ast.NanNode:
		d.fault(n, "%s is not finite; a number is wanted here", what)
		return 0, false
	case *ast.StringNode:
		d.fault(n, "%s is a text; a number is wanted here, decimal and without quotes", what)
		return 0, false
	case *ast.FloatNode:
		return v.Value, true
	case *ast.IntegerNode:
		switch i := v.Value.(type) {
		case int64:
			return float64(i), true
		case uint64:
			return float64(i), true
		}
	}
	d.fault(n, "%s is %s; a number is wanted here", what, kind(n))
	return 0, false
}

// unknown notes a key that has no meaning in what: misspelt, or not supported yet.
func (d *document) unknown(e entry, what string, known, later []string) {
	if slices.Contains(later, e.key) {
		d.fault(e.at, "%q is not supported yet in %s; known are %s", e.key, what, oneOf(known))
		return
	}
	hint := didYouMean(e.key, known)
	if other := aliasOf(e.key, known); other != "" {
		hint = fmt.Sprintf("; did you mean %q?", other)
	}
	if hint == "" {
		hint = "; known are " + oneOf(known)
	}
	d.fault(e.at, "unknown key %q in %s%s", e.key, what, hint)
}

// kind names what n is, for a message.
func kind(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "empty"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.AnchorNode, *ast.AliasNode:
		return "an anchor or alias, which are not supported"
	}
	return "of an unknown kind"
}
