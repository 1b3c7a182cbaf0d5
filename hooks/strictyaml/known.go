package strictyaml

import (
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Texts is a list of texts; in the file, a single text may stand for a list of one.
type Texts []string

// UnmarshalYAML reads one text or a list.
func (x *Texts) UnmarshalYAML(read func(any) error) error {
	var one string
	if read(&one) == nil {
		*x = Texts{one}
		return nil
	}
	return read((*[]string)(x))
}

// known looks for keys that have no field, and for values of the wrong kind. The
// messages call the value at n by the name where.
func (d *Document) known(n ast.Node, t reflect.Type, where string) error {
	got := kind(n)
	switch {
	case got == "empty" || t.Kind() == reflect.Interface:
		return nil
	case t.Kind() == reflect.Pointer:
		return d.known(n, t.Elem(), where)
	case t == reflect.TypeFor[Texts]() && got != "a list":
		return d.known(n, t.Elem(), where)
	case t.Kind() == reflect.Struct:
		return d.knownFields(n, t, where)
	case t.Kind() == reflect.Map:
		return d.knownValues(n, t, where)
	case t.Kind() == reflect.Slice:
		return d.knownItems(n, t, where)
	case t.Kind() == reflect.String && got != "a text" && got != "a number" && got != "true or false":
		return d.at(n, "%s is %s; a text is wanted here", where, got)
	case t.Kind() == reflect.Bool && got != "true or false":
		return d.at(n, "%s is %s; true or false is wanted here", where, got)
	case t.Kind() == reflect.Int && got != "a number":
		return d.at(n, "%s is %s; a number is wanted here", where, got)
	}
	return nil
}

func (d *Document) knownValues(n ast.Node, t reflect.Type, where string) error {
	if kind(n) != "a mapping" {
		return d.at(n, "%s is %s; a mapping (key: value) is wanted here", where, kind(n))
	}
	for _, v := range pairs(n) {
		if err := d.known(v.Value, t.Elem(), keyOf(v)); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) knownItems(n ast.Node, t reflect.Type, where string) error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return d.at(n, "%s is %s; a list is wanted here", where, kind(n))
	}
	for _, v := range seq.Values {
		if kind(v) == "empty" {
			return d.at(v, "an item of %s is empty", where)
		}
		if err := d.known(v, t.Elem(), where); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) knownFields(n ast.Node, t reflect.Type, where string) error {
	fields := make(map[string]reflect.Type)
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		fields[name] = t.Field(i).Type
		names = append(names, name)
	}
	if kind(n) != "a mapping" {
		return d.at(n, "%s is %s; wanted is a mapping with the keys %s", where, kind(n), OneOf(names))
	}
	for _, v := range pairs(n) {
		ft, ok := fields[keyOf(v)]
		if !ok {
			hint := DidYouMean(keyOf(v), names)
			if hint == "" {
				hint = "; known are " + OneOf(names)
			}
			return d.at(v.Key, "unknown key %q in %s%s", keyOf(v), where, hint)
		}
		if err := d.known(v.Value, ft, keyOf(v)); err != nil {
			return err
		}
	}
	return nil
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
	}
	return "an anchor, alias or tag, which are not supported here"
}
