package main

import (
	"os"
	"path/filepath"
	"testing"
)

const vanRules = `
version: 1
sources:
  - topic: trackers/{who}/pos
    map: {lat: latitude, lon: longitude, tst: "timestamp / 1000"}
zones: {depot: {circle: {lat: 48.137, lon: 11.575, radius: 300m}}}
rules: {a: {when: {enter: depot}, to: self}}
`

// sources test and rules test end with the right exit code.
func TestSourcesAndTracks(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	file := write("rules.yaml", vanRules)
	good := write("good.json", `{"latitude":48.1,"longitude":11.5,"timestamp":1790000060000}`)
	bad := write("bad.json", `[{"latitude":48.1,"longitude":11.5},{"latitude":98}]`)
	gpx := write("walk.gpx", `<gpx><trk><trkseg><trkpt lat="48.137" lon="11.575"><time>2026-09-21T14:15:00Z</time></trkpt></trkseg></trk></gpx>`)
	for _, test := range []struct {
		name string
		args []string
		want int
	}{
		{"a payload of the source", []string{"sources", "test", file, "--topic", "trackers/van7/pos", "--payload", good}, 0},
		{"a report that is wrong", []string{"sources", "test", file, "--topic", "trackers/van7/pos", "--payload", bad}, 1},
		{"no source", []string{"sources", "test", file, "--topic", "trackers/van7", "--payload", good}, 1},
		{"no topic", []string{"sources", "test", file, "--topic", "trackers/+/pos", "--payload", good}, 2},
		{"no file", []string{"sources", "test", file, "--topic", "trackers/van7/pos", "--payload", "none"}, 2},
		{"a track of somebody", []string{"rules", "test", file, "--track", gpx, "--who", "ann"}, 0},
		{"a track of nobody", []string{"rules", "test", file, "--track", gpx}, 2},
		{"no track", []string{"rules", "test", file, "--track", good}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := run(test.args); got != test.want {
				t.Errorf("exit code %d, want %d", got, test.want)
			}
		})
	}
}
