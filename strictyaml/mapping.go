package strictyaml

import "github.com/goccy/go-yaml/ast"

// Mapping is where a mapping stands in its file, for programs that edit the text
// and leave all else as it is. Lines and columns (in characters) count from 1.
type Mapping struct {
	// Flow says that it is written in braces; Line and Column are then the
	// opening one's.
	Flow         bool
	Line, Column int
	Keys         []Key
}

// Key is where a key of a mapping stands, and its value.
type Key struct {
	Name         string
	Line, Column int
	// Colon is the column behind the colon, on the line of the key.
	Colon int
	// ValueLine and ValueColumn are where the value begins; 0 if it is empty.
	ValueLine, ValueColumn int
}

// Mapping returns the mapping at a path of keys. ok is false if there is none, or
// it is no mapping; an empty value is a mapping without keys.
func (d *Document) Mapping(path ...string) (m Mapping, ok bool) {
	n := d.root
	for _, step := range path {
		at, value := child(n, step)
		if at == nil {
			return m, false
		}
		n = value
	}
	switch Kind(n) {
	case "empty":
		return m, true
	case "a mapping":
	default:
		return m, false
	}
	if b, ok := n.(*ast.MappingNode); ok && b.IsFlowStyle {
		m.Flow = true
	}
	m.Line, m.Column = place(first(n))
	for _, v := range pairs(n) {
		m.Keys = append(m.Keys, keyAt(v))
	}
	return m, true
}

func keyAt(v *ast.MappingValueNode) Key {
	k := Key{Name: keyOf(v)}
	k.Line, k.Column = place(v.Key.GetToken())
	_, k.Colon = place(v.Start)
	k.Colon++
	if Kind(v.Value) != "empty" {
		k.ValueLine, k.ValueColumn = place(first(v.Value))
	}
	return k
}

// Key returns the key of that name.
func (m *Mapping) Key(name string) (k Key, ok bool) {
	for _, k := range m.Keys {
		if k.Name == name {
			return k, true
		}
	}
	return k, false
}
