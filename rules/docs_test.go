package rules

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// The examples of docs/rules.md load, and each word of the language stands there.
func TestDocs(t *testing.T) {
	raw, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	fsys := fstest.MapFS{"schools.geojson": {Data: []byte(`{"type":"FeatureCollection","features":[
		{"type":"Feature","properties":{"name":"oak"},"geometry":{"type":"Polygon","coordinates":[[[11,48],[11.1,48],[11.1,48.1],[11,48]]]}},
		{"type":"Feature","properties":{"name":"elm"},"geometry":{"type":"Polygon","coordinates":[[[12,48],[12.1,48],[12.1,48.1],[12,48]]]}}]}`)}}
	examples := strings.Split(page, "```yaml\n")[1:]
	if len(examples) < 7 {
		t.Fatalf("%d examples", len(examples))
	}
	zones, _, _ := strings.Cut(examples[0], "```")
	var all strings.Builder
	for _, example := range examples {
		text, _, closed := strings.Cut(example, "```")
		all.WriteString(text)
		if !strings.HasPrefix(text, "zones:") {
			text = zones + text
		}
		if set, err := Parse("rules.yaml", []byte("version: 1\n"+text), fsys); err != nil || !closed {
			t.Errorf("%v in\n%s", err, text)
		} else if len(set.Zones()) != 4 {
			t.Errorf("%d zones", len(set.Zones()))
		}
	}
	for _, words := range [][]string{ruleWords, whenWords, nearWords, sendWords, zoneWords, circleWords, selectorWords, targetWords, sourceWords, mapWords} {
		for _, word := range words {
			if !slices.Contains(strings.FieldsFunc(all.String(), notInWord), word) {
				t.Errorf("no example has the word %s", word)
			}
		}
	}
	for _, words := range [][]string{conditionWords, loopFree, textFields} {
		for _, word := range words {
			if !slices.Contains(strings.FieldsFunc(page, notInWord), word) {
				t.Errorf("the page does not have %s", word)
			}
		}
	}
}

func notInWord(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }
