package rules_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

// TestExamples replays the tracks of examples/rules and compares what comes out with events.txt beside them.
func TestExamples(t *testing.T) {
	dirs, err := filepath.Glob("../examples/rules/*/rules.yaml")
	if err != nil || len(dirs) < 3 {
		t.Fatalf("%d examples: %v", len(dirs), err)
	}
	for _, file := range dirs {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			got := replay(t, dir)
			golden := filepath.Join(dir, "events.txt")
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func replay(t *testing.T, dir string) string {
	t.Helper()
	set, err := rules.Load(filepath.Join(dir, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tracks, err := filepath.Glob(filepath.Join(dir, "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	var fixes []geo.Fix
	for _, name := range tracks {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		track, err := rules.ReadTrack(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		fixes = append(fixes, track...)
	}
	var b strings.Builder
	for _, e := range rules.Test(set, readUsers(t, dir), fixes) {
		fmt.Fprintf(&b, "%s %s\n", time.UnixMilli(e.Tst).UTC().Format(time.RFC3339), line(&e))
	}
	return b.String()
}

func readUsers(t *testing.T, dir string) *rules.Roster {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "users.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Users map[string]struct {
			Role                   string
			Groups, Tags, Contacts []string
			Attrs                  map[string]any
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var people []rules.Person
	for name, u := range file.Users {
		people = append(people, rules.Person{Name: name, Role: u.Role, Groups: u.Groups, Tags: u.Tags, Contacts: u.Contacts, Attrs: u.Attrs})
	}
	return rules.NewRoster(people)
}
