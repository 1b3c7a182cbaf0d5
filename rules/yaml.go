package rules

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"

	"github.com/geocast/geocast/strictyaml"
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
func (d *document) root(text []byte) ast.Node {
	if len(text) > maxFile {
		d.faults = append(d.faults, Fault{File: d.name, Text: fmt.Sprintf("larger than %d MB; move zones into GeoJSON files", maxFile>>20)})
		return nil
	}
	root, f := strictyaml.Root(d.name, text)
	if f != nil {
		d.faults = append(d.faults, Fault(*f))
		return nil
	}
	if root == nil {
		d.faultAt(1, 1, `empty; a rules file begins with "version: 1"`)
	}
	return root
}

// fault notes what is wrong at n.
func (d *document) fault(n ast.Node, format string, args ...any) {
	line, column := strictyaml.Place(n)
	d.faultAt(line, column, format, args...)
}

func (d *document) faultAt(line, column int, format string, args ...any) {
	d.faults = append(d.faults, Fault{File: d.name, Line: line, Column: column, Text: fmt.Sprintf(format, args...)})
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
		d.fault(n, "%s is %s; a mapping (key: value) is wanted here%s", what, strictyaml.Kind(n), example(what))
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
		seen[e.key], _ = strictyaml.Place(e.at)
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
		d.fault(n, "%s is %s; a list is wanted here%s", what, strictyaml.Kind(n), example(what))
		return nil, false
	}
	return seq.Values, true
}

// text returns the scalar n as it is written.
func (d *document) text(n ast.Node, what string) (string, bool) {
	s, ok := scalar(n)
	if !ok {
		d.fault(n, "%s is %s; a text is wanted here", what, strictyaml.Kind(n))
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
	d.fault(n, "%s is %s; a number is wanted here", what, strictyaml.Kind(n))
	return 0, false
}

// unknown notes a key that has no meaning in what: misspelt, or not supported yet.
func (d *document) unknown(e entry, what string, known, later []string) {
	if slices.Contains(later, e.key) {
		d.fault(e.at, "%q is not supported yet in %s; known are %s", e.key, what, strictyaml.OneOf(known))
		return
	}
	hint := strictyaml.DidYouMean(e.key, known)
	if other := aliasOf(e.key, known); other != "" {
		hint = fmt.Sprintf("; did you mean %q?", other)
	}
	if hint == "" {
		hint = "; known are " + strictyaml.OneOf(known)
	}
	d.fault(e.at, "unknown key %q in %s%s", e.key, what, hint)
}
