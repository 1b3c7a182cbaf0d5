package georules_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/rules"
)

func fixesOf(t *testing.T, r hooks.Reader, q georules.Query) (fixes []geo.Fix) {
	t.Helper()
	if err := georules.History(r, q, func(f geo.Fix) bool { fixes = append(fixes, f); return true }); err != nil {
		t.Fatal(err)
	}
	return fixes
}

// all asks for all kept fixes.
var all georules.Query

const depot = `
version: 1
zones: {depot: {circle: {lat: 48, lon: 11, radius: 100m}}}
rules:
  in:  {when: {enter: depot}, to: {user: boss}}
  out: {when: {exit: depot}, to: {user: boss}}
  met: {when: {near: {within: 50m}}, to: self}
`

// Late fixes are kept in their place, duplicates are not, and each is found by
// person, tracker and time; a restart changes nothing.
func TestHistory(t *testing.T) {
	w := newWorld(t, depot)
	w.must("ann", "users/ann/location/watch", w.fix(1, 10))
	w.must("ann", "users/ann/location/watch", w.fix(2, 30))
	w.must("ann", "users/ann/location/watch", w.fix(9, 30)) // as old as the newest
	w.must("ann", "users/ann/location/watch", w.fix(3, 20)) // late
	w.must("ann", "users/ann/location/watch", w.fix(3, 20)) // late, and again
	w.restart()
	w.must("ann", "users/ann/location", w.fix(4, 40))
	w.must("bob", "owntracks/bob/phone", `{"_type":"location","lat":5,"lon":11,"tst":`+w.at(50)+`}`)
	at := func(s int64) int64 { return start + s*1000 }
	for _, test := range []struct {
		name string
		q    georules.Query
		want string
	}{
		{"all", georules.Query{}, "ann/dev 4 40, ann/watch 1 10, ann/watch 3 20, ann/watch 2 30, bob/phone 5 50"},
		{"a person's", georules.Query{Who: "bob"}, "bob/phone 5 50"},
		{"a tracker's", georules.Query{Who: "ann", Tracker: "watch"}, "ann/watch 1 10, ann/watch 3 20, ann/watch 2 30"},
		{"a time's, both ends included", georules.Query{From: at(20), To: at(40)}, "ann/dev 4 40, ann/watch 3 20, ann/watch 2 30"},
		{"nobody's", georules.Query{Who: "eve"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := w.kept(test.q); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// All that a fix carries comes back exactly.
func TestHistoryIsExact(t *testing.T) {
	w := newWorld(t, depot)
	w.must("ann", "owntracks/ann/phone/event", `{"_type":"transition","event":"enter","lat":48.123456789,"lon":-11.1,"tst":1789999999.125,"acc":12.5,"alt":-3,"vel":0,"cog":359.5,"batt":7,"_id":"0f3a"}`)
	want := geo.Fix{Who: "ann", Tracker: "phone", Position: geo.Position{Lat: 48.123456789, Lon: -11.1}, Acc: 12.5, Tst: 1789999999125, Recv: start,
		Alt: -3, Cog: 359.5, Batt: 7, Has: geo.HasAlt | geo.HasVel | geo.HasCog | geo.HasBatt, Event: "enter", ID: "0f3a"}
	got := fixesOf(t, w.records, georules.Query{})
	if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// What was exported raises the same events in rules test as it did live.
func TestExportRepeatsTheEvents(t *testing.T) {
	r, seed := random(t)
	w := newWorld(t, depot)
	for i := range 500 {
		w.now += 1 + r.Int64N(60_000)
		at := w.now/1000 - r.Int64N(30)
		who := []string{"ann", "bob"}[r.IntN(2)]
		batch := make([]string, 1+max(0, r.IntN(12)-8))
		for j := range batch {
			batch[j] = fmt.Sprintf(`{"lat":%g,"lon":11,"tst":%d}`, 48+0.002*r.Float64(), at-int64(r.IntN(len(batch)*20)))
		}
		w.must(who, "users/"+who+"/location", "["+strings.Join(batch, ",")+"]")
		if i%100 == 50 {
			w.restart()
		}
	}
	for _, format := range []rules.TrackFormat{rules.GPX, rules.CSV, rules.JSONL} {
		var text bytes.Buffer
		if err := rules.WriteTrack(&text, format, slices.Values(fixesOf(t, w.records, georules.Query{}))); err != nil {
			t.Fatal(err)
		}
		fixes, err := rules.ReadTrack(&text)
		if err != nil {
			t.Fatal(err)
		}
		var live, replayed []string
		for _, user := range []string{"ann", "bob", "boss"} {
			for _, e := range w.inbox[user] {
				live = append(live, user+" "+field(e, "id"))
			}
		}
		for _, e := range rules.Test(w.set, rules.NewRoster(nil), fixes) {
			for _, to := range e.Recipients {
				replayed = append(replayed, to+" "+e.ID)
			}
		}
		slices.SortStableFunc(replayed, func(a, b string) int { return cmp.Compare(a[:4], b[:4]) })
		if len(live) < 100 || !slices.Equal(live, replayed) {
			t.Errorf("seed %d, %s: %d events live, %d replayed", seed, format, len(live), len(replayed))
		}
	}
}

// What is kept is compared with a list, over random fixes, pauses and restarts: a fix
// stays for its time, and goes a fourteenth of it later at the latest; of a tracker
// only the newest are kept beyond the bound.
func TestHistoryAgreesWithAList(t *testing.T) {
	type entry struct{ arrived, tst int64 }
	r, seed := random(t)
	const keep = 14 * time.Hour
	for range 20 {
		w := newWorld(t, depot)
		w.hook.Keep, w.hook.Fixes = keep, 20+r.IntN(60)
		list := map[string][]entry{}
		for range 400 {
			switch r.IntN(40) {
			case 0:
				w.restart()
			case 1:
				w.pass(time.Duration(r.Int64N(int64(20 * time.Hour))))
			}
			w.pass(time.Duration(r.Int64N(int64(20 * time.Minute))))
			who := fmt.Sprint("u", r.IntN(3))
			tst := w.now - 1 - r.Int64N(1_000_000_000)
			w.must(who, "users/"+who+"/location", fmt.Sprintf(`{"lat":1,"lon":2,"tst":%s}`, seconds(tst)))
			list[who] = append(list[who], entry{w.now, tst})
			if w.deletes > 3 {
				t.Fatalf("seed %d: one publish deleted %d records", seed, w.deletes)
			}
			for _, who := range []string{"u0", "u1", "u2"} {
				fixes := fixesOf(t, w.records, georules.Query{Who: who})
				all := list[who]
				newest := all[max(0, len(all)-w.hook.Fixes):]
				must := 0
				for _, e := range newest {
					if w.now-e.arrived <= keep.Milliseconds() {
						must++
					}
				}
				for _, f := range fixes {
					age := time.Duration(w.now-f.Recv) * time.Millisecond
					if age > keep+keep/14+2*time.Second || !slices.Contains(newest, entry{f.Recv, f.Tst}) {
						t.Fatalf("seed %d: a fix of %v ago is there", seed, age)
					}
				}
				if len(fixes) < must {
					t.Fatalf("seed %d: %d fixes of %s, at least %d wanted", seed, len(fixes), who, must)
				}
			}
		}
		w.pass(40 * 24 * time.Hour)
		if len(w.records) != 0 || len(w.retained) != 0 {
			t.Fatalf("seed %d: %d records and %d positions of silent trackers are left", seed, len(w.records), len(w.retained))
		}
	}
}

// One tick deletes a bounded number of records.
func TestHistoryGoesInSteps(t *testing.T) {
	w := newWorld(t, depot)
	for i := range 5000 {
		w.now++
		w.must("ann", "users/ann/location", fmt.Sprintf(`{"lat":1,"lon":2,"tst":%s}`, seconds(start+int64(i)-1e7)))
	}
	if ticks := w.pass(8 * 24 * time.Hour); ticks < 5 || ticks > 10 {
		t.Errorf("%d ticks", ticks)
	}
	if got := w.kept(georules.Query{}); got != "" {
		t.Errorf("left: %.100s", got)
	}
}

// With Keep below 0 nothing is kept but the last position.
func TestNoHistory(t *testing.T) {
	w := newWorld(t, depot)
	w.hook.Keep = -1
	w.must("ann", "users/ann/location", w.fix(48, 10))
	if got := w.kept(georules.Query{}); got != "" || w.retained["users/ann/location"] == "" || len(w.inbox["boss"]) != 1 {
		t.Errorf("kept %q, retained %v, boss got %v", got, w.retained, w.inbox["boss"])
	}
}

// FuzzRecords: records that are no records are errors.
func FuzzRecords(f *testing.F) {
	w := newWorld(&testing.T{}, depot)
	w.must("ann", "users/ann/location", w.fix(48, 10))
	for key, value := range w.records {
		if key[0] != 'e' {
			f.Add(key[0] == 'f', value)
		}
	}
	f.Fuzz(func(t *testing.T, fix bool, value []byte) {
		r := records{}
		for key, v := range w.records {
			r[key] = v
			if key[0] == 'f' && fix || key[0] == 't' && !fix {
				r[key] = value
			}
		}
		_ = georules.History(r, georules.Query{}, func(geo.Fix) bool { return true })
		_ = georules.New(w.set, rules.NewRoster(nil)).Restore(r, start)
	})
}

func random(t *testing.T) (*rand.Rand, uint64) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed)), seed
}
