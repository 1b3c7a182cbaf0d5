// Package strictyaml reads the YAML files that operators write: what does not
// belong there is an error with file, line and column, and says what would be
// right.
//
//	d, err := strictyaml.Parse("users.yaml", text)
//	err = d.Decode(&into)                                      // unknown keys, wrong kinds
//	err = d.Fault([]any{"users", "ann", "token"}, "is too short") // what only the caller knows
//
// Package rules, which tells all faults of a file at once, reads the nodes of Root itself.
package strictyaml

import (
	"fmt"
	"reflect"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Fault is an error in a file. Line and Column count from 1; they are 0 when the
// whole file is meant.
type Fault struct {
	File         string
	Line, Column int
	Text         string
}

// Error returns file:line:column: text, the form that editors jump to.
func (f *Fault) Error() string {
	if f.Line == 0 {
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text)
}

// Document is a parsed file. Decode must not run beside another method; all else is
// safe for concurrent use.
type Document struct {
	name string
	root ast.Node
}

// Parse reads the one document of a file; name is for errors, which are *Fault.
// An empty file is a document without keys.
func Parse(name string, text []byte) (*Document, error) {
	root, f := Root(name, text)
	if f != nil {
		return nil, f
	}
	d := &Document{name: name, root: root}
	if f := d.strict(root); f != nil {
		return nil, f
	}
	return d, nil
}

func place(t *token.Token) (line, column int) {
	if t == nil || t.Position == nil {
		return 0, 0
	}
	return t.Position.Line, t.Position.Column
}

func (d *Document) at(n ast.Node, format string, args ...any) *Fault {
	return at(d.name, n, format, args...)
}

func at(name string, n ast.Node, format string, args ...any) *Fault {
	f := &Fault{File: name, Text: fmt.Sprintf(format, args...)}
	f.Line, f.Column = Place(n)
	return f
}

// Place is where a node begins, counted from 1: for a mapping its first key, not the
// colon behind it. It is 0, 0 for nil.
func Place(n ast.Node) (line, column int) { return place(first(n)) }

// first is the token where a node begins.
func first(n ast.Node) *token.Token {
	switch n := n.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return first(n.Values[0])
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// Fault is an error at a place of the document: path are the keys (string) and
// the indices (int) that lead there. It points to the key of the last one that
// exists; for a value, append "" to its path.
func (d *Document) Fault(path []any, format string, args ...any) *Fault {
	n := d.root
	at := n
	for _, step := range path {
		key, value := child(n, step)
		if key == nil && (step == "" || step == 0) && n != nil {
			key, value = n, n // the value itself; one text for a list of one
		}
		if key == nil {
			break
		}
		at, n = key, value
	}
	return d.at(at, format, args...)
}

// Has reports whether the keys lead to a value that stands in the document.
func (d *Document) Has(path ...string) bool {
	n := d.root
	for _, step := range path {
		key, value := child(n, step)
		if key == nil {
			return false
		}
		n = value
	}
	return true
}

// child is a value in a mapping or sequence, and where it begins; nil if there is
// none.
func child(n ast.Node, step any) (at, value ast.Node) {
	if i, ok := step.(int); ok {
		if seq, ok := n.(*ast.SequenceNode); ok && i < len(seq.Values) {
			return seq.Values[i], seq.Values[i]
		}
		return nil, nil
	}
	for _, v := range pairs(n) {
		if keyOf(v) == step {
			return v.Key, v.Value
		}
	}
	return nil, nil
}

// pairs are the keys and values of a mapping.
func pairs(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func keyOf(v *ast.MappingValueNode) string {
	if s, ok := v.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return v.Key.GetToken().Value
}

// Decode reads the document into a pointer to a struct, whose fields bear yaml
// tags. A key without a field, and a value of the wrong kind, is a *Fault. Where a text is
// wanted, a number, true and false are the text that they are written as.
func (d *Document) Decode(into any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Fault{File: d.name, Text: "not readable as YAML"}
		}
	}()
	if d.root == nil {
		return nil
	}
	if err := d.known(d.root, reflect.TypeOf(into), "this file"); err != nil {
		return err
	}
	if err := yaml.NodeToValue(d.root, into); err != nil {
		return fault(d.name, err)
	}
	return nil
}
