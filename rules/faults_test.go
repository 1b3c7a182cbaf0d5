package rules_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/geocast/geocast/rules"
)

// TestFaults runs testdata/faults/*.txtar: a rules.yaml and the faults it must have, all of them, one a line.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			fsys, at := fstest.MapFS{}, -1
			for i, f := range archive.Files {
				fsys[f.Name] = &fstest.MapFile{Data: f.Data}
				if f.Name == "faults" {
					at = i
				}
			}
			set, err := rules.Parse("rules.yaml", fsys["rules.yaml"].Data, fsys)
			if err == nil {
				t.Fatal("no faults")
			}
			if set != nil {
				t.Error("a set came with the faults")
			}
			var faults rules.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("the error is %T", err)
			}
			got := err.Error() + "\n"
			if *rewrite {
				archive.Files[at].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(archive.Files[at].Data); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// What is no YAML is said in words that help.
func TestNoYAML(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a tab", "version: 1\nzones:\n\tdepot: {}\n", "r.yaml:3:1: a tab; YAML is indented with spaces"},
		{"a template without quotes", "version: 1\nrules:\n  a: {when: {enter: x}, to: self, send: {text: {{.who}} came}}\n", `stands in quotes: "{{.who}} …"`},
		{"Latin-1", "version: 1\nzones: {caf\xe9: {}}\n", "r.yaml:2:12: not UTF-8 from here on; save the file as UTF-8"},
		{"UTF-16", "\xff\xfev\x00e\x00", "r.yaml:1:1: this is UTF-16; save the file as UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := rules.Parse("r.yaml", []byte(test.text), nil); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// Whom the rules name and nobody is, is found with its place; a subject need not be a user.
func TestStrangers(t *testing.T) {
	set := parse(t, `zones: {z: {circle: {lat: 48, lon: 11, radius: 1m}}}
rules:
  a: {who: {user: van7, tag: childd}, when: {enter: z}, to: [self, {user: mum}, {users: [dad, mom]}]}
  b: {who: {role: driver}, when: {near: {within: 1m, of: {group: creww}}}, to: {within: 1km, of: subject, role: drvier}}
  c: {who: {group: driver}, when: {enter: z}, to: {user: stranger}}
`)
	people := rules.NewRoster([]rules.Person{{Name: "mum", Tags: []string{"child"}}, {Name: "dad", Role: "driver", Groups: []string{"crew"}}})
	want := `rules.yaml:4:30: nobody has the tag "childd"; did you mean "child"?
rules.yaml:4:95: user "mom" is not known; did you mean "mum"?
rules.yaml:5:66: nobody has the group "creww"; did you mean "crew"?
rules.yaml:5:113: nobody has the role "drvier"; did you mean "driver"?
rules.yaml:6:20: nobody has the group "driver"; it is a role: write {role: driver}
rules.yaml:6:58: user "stranger" is not known`
	if got := set.Strangers(people).Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A near rule between people who have nothing in common is never raised, and that is told.
func TestUnconsented(t *testing.T) {
	for _, test := range []struct {
		name, courier, customer, rule string
		silent                        bool
	}{
		{name: "nothing in common", courier: "van", customer: "shop", silent: true},
		{name: "a group", courier: "shop", customer: "shop"},
		{name: "a group, but contacts are asked for", courier: "shop", customer: "shop", rule: "consent: contacts, ", silent: true},
		{name: "mutual contacts", courier: "cust", customer: "carl"},
		{name: "contacts of one side", courier: "cust", silent: true},
		{name: "a rule that is off", courier: "van", rule: "enabled: false, "},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := parse(t, "rules:\n  meet: {"+test.rule+"who: {role: courier}, when: {near: {within: 300m, of: {tag: customer}}}, to: self}\n")
			people := rules.NewRoster([]rules.Person{
				{Name: "carl", Role: "courier", Groups: []string{test.courier}, Contacts: []string{test.courier}},
				{Name: "cust", Tags: []string{"customer"}, Groups: []string{test.customer, "x"}, Contacts: []string{test.customer}},
			})
			if got := set.Unconsented(people); (len(got) > 0) != test.silent {
				t.Errorf("got %v", got)
			}
		})
	}
}
