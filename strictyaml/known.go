package strictyaml

import (
	"reflect"
	"strings"
	"unicode"

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

// strict looks for what no file of ours needs, wherever it stands: a key twice, which
// would let one of the two go unseen, and anchors, aliases, merge keys and tags.
func (d *Document) strict(n ast.Node) *Fault {
	if seq, ok := n.(*ast.SequenceNode); ok {
		for _, v := range seq.Values {
			if f := d.strict(v); f != nil {
				return f
			}
		}
		return nil
	}
	seen := make(map[string]int)
	for _, v := range pairs(n) {
		if f := d.strictKey(v); f != nil {
			return f
		}
		key := keyOf(v)
		if line, again := seen[key]; again {
			return d.at(v.Key, "%q stands here already, on line %d", key, line)
		}
		seen[key], _ = Place(v.Key)
		if f := d.strict(v.Value); f != nil {
			return f
		}
	}
	if k := unsupported(n); k != "" {
		return d.at(n, "this is %s; write the value out, or quote it", k)
	}
	if text, ok := n.(*ast.StringNode); ok && strings.ContainsFunc(text.Value, unicode.IsControl) {
		return d.at(n, `a control character; in double quotes \ begins one, as in "C:\new": write 'C:\new'`)
	}
	return nil
}

// strictKey lets every key be the text that it is written as: no, 007 and 1e3 are names
// like others.
func (d *Document) strictKey(v *ast.MappingValueNode) *Fault {
	if _, merge := v.Key.(*ast.MergeKeyNode); merge {
		return d.at(v.Key, "merge keys (<<) are not supported; write the keys out")
	}
	if k := unsupported(v.Key); k != "" {
		return d.at(v.Key, "the key is %s", k)
	}
	if f := d.strict(v.Key); f != nil {
		return f
	}
	if text := asWritten(v.Key); text != nil {
		v.Key = text
	}
	if _, ok := v.Key.(*ast.StringNode); !ok {
		return d.at(v.Key, "a key is a plain word here: key: value")
	}
	return nil
}

// asWritten is the text of a number, of true and false, and of a null that is written
// out; nil for all else.
func asWritten(n ast.Node) *ast.StringNode {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode, *ast.NullNode:
		return ast.String(n.GetToken())
	}
	return nil
}

// texts lets a value be the text that it is written as if a text is wanted there.
func texts(n ast.Node, t reflect.Type) ast.Node {
	if text := asWritten(n); text != nil && Kind(n) != "empty" && (t.Kind() == reflect.String || t == reflect.TypeFor[Texts]()) {
		return text
	}
	return n
}

// known looks for keys that have no field, and for values of the wrong kind. The
// messages call the value at n by the name where.
func (d *Document) known(n ast.Node, t reflect.Type, where string) error {
	got := Kind(n)
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
	if Kind(n) != "a mapping" {
		return d.at(n, "%s is %s; a mapping (key: value) is wanted here", where, Kind(n))
	}
	for _, v := range pairs(n) {
		v.Value = texts(v.Value, t.Elem())
		if err := d.known(v.Value, t.Elem(), keyOf(v)); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) knownItems(n ast.Node, t reflect.Type, where string) error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return d.at(n, "%s is %s; a list is wanted here", where, Kind(n))
	}
	for i, v := range seq.Values {
		if Kind(v) == "empty" {
			return d.at(v, "an item of %s is empty", where)
		}
		seq.Values[i] = texts(v, t.Elem())
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
	if Kind(n) != "a mapping" {
		return d.at(n, "%s is %s; wanted is a mapping with the keys %s", where, Kind(n), OneOf(names))
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
		v.Value = texts(v.Value, ft)
		if err := d.known(v.Value, ft, keyOf(v)); err != nil {
			return err
		}
	}
	return nil
}

// Kind names what n is, for a message: a text, a mapping, empty …
func Kind(n ast.Node) string {
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
	return unsupported(n)
}

// unsupported names what none of our files needs; empty for all else.
func unsupported(n ast.Node) string {
	switch n.(type) {
	case *ast.AnchorNode:
		return "an anchor (&), which is not supported"
	case *ast.AliasNode:
		return "an alias (*), which is not supported"
	case *ast.TagNode:
		return "a tag (!), which is not supported"
	}
	return ""
}
