package rules

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"

	"github.com/geocast/geocast/strictyaml"
)

// conditionFields is what an `if` can name. The zero value is the type environment it is checked against.
type conditionFields struct {
	Fix  fixFields    `expr:"fix"`
	Who  personFields `expr:"who"`
	With personFields `expr:"with"`
	Zone zoneFields   `expr:"zone"`
}

// fixFields is the fix that raises the event. What the fix does not carry is not a number.
type fixFields struct {
	Lat   float64 `expr:"lat"`   // degrees
	Lon   float64 `expr:"lon"`   // degrees
	Acc   float64 `expr:"acc"`   // metres
	Alt   float64 `expr:"alt"`   // metres
	Vel   float64 `expr:"vel"`   // km/h
	Kmh   float64 `expr:"kmh"`   // km/h, the same as vel
	Cog   float64 `expr:"cog"`   // degrees
	Batt  float64 `expr:"batt"`  // percent
	Tst   float64 `expr:"tst"`   // seconds since 1970
	Event string  `expr:"event"` // what the device says about it, if anything
}

// personFields is a user as [People] describes it.
type personFields struct {
	Name    string         `expr:"name"`
	Role    string         `expr:"role"`
	Groups  []string       `expr:"groups"`
	Tags    []string       `expr:"tags"`
	Attr    map[string]any `expr:"attr"`
	Tracker string         `expr:"tracker"`
}

type zoneFields struct {
	ID   string   `expr:"id"`
	Tags []string `expr:"tags"`
}

// conditionWords are the names that a misspelt word of a condition is compared with.
var conditionWords = []string{
	"fix", "who", "with", "zone", "lat", "lon", "acc", "alt", "vel", "kmh", "cog", "batt", "tst", "event",
	"name", "role", "groups", "tags", "attr", "tracker", "id",
}

// loopFree are the functions of an expression whose cost does not exceed what their arguments hold.
var loopFree = []string{
	"len", "abs", "ceil", "floor", "round", "int", "float", "string", "trim", "upper", "lower", "hasPrefix", "hasSuffix", "min", "max",
}

// maxNodes and maxExpression (bytes) bound an expression; without loops its cost is at most the number of its nodes, by construction.
const (
	maxNodes      = 200
	maxExpression = 1000
)

// A misreading is what is wrong with an expression, and where: a rune offset into its first line.
type misreading struct {
	column int
	text   string
}

func (m *misreading) Error() string { return m.text }

// compileCondition checks src against the fields of a zone rule or of a pair rule.
func compileCondition(src string, pair bool) (*vm.Program, error) {
	absent := "with"
	if pair {
		absent = "zone"
	}
	p := profile{absent: absent}
	return p.compile(src, conditionWords, expr.Env(conditionFields{}), expr.AsBool())
}

// compileMapping compiles an expression over the fields of a JSON object.
func compileMapping(src string) (*vm.Program, error) {
	p := profile{}
	return p.compile(src, loopFree, expr.Env(map[string]any{}), expr.AllowUndefinedVariables())
}

// A profile refuses what could loop.
type profile struct {
	absent string // a name that has no value here
	wrong  *misreading
}

func (p *profile) compile(src string, words []string, options ...expr.Option) (program *vm.Program, err error) {
	defer func() {
		if r := recover(); r != nil { // the expression compiler is not ours
			program, err = nil, &misreading{text: fmt.Sprintf("%q is not readable as an expression", src)}
		}
	}()
	if len(src) > maxExpression {
		return nil, &misreading{text: fmt.Sprintf("longer than %d bytes", maxExpression)}
	}
	options = append(options, expr.MaxNodes(maxNodes), expr.DisableAllBuiltins(), expr.Patch(p))
	for _, name := range loopFree {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err = expr.Compile(src, options...)
	if p.wrong != nil {
		return nil, p.wrong
	}
	if err != nil {
		return nil, explainExpr(err, words)
	}
	return program, nil
}

// Visit implements [ast.Visitor].
func (p *profile) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.CallNode:
		p.refuse(n, "unknown function "+n.Callee.String()+"; known are "+strictyaml.OneOf(loopFree))
	case *ast.PredicateNode, *ast.PointerNode:
		p.refuse(n, "loops (all, any, filter, map …) are not allowed in an expression")
	case *ast.BinaryNode:
		_, constant := n.Right.(*ast.StringNode)
		switch {
		case n.Operator == "..":
			p.refuse(n, "ranges (..) are not allowed in an expression; use >= and <=")
		case n.Operator == "matches" && !constant:
			p.refuse(n, "the pattern of matches must be a text in quotes")
		}
	case *ast.IdentifierNode:
		if p.absent != "" && n.Value == p.absent {
			p.refuse(n, fmt.Sprintf("%q has no value in this situation", n.Value))
		}
	}
}

func (p *profile) refuse(n ast.Node, text string) {
	if p.wrong == nil {
		p.wrong = &misreading{column: n.Location().From, text: text}
	}
}

// explainExpr turns an error of the expression compiler into one in the words of a rules file.
func explainExpr(err error, words []string) *misreading {
	var at *file.Error
	if !errors.As(err, &at) {
		text, _, _ := strings.Cut(err.Error(), "\n")
		if strings.Contains(text, "maximum allowed nodes") {
			text = fmt.Sprintf("more than %d names, numbers and operators", maxNodes)
		}
		return &misreading{text: text}
	}
	m := &misreading{column: at.Column, text: at.Message}
	if at.Line > 1 {
		m.column = 0
	}
	if name, ok := strings.CutPrefix(at.Message, "unknown name "); ok {
		m.text = "unknown name " + name + strictyaml.DidYouMean(name, append(words, loopFree...))
	} else if _, name, ok := strings.Cut(at.Message, " has no field "); ok {
		m.text = "unknown field " + name + fieldOf(name, words)
	} else {
		m.text = inWords(at.Message)
	}
	return m
}

// inWords is a message of the expression compiler as an operator understands it.
func inWords(message string) string {
	switch {
	case message == "unexpected token EOF":
		return "the expression ends too early"
	case message == `unexpected token Operator("=")`:
		return "a single =; equality is =="
	case strings.HasPrefix(message, "bad number syntax"):
		return strings.Replace(message, "bad number syntax:", "not a number:", 1) + "; numbers have no unit: metres, km/h, degrees, percent, seconds"
	case strings.HasPrefix(message, "expected bool, but got "):
		return "is " + typeNames.Replace(strings.TrimPrefix(message, "expected bool, but got ")) + "; a condition is true or false, as in fix.acc < 100"
	case strings.Contains(message, "mismatched types"):
		_, types, _ := strings.Cut(strings.TrimSuffix(message, ")"), "mismatched types ")
		return "can't be compared or computed: " + typeNames.Replace(types)
	}
	return message
}

var typeNames = strings.NewReplacer("float64", "a number", "int", "a number", "[]string", "a list", "string", "a text", "bool", "true or false", "map[string]interface {}", "a mapping")

// aliases are what others call our words; of several the first that a place knows is meant.
var aliases = map[string][]string{
	"speed": {"kmh", "vel"}, "kmh": {"vel"}, "velocity": {"vel"}, "accuracy": {"acc"}, "battery": {"batt"}, "latitude": {"lat"}, "longitude": {"lon"}, "lng": {"lon"},
	"course": {"cog"}, "heading": {"cog"}, "altitude": {"alt"}, "time": {"tst"}, "timestamp": {"tst"}, "user": {"name"}, "attrs": {"attr"}, "group": {"groups"},
	"with": {"of"}, "distance": {"within"}, "condition": {"if"}, "message": {"text"}, "ttl": {"expiry"},
}

func aliasOf(word string, known []string) string {
	for _, other := range aliases[word] {
		if slices.Contains(known, other) {
			return other
		}
	}
	return ""
}

// fieldOf suggests the field that name may stand for: a near spelling, or what others call it.
func fieldOf(name string, words []string) string {
	if other := aliasOf(name, words); other != "" {
		return fmt.Sprintf("; did you mean %q?", other)
	}
	if hint := strictyaml.DidYouMean(name, words); hint != "" {
		return hint
	}
	return "; a fix has lat, lon, acc, alt, vel, kmh, cog, batt, tst and event, a person name, role, groups, tags, attr and tracker, a zone id and tags"
}

// holds reports whether program says yes to fields; failed tells that it could not be answered, which counts as no.
func holds(machine *vm.VM, program *vm.Program, fields any) (yes, failed bool) {
	result, err := machine.Run(program, fields)
	if err != nil {
		return false, true
	}
	yes, ok := result.(bool)
	return yes, !ok
}

// orNaN is what an absent number reads as.
func orNaN(value float64, present bool) float64 {
	if !present {
		return math.NaN()
	}
	return value
}
