package rules_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/rules"
)

var seed = flag.Uint64("seed", 0, "seed of the random tests; 0 takes the time")

// random returns a generator whose seed is printed, and given again by -seed.
func random(t *testing.T) *rand.Rand {
	n := *seed
	if n == 0 {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", n)
	return rand.New(rand.NewPCG(n, n))
}

// A twin computes the events of its world the slow way: every zone, every rule and every tracker for each fix.
type twin struct {
	world  *world
	last   map[string]geo.Fix
	inside map[string]bool // tracker zone
	near   map[string]bool // rule tracker tracker
}

// A world is a set of rules as a test knows it, in YAML and as values.
type world struct {
	people  crew
	circles []string // of z0, z1 … as YAML
	zones   []geo.Zone
	rules   []ruleCase
}

type ruleCase struct {
	id     string
	when   rules.Situation
	zones  []int
	who    string // "", or a group
	of     string
	within float64
	apart  float64
}

// TestTwin compares the engine with its twin on random worlds, with late and repeated fixes, and restarts and reloads of the same rules in between.
func TestTwin(t *testing.T) {
	r := random(t)
	for range 30 {
		w := newWorld(r)
		set, err := rules.Parse("rules.yaml", []byte(w.yaml()), nil)
		if err != nil {
			t.Fatal(err)
		}
		w.zones = set.Zones()
		s := &script{t: t, people: w.people, set: set, engine: rules.New(set, w.people), stored: map[string][]byte{}}
		slow := &twin{world: w, last: map[string]geo.Fix{}, inside: map[string]bool{}, near: map[string]bool{}}
		for i, fix := range w.walk(r, 1000) {
			if r.IntN(100) == 0 {
				s.run("restart")
			}
			if r.IntN(100) == 0 {
				s.files = fstest.MapFS{"rules.yaml": {Data: []byte(w.yaml())}}
				s.run("reload rules.yaml")
			}
			events, records := s.engine.Step(fix)
			s.store(records)
			var got []string
			for i := range events {
				got = append(got, line(&events[i]))
			}
			if want := slow.step(fix); !slices.Equal(got, want) {
				t.Fatalf("fix %d %+v\n got %q\nwant %q\n%s", i, fix, got, want, w.yaml())
			}
		}
	}
}

func newWorld(r *rand.Rand) *world {
	w := &world{people: crew{}}
	groups := []string{"g0", "g1", "g2"}
	for i := range 8 {
		p := rules.Person{Name: fmt.Sprintf("u%d", i)}
		for _, g := range groups {
			if r.IntN(3) == 0 {
				p.Groups = append(p.Groups, g)
			}
		}
		for j := range 8 {
			if r.IntN(2) == 0 {
				p.Contacts = append(p.Contacts, fmt.Sprintf("u%d", j))
			}
		}
		w.people[p.Name] = p
	}
	any3 := func() string { return append(groups, "")[r.IntN(4)] }
	for i := range 12 {
		c := ruleCase{id: fmt.Sprintf("r%d", i), when: rules.Situation(1 + r.IntN(4)), who: any3(), of: any3()}
		c.within = float64(100 + r.IntN(900))
		c.apart = c.within + float64(r.IntN(300))
		for z := range zoneCount {
			if r.IntN(3) == 0 {
				c.zones = append(c.zones, z)
			}
		}
		if len(c.zones) == 0 {
			c.zones = []int{0}
		}
		w.rules = append(w.rules, c)
	}
	for range zoneCount {
		at := place(r)
		w.circles = append(w.circles, fmt.Sprintf("{lat: %g, lon: %g, radius: %dm}", at.Lat, at.Lon, 50+r.IntN(1500)))
	}
	return w
}

const zoneCount = 10

// place is in a square of about 5 km that crosses the antimeridian.
func place(r *rand.Rand) geo.Position {
	lon := 179.97 + 0.06*r.Float64()
	if lon > 180 {
		lon -= 360
	}
	return geo.Position{Lat: 48 + 0.04*r.Float64(), Lon: lon}
}

func (w *world) yaml() string {
	var b strings.Builder
	b.WriteString("version: 1\nzones:\n")
	for i, circle := range w.circles {
		fmt.Fprintf(&b, "  z%d: {circle: %s}\n", i, circle)
	}
	b.WriteString("rules:\n")
	for _, c := range w.rules {
		fmt.Fprintf(&b, "  %s: {to: self", c.id)
		if c.who != "" {
			fmt.Fprintf(&b, ", who: {group: %s}", c.who)
		}
		if c.when != rules.Near {
			names := make([]string, len(c.zones))
			for i, z := range c.zones {
				names[i] = fmt.Sprintf("z%d", z)
			}
			fmt.Fprintf(&b, ", when: {%s: [%s]}}\n", c.when, strings.Join(names, ", "))
			continue
		}
		of := ""
		if c.of != "" {
			of = ", of: {group: " + c.of + "}"
		}
		fmt.Fprintf(&b, ", when: {near: {within: %gm, apart: %gm%s}}}\n", c.within, c.apart, of)
	}
	return b.String()
}

// walk makes n fixes of 12 trackers, some late, some repeated.
func (w *world) walk(r *rand.Rand, n int) []geo.Fix {
	at := int64(1_790_000_000_000)
	var fixes []geo.Fix
	for range n {
		at += int64(r.IntN(60_000))
		f := geo.Fix{Who: fmt.Sprintf("u%d", r.IntN(8)), Tracker: fmt.Sprintf("t%d", r.IntN(2)), Position: place(r), Tst: at, Recv: at}
		switch r.IntN(10) {
		case 0:
			f.Tst -= int64(r.IntN(3_600_000))
		case 1:
			if len(fixes) > 0 {
				f = fixes[r.IntN(len(fixes))]
			}
		}
		fixes = append(fixes, f)
	}
	return fixes
}

func name(f *geo.Fix) string { return f.Who + "/" + f.Tracker }

// step returns the events of one fix as lines.
func (w *twin) step(fix geo.Fix) []string {
	if last, ok := w.last[name(&fix)]; ok && fix.Tst <= last.Tst {
		return nil
	}
	w.last[name(&fix)] = fix
	lines := w.stepZones(fix)
	for _, c := range w.world.rules {
		for other, last := range w.last {
			if c.when == rules.Near && geo.Distance(fix.Position, last.Position) > c.apart {
				delete(w.near, c.id+" "+name(&fix)+" "+other)
				delete(w.near, c.id+" "+other+" "+name(&fix))
			}
		}
	}
	var others []string
	for other := range w.last {
		if w.last[other].Who != fix.Who {
			others = append(others, other)
		}
	}
	slices.Sort(others)
	for _, other := range others {
		for _, c := range w.world.rules {
			if l := w.meet(c, fix, w.last[other]); l != "" {
				lines = append(lines, l)
			}
		}
	}
	return lines
}

func (w *twin) stepZones(fix geo.Fix) []string {
	lines := map[rules.Situation][]string{}
	for z, zone := range w.world.zones {
		was, is := w.inside[name(&fix)+" "+zone.ID], zone.Contains(fix.Position)
		w.inside[name(&fix)+" "+zone.ID] = is
		for _, c := range w.world.rules {
			fires := c.when == rules.Enter && is && !was || c.when == rules.Exit && was && !is || c.when == rules.Inside && is
			if fires && slices.Contains(c.zones, z) && w.in(fix.Who, c.who) {
				l := fmt.Sprintf("%s %s zone=%s who=%s to=%s", c.when, c.id, zone.ID, name(&fix), fix.Who)
				lines[c.when] = append(lines[c.when], l)
			}
		}
	}
	return slices.Concat(lines[rules.Exit], lines[rules.Enter], lines[rules.Inside])
}

func (w *twin) in(user, group string) bool {
	return group == "" || slices.Contains(w.world.people[user].Groups, group)
}

// meet returns the event of a rule for the one who moved and another, if there is one.
func (w *twin) meet(c ruleCase, mover, other geo.Fix) string {
	skew := max(mover.Tst-other.Tst, other.Tst-mover.Tst)
	if c.when != rules.Near || geo.Distance(mover.Position, other.Position) > c.within || skew > 30*60*1000 {
		return ""
	}
	mine := w.in(mover.Who, c.who) && w.in(other.Who, c.of)
	theirs := w.in(other.Who, c.who) && w.in(mover.Who, c.of)
	if !mine && !theirs || !w.consent(mover.Who, other.Who) {
		return ""
	}
	met := false
	for pair := range w.near {
		f := strings.FieldsFunc(pair, func(r rune) bool { return r == ' ' || r == '/' })
		met = met || f[0] == c.id && (f[1] == mover.Who && f[3] == other.Who || f[1] == other.Who && f[3] == mover.Who)
	}
	w.near[c.id+" "+name(&mover)+" "+name(&other)] = true
	w.near[c.id+" "+name(&other)+" "+name(&mover)] = true
	if met {
		return ""
	}
	who, with, to := name(&mover), name(&other), mover.Who
	if !mine {
		who, with, to = with, who, other.Who
	} else if theirs {
		to = min(mover.Who, other.Who) + "," + max(mover.Who, other.Who)
	}
	return fmt.Sprintf("near %s who=%s with=%s to=%s", c.id, who, with, to)
}

func (w *twin) consent(a, b string) bool {
	p, q := w.world.people[a], w.world.people[b]
	for _, g := range p.Groups {
		if slices.Contains(q.Groups, g) {
			return true
		}
	}
	return slices.Contains(p.Contacts, b) && slices.Contains(q.Contacts, a)
}
