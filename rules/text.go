package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/geocast/geocast/strictyaml"
)

// A text is a template: literal pieces and fields of the event in turn.
type text struct {
	source string
	pieces []piece
}

type piece struct {
	literal string
	field   string // empty: a literal
}

// textFields are the names that a template knows.
var textFields = []string{"who", "tracker", "with", "zone", "rule", "event", "lat", "lon", "acc", "time"}

// parseText reads `{{.who}} is at {{.zone}}`.
func parseText(source string) (text, error) {
	t := text{source: source}
	rest := source
	for rest != "" {
		before, after, found := strings.Cut(rest, "{{")
		if before != "" {
			t.pieces = append(t.pieces, piece{literal: before})
		}
		if !found {
			break
		}
		inner, tail, closed := strings.Cut(after, "}}")
		if !closed {
			return text{}, fmt.Errorf("{{ without }}")
		}
		name, dotted := strings.CutPrefix(strings.TrimSpace(inner), ".")
		if !dotted || !slices.Contains(textFields, name) {
			return text{}, fmt.Errorf("unknown field {{%s}}%s", inner, fieldHint(name))
		}
		t.pieces = append(t.pieces, piece{field: name})
		rest = tail
	}
	return t, nil
}

func fieldHint(name string) string {
	for _, f := range textFields {
		if name == f {
			return fmt.Sprintf("; did you mean {{.%s}}?", f)
		}
	}
	if hint := strictyaml.DidYouMean(name, textFields); hint != "" {
		return hint
	}
	return "; known are ." + strings.Join(textFields, ", .")
}

// expand fills the fields from e.
func (t text) expand(e *Event) string { return t.fill(e, func(s string) string { return s }) }

// expandTopic fills the fields from e, percent-encoded where a topic level can't hold them.
func (t text) expandTopic(e *Event) string { return t.fill(e, topicLevel.Replace) }

var topicLevel = strings.NewReplacer("%", "%25", "/", "%2F", "+", "%2B", "#", "%23", "\x00", "%00")

func (t text) fill(e *Event, encode func(string) string) string {
	switch {
	case len(t.pieces) == 0:
		return ""
	case len(t.pieces) == 1 && t.pieces[0].field == "":
		return t.pieces[0].literal
	}
	var b strings.Builder
	for _, p := range t.pieces {
		if p.field == "" {
			b.WriteString(p.literal)
		} else {
			b.WriteString(encode(e.field(p.field)))
		}
	}
	return b.String()
}

func (e *Event) field(name string) string {
	switch name {
	case "who":
		return e.Who
	case "tracker":
		return e.Tracker
	case "with":
		return e.With
	case "zone":
		return e.Zone
	case "rule":
		return e.Rule
	case "event":
		return e.Situation.String()
	case "lat":
		return strconv.FormatFloat(e.Lat, 'f', -1, 64)
	case "lon":
		return strconv.FormatFloat(e.Lon, 'f', -1, 64)
	case "acc":
		return strconv.FormatFloat(e.Acc, 'f', -1, 64)
	case "time":
		return time.UnixMilli(e.Tst).UTC().Format(time.RFC3339)
	}
	return ""
}
