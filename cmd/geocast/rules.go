package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/rules"
)

type rulesCmd struct {
	Check rulesCheckCmd `cmd:"" help:"Say what is wrong with rules files."`
	Test  rulesTestCmd  `cmd:"" help:"Print the events that rules would have sent on tracks."`
}

type rulesCheckCmd struct {
	Files []string `arg:"" type:"path" help:"Rules files, and folders of them (*.yaml)."`
	Users string   `type:"existingfile" help:"Users file: whom the rules name and it has not is told, too, and who could never meet." placeholder:"FILE"`
}

// Help shows an example.
func (rulesCheckCmd) Help() string {
	return `Names each mistake with file, line, column and what would be right; exit code 2 if there is one.

Example:
  geocast rules check rules.yaml --users users.yaml`
}

// Run checks the files.
func (c *rulesCheckCmd) Run() error {
	set, err := loadRules(c.Files...)
	if err != nil {
		return usageError{err}
	}
	if c.Users != "" {
		f, err := users.Load(c.Users)
		if err != nil {
			return usageError{err}
		}
		people := f.People()
		if faults := append(set.Strangers(people), set.Unconsented(people)...); len(faults) > 0 {
			return usageError{faults}
		}
	}
	fmt.Printf("ok: %s, %s, %s\n", count(len(set.Rules()), "rule"), count(len(set.Zones()), "zone"), count(len(set.Sources()), "source"))
	return nil
}

// count is a number of things in words; only regular plurals are known.
func count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "x"):
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// loadRules reads files and folders of them.
func loadRules(names ...string) (*rules.Set, error) {
	files, err := rulesFiles(names)
	if err != nil {
		return nil, err
	}
	return rules.Load(files...)
}

type rulesTestCmd struct {
	Rules string   `arg:"" type:"path" help:"Rules file, or a folder of them."`
	Users string   `type:"existingfile" help:"Users file." placeholder:"FILE"`
	Track []string `required:"" type:"existingfile" help:"Tracks: GPX, JSON lines, or CSV with a header (who,tracker,lat,lon,tst[,acc,recv])." placeholder:"FILE"`
	Who   string   `help:"Whose the fixes are where a track does not say it, as GPX of other programs." placeholder:"NAME"`
}

// Help shows an example.
func (rulesTestCmd) Help() string {
	return `Each line is whom an event is for (a user, or topic: and a topic), a tab, and the event as JSON.
Without --users everybody is a user without groups, and shares the position with all, as in open mode.

Examples:
  geocast rules test rules.yaml --users users.yaml --track track.csv
  geocast rules test rules.yaml --track walk.gpx --who ann`
}

// Run steps the rules over the tracks.
func (c *rulesTestCmd) Run() error {
	set, err := loadRules(c.Rules)
	if err != nil {
		return usageError{err}
	}
	people := rules.People(rules.Everybody{})
	if c.Users != "" {
		f, err := users.Load(c.Users)
		if err != nil {
			return usageError{err}
		}
		people = f.People()
	}
	fixes, err := readTracks(c.Track, c.Who)
	if err != nil {
		return usageError{err}
	}
	events := rules.Test(set, people, fixes)
	if len(events) == 0 {
		fmt.Fprintf(os.Stderr, "no event: %s, %s, %s\n", count(len(fixes), "fix"), count(len(set.Rules()), "rule"), count(len(set.Zones()), "zone"))
	}
	for _, e := range events {
		for _, to := range e.Recipients {
			fmt.Printf("%s\t%s\n", to, e.AppendJSON(nil, 0, "", e.Tst))
		}
		if e.Topic != "" {
			fmt.Printf("topic:%s\t%s\n", e.Topic, e.AppendJSON(nil, 0, "", e.Tst))
		}
	}
	return nil
}
