package rules

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/vm"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/strictyaml"
)

// A Rule is one compiled rule of a [Set]. It is not changed after loading.
type Rule struct {
	ID        string
	Situation Situation
	If        string // the condition as written; empty: none
	Enabled   bool

	who       crowd
	zones     []int // into the set's zones, rising
	near      nearness
	condition *vm.Program
	to        []target
	contacts  bool // consent: contacts
	send      send
	index     int    // place in the set
	key       uint64 // of what pair state depends on
	place     Fault  // where its id stands, without a text
}

// nearness is the situation of a near rule.
type nearness struct {
	within float64 // metres
	apart  float64 // metres, ≥ within
	maxAge int64   // ms
	of     crowd
}

// send says how an event goes out.
type send struct {
	topic  text
	qos    byte
	expiry time.Duration
	text   text
}

const (
	defaultMaxAge = 30 * time.Minute
	apartFactor   = 1.2
)

var (
	ruleWords = []string{"who", "when", "if", "to", "send", "consent", "enabled"}
	ruleLater = []string{"clear", "during"}
	whenWords = []string{"enter", "exit", "inside", "near"}
	whenLater = []string{
		"dwell", "absent", "outside", "cross", "passed", "meet", "part", "deviate", "silent", "online", "moving", "stopped",
		"speed", "battery", "sos", "count", "any", "for", "initial", "until", "approach", "alone", "late",
	}
	nearWords = []string{"within", "of", "apart", "max_age"}
	sendWords = []string{"text", "topic", "qos", "expiry"}
	sendLater = []string{"throttle", "precision", "urgency", "retain", "quiet", "format", "ack", "then", "push", "digest", "coalesce"}
)

// rule reads one rule.
func (l *loader) rule(d *document, id entry) {
	if !geo.ValidName(id.key) {
		d.fault(id.at, "%q can't be a rule's id: 1 to 128 bytes, no space, / + # or control character, not beginning with $", id.key)
	}
	if first, again := l.ruleAt[id.key]; again {
		d.fault(id.at, "rule %q stands already in %s", id.key, first)
		return
	}
	l.ruleAt[id.key] = d.name
	entries, ok := d.mapping(id.value, "rule "+id.key)
	if !ok {
		return
	}
	line, column := strictyaml.Place(id.at)
	r := &Rule{ID: id.key, Enabled: true, place: Fault{File: d.name, Line: line, Column: column}}
	l.situation(d, r, id, entries)
	for _, e := range entries {
		l.ruleField(d, r, e)
	}
	if !has(entries, "to") && len(r.send.topic.pieces) == 0 {
		d.fault(id.at, "rule %q has no to: nobody would be told; name an audience, for example to: self", id.key)
	}
	l.rules = append(l.rules, r)
}

func (l *loader) ruleField(d *document, r *Rule, e entry) {
	switch e.key {
	case "when": // read first: the other words depend on it
	case "who":
		r.who = d.crowd(e.value, "who")
	case "if":
		r.If, r.condition = d.condition(e.value, r.Situation == Near)
	case "to":
		r.to = d.targets(e.value, r.Situation)
	case "send":
		r.send = d.send(e.value)
	case "consent":
		r.contacts = d.consent(e.value)
	case "enabled":
		r.Enabled = d.yes(e.value, "enabled")
	default:
		d.unknown(e, "rule "+r.ID, ruleWords, ruleLater)
	}
}

// situation reads `when`, which a rule must have, with exactly one situation.
func (l *loader) situation(d *document, r *Rule, id entry, entries []entry) {
	at := slices.IndexFunc(entries, func(e entry) bool { return e.key == "when" })
	if at < 0 {
		d.fault(id.at, "rule %q has no when; write for example when: {enter: depot}", id.key)
		return
	}
	n := entries[at].value
	words, ok := d.mapping(n, "when")
	if !ok {
		return
	}
	if len(words) == 0 {
		d.fault(n, "when is empty; write for example when: {enter: depot}")
	}
	for _, w := range words {
		s := Situation(max(0, slices.Index(situationNames[:], w.key)))
		switch {
		case s == 0:
			d.unknown(w, "when", whenWords, whenLater)
		case r.Situation != 0:
			d.fault(w.at, "a rule has one situation, and %s stands here already; write a second rule for %s", r.Situation, s)
		case s == Near:
			r.Situation = s
			r.near = d.nearness(w.value)
		default:
			r.Situation = s
			l.zoneRefs(d, r, w)
		}
	}
}

// zoneRefs notes the zones that w names; they are looked up when all files are read.
func (l *loader) zoneRefs(d *document, r *Rule, w entry) {
	items := list(w.value)
	if len(items) == 0 {
		d.fault(w.value, "%s names no zone", w.key)
	}
	for _, item := range items {
		if name, ok := scalar(item); ok {
			l.refs = append(l.refs, zoneRef{d: d, at: item, rule: r, zone: name})
			continue
		}
		entries, ok := d.mapping(item, w.key)
		if !ok {
			continue
		}
		for _, e := range entries {
			if e.key != "tag" {
				d.unknown(e, w.key, []string{"tag"}, nil)
				continue
			}
			for _, tag := range d.name128(e.value, "a tag") {
				l.refs = append(l.refs, zoneRef{d: d, at: e.value, rule: r, tag: tag})
			}
		}
	}
}

func (d *document) nearness(n ast.Node) nearness {
	near := nearness{maxAge: defaultMaxAge.Milliseconds()}
	entries, ok := d.mapping(n, "near")
	if !ok {
		return near
	}
	for _, e := range entries {
		switch e.key {
		case "within":
			near.within = d.length(e.value, "within")
		case "apart":
			near.apart = d.length(e.value, "apart")
			if near.apart != 0 && near.apart < near.within {
				d.fault(e.value, "apart is less than within: the two would be near and apart at once")
			}
		case "max_age":
			near.maxAge = d.period(e.value, "max_age").Milliseconds()
		case "of":
			near.of = d.crowd(e.value, "of")
		default:
			d.unknown(e, "near", nearWords, nil)
		}
	}
	if !has(entries, "within") {
		d.fault(n, "near has no within; write for example near: {within: 500m, of: {group: crew}}")
	}
	if near.apart == 0 {
		near.apart = near.within * apartFactor
	}
	return near
}

// condition reads `if`.
func (d *document) condition(n ast.Node, pair bool) (string, *vm.Program) {
	src, ok := d.text(n, "if")
	if !ok {
		return "", nil
	}
	program, err := compileCondition(src, pair)
	if err != nil {
		d.misread(n, "if", src, err)
	}
	return src, program
}

// misread notes what is wrong with the expression src at n, inside it where that can be told.
func (d *document) misread(n ast.Node, what, src string, err error) {
	line, column := strictyaml.Place(n)
	if m := new(misreading); errors.As(err, &m) {
		t := n.GetToken()
		if t != nil && strings.Contains(t.Origin, src) && !strings.Contains(src, "\n") {
			column += m.column
			if t.Type == token.DoubleQuoteType || t.Type == token.SingleQuoteType {
				column++
			}
		}
	}
	d.faultAt(line, column, "%s: %v", what, err)
}

func (d *document) consent(n ast.Node) (contacts bool) {
	word, ok := d.text(n, "consent")
	switch {
	case !ok:
		return false
	case word == "contacts":
		return true
	case word == "asked":
		d.fault(n, `"asked" is not supported yet in consent; write contacts, or leave it out`)
	default:
		d.fault(n, "consent %q is not known%s; write contacts, or leave it out", word, strictyaml.DidYouMean(word, []string{"contacts"}))
	}
	return false
}

func (d *document) yes(n ast.Node, what string) bool {
	b, ok := n.(*ast.BoolNode)
	if !ok {
		d.fault(n, "%s is true or false", what)
		return false
	}
	return b.Value
}

func (d *document) send(n ast.Node) send {
	var s send
	entries, ok := d.mapping(n, "send")
	if !ok {
		return s
	}
	for _, e := range entries {
		switch e.key {
		case "text":
			s.text = d.template(e.value, "text")
		case "topic":
			s.topic = d.template(e.value, "topic")
			if text := s.topic.source; text != "" {
				d.plainTopic(e.value, text)
			}
		case "qos":
			s.qos = d.qos(e.value, has(entries, "topic"))
		case "expiry":
			s.expiry = d.period(e.value, "expiry")
		default:
			d.unknown(e, "send", sendWords, sendLater)
		}
	}
	return s
}

func (d *document) template(n ast.Node, what string) text {
	source, ok := d.text(n, what)
	if !ok {
		return text{}
	}
	t, err := parseText(source)
	switch {
	case err != nil:
		d.fault(n, "%s: %v", what, err)
	case source == "":
		d.fault(n, "%s is empty; leave it out", what)
	}
	return t
}

// plainTopic refuses topics that rules may not write: the trees, and what is no topic name.
func (d *document) plainTopic(n ast.Node, topic string) {
	first, _, _ := strings.Cut(topic, "/")
	switch {
	case slices.Contains([]string{"users", "groups", "owntracks"}, first):
		d.fault(n, "topic: %s/… belongs to people; name users in to instead", first)
	case strings.HasPrefix(topic, "$"), strings.ContainsAny(topic, "+#\x00"), strings.HasPrefix(first, "{{"):
		d.fault(n, "topic: %q is no topic to send to: it begins with a fixed level other than $…, and has no + or #", topic)
	}
}

func (d *document) qos(n ast.Node, topic bool) byte {
	q, ok := d.number(n, "qos")
	switch {
	case !ok:
	case q != 0 && q != 1 && q != 2:
		d.fault(n, "qos is 0, 1 or 2")
	case !topic:
		d.fault(n, "qos belongs to topic; an inbox goes out at the QoS of its subscription")
	default:
		return byte(q)
	}
	return 0
}
