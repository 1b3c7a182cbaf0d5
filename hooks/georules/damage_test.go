package georules_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/georules"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// damage makes the first record whose key begins with kind unreadable, and restarts.
func (w *world) damage(kind string, value func(v []byte) []byte) error {
	for _, k := range slices.Sorted(maps.Keys(w.records)) {
		if strings.HasPrefix(k, kind) {
			w.records[k] = value(w.records[k])
			break
		}
	}
	w.hook = georules.New(w.set, rules.NewRoster(nil))
	err := w.hook.Restore(w.records, w.now)
	if d, ok := errors.AsType[*hooks.Damage](err); ok { // as the broker does
		for _, key := range d.Keys {
			delete(w.records, string(key))
		}
	}
	return err
}

// reports lets ann and bob meet in the depot.
func reports(t *testing.T) *world {
	g := []string{"g"}
	w := newWorld(t, depot, rules.Person{Name: "ann", Groups: g}, rules.Person{Name: "bob", Groups: g})
	for i, who := range []string{"ann", "bob", "ann"} {
		w.must(who, "users/"+who+"/location/phone", w.fix(48, i))
	}
	return w
}

func TestRestoreGoesOnWithoutADamagedRecord(t *testing.T) {
	for _, kind := range []string{"t", "ed", "em"} {
		for name, value := range map[string]func([]byte) []byte{
			"garbage": func(v []byte) []byte { return append([]byte("?"), v[1:]...) },
			"cut":     func(v []byte) []byte { return v[:2] },
			"empty":   func([]byte) []byte { return nil },
		} {
			w := reports(t)
			if err := w.damage(kind, value); !errors.As(err, new(*hooks.Damage)) {
				t.Fatalf("%s of kind %s: %v", name, kind, err)
			}
			w.must("ann", "users/ann/location/phone", w.fix(48, 10))
			if got := fixesOf(t, w.records, georules.Query{Who: "ann"}); len(got) == 0 {
				t.Errorf("%s of kind %s: nothing is kept any more", name, kind)
			}
			w.pass(time.Second)
			w.restart() // it is readable now
			w.pass(40 * 24 * time.Hour)
			w.pass(time.Second)
			if len(w.records) > 0 {
				t.Errorf("%s of kind %s: %d records are left when all have had their time", name, kind, len(w.records))
			}
		}
	}
}

func TestARecordOfANewerVersionIsRefused(t *testing.T) {
	for _, kind := range []string{"t", "ed", "em"} {
		err := reports(t).damage(kind, func(v []byte) []byte { return append([]byte{v[0], v[1] + 1}, v[2:]...) })
		if !errors.Is(err, mqtt.ErrNewer) {
			t.Errorf("kind %s: %v", kind, err)
		}
	}
}

// What rules that are no more knew does not stay.
func TestStateOfRulesThatAreNoMoreGoes(t *testing.T) {
	w := reports(t)
	set, err := rules.Parse("rules.yaml", []byte("version: 1\nrules: {}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.set = set
	w.restart()
	w.pass(time.Second)
	for key := range w.records {
		if key[:2] == "em" {
			t.Errorf("the meeting %x is left", key)
		}
	}
}

// History gives what is readable, and says that it is not all.
func TestHistoryLeavesOutWhatIsDamaged(t *testing.T) {
	for _, kind := range []string{"f", "t"} {
		w := reports(t)
		_ = w.damage(kind, func([]byte) []byte { return []byte("?") })
		if kind == "t" {
			w.records["t\x00\x00\x00\x00\x00\x00\x00\x01"] = []byte("?")
		}
		n := 0
		err := georules.History(w.records, all, func(geo.Fix) bool { n++; return true })
		if n == 0 || !errors.As(err, new(*hooks.Damage)) {
			t.Errorf("kind %s: %d fixes, %v", kind, n, err)
		}
	}
}
