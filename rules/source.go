package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/vm"
	"github.com/goccy/go-yaml/ast"

	"github.com/geocast/geocast/geo"
)

// A Source reads the fixes of devices that speak their own topics and payloads. It is immutable and safe for concurrent use.
type Source struct {
	Topic  string // as written, with {who} and {tracker}
	Filter string // what to listen to: Topic with + for the names

	levels []string
	fields []mapping // empty: the payload is in one of the formats of geo.DecodeFixes
}

// A mapping computes a field of the fix from the payload's fields.
type mapping struct {
	field   string
	text    string // the expression
	program *vm.Program
}

var (
	sourceWords = []string{"topic", "map"}
	sourceLater = []string{"format", "if", "each", "qos"}
	mapWords    = []string{"lat", "lon", "tst", "acc", "alt", "vel", "cog", "batt", "event", "id", "who", "tracker"}
)

func (l *loader) readSources(d *document, n ast.Node) {
	if _, null := n.(*ast.NullNode); null {
		return
	}
	items, _ := d.sequence(n, "sources")
	for _, item := range items {
		if entries, ok := d.mapping(item, "a source"); ok {
			l.sources = append(l.sources, d.source(item, entries))
		}
	}
}

func (d *document) source(n ast.Node, entries []entry) *Source {
	s, before := &Source{}, len(d.faults)
	for _, e := range entries {
		switch e.key {
		case "topic":
			d.sourceTopic(s, e.value)
		case "map":
			d.sourceMap(s, e.value)
		default:
			d.unknown(e, "a source", sourceWords, sourceLater)
		}
	}
	switch {
	case !has(entries, "topic"):
		d.fault(n, "a source has no topic; write for example topic: trackers/{who}/pos")
	case len(d.faults) == before && !slices.Contains(s.levels, "{who}") && !s.has("who"):
		d.fault(n, "the source does not say whose fixes these are; put {who} into topic or who into map")
	}
	return s
}

func (s *Source) has(field string) bool {
	return slices.ContainsFunc(s.fields, func(m mapping) bool { return m.field == field })
}

func (d *document) sourceTopic(s *Source, n ast.Node) {
	topic, ok := d.text(n, "topic")
	if !ok {
		return
	}
	s.levels = strings.Split(topic, "/")
	filter := slices.Clone(s.levels)
	for i, level := range s.levels {
		switch {
		case level == "{who}" || level == "{tracker}":
			if slices.Contains(s.levels[:i], level) {
				d.fault(n, "topic: %s stands in it twice", level)
			}
			filter[i] = "+"
		case level != "+" && strings.ContainsAny(level, "+#{}\x00"):
			d.fault(n, "topic: the level %q is neither {who}, {tracker}, + (one level) nor a fixed text", level)
		}
	}
	if slices.Contains([]string{"users", "groups", "owntracks", ""}, s.levels[0]) || strings.HasPrefix(topic, "$") {
		d.fault(n, "topic: a source can't listen to %q; fixes are read there without a source, or not at all", topic)
	}
	s.Topic, s.Filter = topic, strings.Join(filter, "/")
}

func (d *document) sourceMap(s *Source, n ast.Node) {
	entries, ok := d.mapping(n, "map")
	if !ok {
		return
	}
	for _, e := range entries {
		if !slices.Contains(mapWords, e.key) {
			d.unknown(e, "map", mapWords, nil)
			continue
		}
		src, ok := d.text(e.value, e.key)
		if !ok {
			continue
		}
		program, err := compileMapping(src)
		if err != nil {
			d.misread(e.value, e.key, src, err)
		}
		s.fields = append(s.fields, mapping{e.key, src, program})
	}
	for _, word := range []string{"lat", "lon"} {
		if !has(entries, word) {
			d.fault(n, "map has no %s", word)
		}
	}
}

// Decode reads the fixes of a publish to topic; now is the arrival in milliseconds and the time of fixes that carry none.
// A payload is a JSON object or an array of them. Fixes that can't be read are rejected one by one; an error refuses the whole
// payload. A topic that does not fit the source is an error.
func (s *Source) Decode(topic string, payload []byte, now int64) ([]geo.Fix, []geo.Rejection, error) {
	who, tracker, ok := s.names(topic)
	if !ok {
		return nil, nil, fmt.Errorf("topic %q does not fit the source %q", topic, s.Topic)
	}
	if err := s.checkNames(who, tracker); err != nil {
		return nil, nil, err
	}
	if len(s.fields) == 0 {
		return decodeFor(who, tracker, payload, now)
	}
	reports, err := jsonObjects(payload)
	if err == nil && len(reports) > geo.MaxFixes {
		err = geo.ErrTooMany
	}
	if err != nil {
		return nil, nil, err
	}
	var fixes []geo.Fix
	var rejected []geo.Rejection
	for i, report := range reports {
		fix := geo.Fix{Who: who, Tracker: tracker, Tst: now, Recv: now}
		if err := s.fill(&fix, report); err != nil {
			rejected = append(rejected, geo.Rejection{Index: i, Reason: err.Error()})
			continue
		}
		fixes = append(fixes, fix)
	}
	return fixes, rejected, nil
}

// decodeFor reads a payload in one of the formats of geo.DecodeFixes. The tracker may stand in the payload.
func decodeFor(who, tracker string, payload []byte, now int64) ([]geo.Fix, []geo.Rejection, error) {
	fixes, rejected, err := geo.DecodeFixes(payload, now)
	for i := range fixes {
		fixes[i].Who = who
		if tracker != "" {
			fixes[i].Tracker = tracker
		}
	}
	return fixes, rejected, err
}

// names cuts who and tracker out of topic.
func (s *Source) names(topic string) (who, tracker string, ok bool) {
	levels := strings.Split(topic, "/")
	if len(levels) != len(s.levels) {
		return "", "", false
	}
	for i, level := range s.levels {
		switch level {
		case "{who}":
			who = levels[i]
		case "{tracker}":
			tracker = levels[i]
		case "+":
		default:
			if level != levels[i] {
				return "", "", false
			}
		}
	}
	return who, tracker, true
}

// checkNames refuses levels of a topic that are no names.
func (s *Source) checkNames(who, tracker string) error {
	switch {
	case slices.Contains(s.levels, "{who}") && !geo.ValidName(who):
		return fmt.Errorf("%q can't be a user", who)
	case slices.Contains(s.levels, "{tracker}") && !geo.ValidName(tracker):
		return fmt.Errorf("%q can't be a tracker", tracker)
	}
	return nil
}

func jsonObjects(payload []byte) ([]map[string]any, error) {
	var many []map[string]any
	if err := json.Unmarshal(payload, &many); err == nil {
		return many, nil
	}
	var one map[string]any
	if err := json.Unmarshal(payload, &one); err != nil {
		return nil, errors.New("the payload is neither a JSON object nor an array of them")
	}
	return []map[string]any{one}, nil
}

// fill computes the mapped fields. A field other than lat and lon whose expression has no value for this report stays absent.
func (s *Source) fill(fix *geo.Fix, report map[string]any) error {
	var machine vm.VM
	for _, m := range s.fields {
		value, err := machine.Run(m.program, report)
		if err != nil || value == nil {
			if m.field == "lat" || m.field == "lon" {
				return fmt.Errorf("no %s: %s has no value", m.field, m.text)
			}
			continue
		}
		if err := setField(fix, m.field, value); err != nil {
			return err
		}
	}
	switch {
	case !fix.Valid():
		return fmt.Errorf("lat %g, lon %g is out of range (latitude is -90..90)", fix.Lat, fix.Lon)
	case !geo.ValidName(fix.Who):
		return fmt.Errorf("%q can't be a user", fix.Who)
	case fix.Tracker != "" && !geo.ValidName(fix.Tracker):
		return fmt.Errorf("%q can't be a tracker", fix.Tracker)
	}
	return nil
}

// setTime takes seconds since 1970 or an RFC 3339 text.
func setTime(fix *geo.Fix, value any) error {
	ms, ok := 0.0, false
	if s, text := value.(string); text {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return fmt.Errorf("tst %q is neither seconds nor an RFC 3339 time", s)
		}
		ms, ok = float64(at.UnixMilli()), true
	} else if ms, ok = asNumber(value); ok {
		ms = math.Round(ms * 1000)
	}
	if !ok || !(ms >= 1000 && ms < 1e14) {
		return fmt.Errorf("tst %v is not a time in seconds", value)
	}
	fix.Tst = int64(ms)
	return nil
}

func asNumber(value any) (float64, bool) {
	switch n := value.(type) {
	case float64:
		return n, true
	case int:
		return float64(n), true
	}
	return 0, false
}
