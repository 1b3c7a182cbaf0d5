package chat_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/geocast/geocast/hooks"
)

// FuzzRecords: whatever one record of the hook says, it starts or says why not, takes
// messages and forgets.
func FuzzRecords(f *testing.F) {
	fill := func(t testing.TB) *world {
		w := newWorld(false)
		for _, cid := range []string{"message-1", "message-2", "message-3"} {
			if err := w.send("ann", "users/bob/chat/"+cid, "x"); err != nil {
				t.Fatal(err)
			}
		}
		return w
	}
	w := fill(f)
	keys := slices.Sorted(maps.Keys(w.records))
	for i, key := range keys {
		for n := range len(w.records[key]) + 1 {
			f.Add(uint8(i), w.records[key][:n])
		}
		f.Add(uint8(i), append(slices.Clone(w.records[key][:2]), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"...))
	}
	f.Fuzz(func(t *testing.T, which uint8, value []byte) {
		w := fill(t)
		w.records[keys[int(which)%len(keys)]] = value
		w.recent = map[string]write{}
		err := w.restart()
		d, ok := errors.AsType[*hooks.Damage](err)
		if !ok && err != nil {
			return // it says so
		}
		for ok && len(d.Keys) > 0 {
			delete(w.records, string(d.Keys[0]))
			d.Keys = d.Keys[1:]
		}
		for range 3 {
			for _, cid := range []string{"message-1", "message-2", "message-4"} {
				_ = w.send("ann", "users/bob/chat/"+cid, "x") // what was damaged counts as new
			}
			w.now += week
			w.hook.Tick(tx{w})
		}
	})
}
