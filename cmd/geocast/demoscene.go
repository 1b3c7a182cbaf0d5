package main

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	examples "github.com/geocast/geocast/examples/rules"
	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/rules"
)

const (
	demoToken   = "demo"
	demoSleeper = "dave" // whose phone goes off for a while
	demoMessage = "Can you take the 16:40?"
)

// demoCast are the people with a phone, and why something reaches them or not.
var demoCast = []struct{ user, what string }{
	{"carol", "control room: \"departed\", \"arrived\" and \"bunching\" go to her group"},
	{"dave", "control room, too, and supervisor: \"out-of-the-centre\" goes to him alone"},
	{"ann", "passenger at Everton Road: \"your-bus\" goes to passengers within 400 m of the bus"},
	{"ben", "passenger at Everton Road who walks away at 17:05: what comes later is not for him"},
	{"zed", "passenger, 7 km away: gets nothing"},
	{"eve", "no rule speaks of her: gets nothing"},
}

// demoScene is what the demo plays: the files of an example, and its tracks moved
// in time so that the last fix is now.
type demoScene struct {
	set    *rules.Set
	roster *rules.Roster
	people []string // who reports
	buses  int
	fixes  []geo.Fix

	excerpt string // a rule, as it is written
}

// newDemoScene copies the example that is built in to dir, where the broker finds
// its rules and users, and reads it.
func newDemoScene(dir string) (*demoScene, error) {
	files, err := fs.Sub(examples.Files, "bus-route14")
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(dir, files); err != nil {
		return nil, err
	}
	s := new(demoScene)
	if s.set, err = rules.Load(filepath.Join(dir, "rules.yaml")); err != nil {
		return nil, err
	}
	if s.roster, err = sameToken(filepath.Join(dir, "users.yaml")); err != nil {
		return nil, err
	}
	if s.fixes, err = readTracks([]string{filepath.Join(dir, "track.csv"), filepath.Join(dir, "passengers.csv")}, ""); err != nil {
		return nil, err
	}
	s.moveToNow()
	s.excerpt, err = excerpt(filepath.Join(dir, "rules.yaml"), "your-bus")
	return s, err
}

// excerpt is a rule as it stands in a file.
func excerpt(file, rule string) (string, error) {
	text, err := os.ReadFile(file)
	_, rest, _ := strings.Cut(string(text), "  "+rule+":")
	lines, _, _ := strings.Cut(rest, "\n\n")
	return "  " + rule + ":" + lines + "\n", err
}

// sameToken gives everybody in a users file the demo's token.
func sameToken(name string) (*rules.Roster, error) {
	file, err := users.Load(name)
	if err != nil {
		return nil, err
	}
	secret := users.User{Token: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(demoToken)))}
	for _, user := range file.Names() {
		if err := users.SetSecret(name, user, secret); err != nil {
			return nil, err
		}
	}
	return file.People(), nil
}

// moveToNow puts the fixes in the order of their times, ends them now, and notes
// whose they are.
func (s *demoScene) moveToNow() {
	slices.SortStableFunc(s.fixes, func(a, b geo.Fix) int { return cmp.Compare(a.Tst, b.Tst) })
	later := time.Now().UnixMilli() - s.fixes[len(s.fixes)-1].Tst
	for i := range s.fixes {
		f := &s.fixes[i]
		f.Tst += later
		if slices.Contains(s.people, f.Who) {
			continue
		}
		s.people = append(s.people, f.Who)
		if p, _ := s.roster.User(f.Who); p.Role == "bus" {
			s.buses++
		}
	}
}

// span is the time that the reports were made in.
func (s *demoScene) span() time.Duration {
	return time.Duration(s.fixes[len(s.fixes)-1].Tst-s.fixes[0].Tst) * time.Millisecond
}

// expected is what must arrive, by user: the ids of the events that the rules
// raise, computed without a broker, and the chat message at its two ends.
func (s *demoScene) expected() map[string][]string {
	want := map[string][]string{"carol": {demoMessage}, demoSleeper: {demoMessage}}
	for _, e := range rules.Test(s.set, s.roster, s.fixes) {
		for _, to := range e.Recipients {
			want[to] = append(want[to], e.ID)
		}
	}
	return want
}
