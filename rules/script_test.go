package rules_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

var rewrite = flag.Bool("rewrite", false, "write the events that came out into the scripts")

// TestScripts runs testdata/*.txtar. A script holds rules.yaml, people and fixes, and below each fix the events it must raise:
//
//	10:00:00 ann/phone 48.137 11.575 acc=12 vel=30
//	> enter depot-in zone=depot who=ann/phone to=dan,eve "text"
//
// Other lines: "restart" goes on with a new engine from the stored records, "reload FILE" replaces the set, "tick 31d" tells the time.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { runScript(t, name) })
	}
}

type script struct {
	t      *testing.T
	files  fstest.MapFS
	people crew
	set    *rules.Set
	engine *rules.Engine
	stored map[string][]byte
	last   int64
	out    []string
}

func runScript(t *testing.T, name string) {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, files: fstest.MapFS{}, stored: map[string][]byte{}}
	at := -1
	for i, f := range archive.Files {
		s.files[f.Name] = &fstest.MapFile{Data: f.Data}
		if f.Name == "fixes" {
			at = i
		}
	}
	s.people = parseCrew(t, string(s.files["people"].Data))
	s.set = s.parse("rules.yaml")
	s.engine = rules.New(s.set, s.people)
	want := string(archive.Files[at].Data)
	for line := range strings.Lines(want) {
		s.run(strings.TrimRight(line, "\n"))
	}
	got := strings.Join(s.out, "\n") + "\n"
	if *rewrite {
		archive.Files[at].Data = []byte(got)
		if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func (s *script) parse(name string) *rules.Set {
	s.t.Helper()
	set, err := rules.Parse(name, s.files[name].Data, s.files)
	if err != nil {
		s.t.Fatal(err)
	}
	return set
}

func (s *script) run(line string) {
	words := strings.Fields(line)
	if strings.HasPrefix(line, ">") {
		return
	}
	s.out = append(s.out, line)
	if len(words) == 0 || words[0] == "#" {
		return
	}
	switch words[0] {
	case "restart":
		s.engine = rules.New(s.set, s.people)
		if _, err := s.engine.Restore(s.records()); err != nil {
			s.t.Fatal(err)
		}
	case "reload":
		s.set = s.parse(words[1])
		s.store(s.engine.Replace(s.set))
	case "tick":
		days, err := strconv.Atoi(strings.TrimSuffix(words[1], "d"))
		if err != nil {
			s.t.Fatal(err)
		}
		events, records := s.engine.Tick(s.last + int64(days)*24*time.Hour.Milliseconds())
		s.note(events)
		s.store(records)
	default:
		fix := parseFix(s.t, words)
		s.last = max(s.last, fix.Tst)
		events, records := s.engine.Step(fix)
		s.note(events)
		s.store(records)
	}
}

func (s *script) note(events []rules.Event) {
	for i := range events {
		s.out = append(s.out, "> "+line(&events[i]))
	}
}

func (s *script) store(records []rules.StateRecord) {
	for _, r := range records {
		if r.Value == nil {
			delete(s.stored, string(r.Key))
		} else {
			s.stored[string(r.Key)] = r.Value
		}
	}
}

func (s *script) records() []rules.StateRecord {
	var records []rules.StateRecord
	for k, v := range s.stored {
		records = append(records, rules.StateRecord{Key: []byte(k), Value: v})
	}
	return records
}

// line is an event as scripts show it.
func line(e *rules.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Situation, e.Rule)
	if e.Zone != "" {
		fmt.Fprintf(&b, " zone=%s", e.Zone)
	}
	fmt.Fprintf(&b, " who=%s/%s", e.Who, e.Tracker)
	if e.With != "" {
		fmt.Fprintf(&b, " with=%s/%s", e.With, e.WithTracker)
	}
	fmt.Fprintf(&b, " to=%s", strings.Join(e.Recipients, ","))
	if e.Topic != "" {
		fmt.Fprintf(&b, " topic=%s qos=%d", e.Topic, e.QoS)
	}
	if e.Text != "" {
		fmt.Fprintf(&b, " %q", e.Text)
	}
	return b.String()
}

func parseFix(t *testing.T, words []string) geo.Fix {
	t.Helper()
	if len(words) < 4 {
		t.Fatalf("not a fix: %q", words)
	}
	who, tracker, _ := strings.Cut(words[1], "/")
	fix := geo.Fix{Who: who, Tracker: tracker, Position: geo.Position{Lat: number(t, words[2]), Lon: number(t, words[3])}, Tst: clock(t, words[0])}
	fix.Recv = fix.Tst
	for _, w := range words[4:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "acc":
			fix.Acc = number(t, value)
		case "vel":
			fix.Vel = number(t, value)
			fix.Has |= geo.HasVel
		case "batt":
			fix.Batt = number(t, value)
			fix.Has |= geo.HasBatt
		case "recv":
			fix.Recv = clock(t, value)
		default:
			t.Fatalf("unknown word %q", w)
		}
	}
	return fix
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func clock(t *testing.T, s string) int64 {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", "2026-01-05 "+s)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMilli()
}

// A crew is people from lines such as: ann role=driver groups=crew,climb tags=x contacts=bob limit=50
type crew map[string]rules.Person

func parseCrew(t *testing.T, text string) crew {
	t.Helper()
	c := crew{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		p := rules.Person{Name: words[0], Attrs: map[string]any{}}
		for _, w := range words[1:] {
			key, value, _ := strings.Cut(w, "=")
			switch key {
			case "role":
				p.Role = value
			case "groups":
				p.Groups = strings.Split(value, ",")
			case "tags":
				p.Tags = strings.Split(value, ",")
			case "contacts":
				p.Contacts = strings.Split(value, ",")
			default:
				if n, err := strconv.ParseFloat(value, 64); err == nil {
					p.Attrs[key] = n
				} else {
					p.Attrs[key] = value
				}
			}
		}
		c[p.Name] = p
	}
	return c
}

func (c crew) User(name string) (rules.Person, bool) {
	p, ok := c[name]
	return p, ok
}

func (c crew) Group(name string) []string {
	return c.where(func(p rules.Person) bool { return slices.Contains(p.Groups, name) })
}

func (c crew) Role(name string) []string {
	return c.where(func(p rules.Person) bool { return p.Role == name })
}

func (c crew) Tag(name string) []string {
	return c.where(func(p rules.Person) bool { return slices.Contains(p.Tags, name) })
}

func (c crew) where(match func(rules.Person) bool) []string {
	var names []string
	for name, p := range c {
		if match(p) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
