package broker_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/geocast/geocast/broker"
)

// The table of sessions against a map, with enough of them that its parts grow and
// have sessions that stand away from their homes.
func TestTableAgreesWithAMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var table broker.Table
	want := map[string]bool{}
	for step := range 200_000 {
		id := fmt.Sprint(r.IntN(30_000))
		switch {
		case !want[id] && step < 150_000:
			table.Put(id)
			want[id] = true
		case want[id]:
			table.Remove(id)
			delete(want, id)
		}
		if probe := fmt.Sprint(r.IntN(30_000)); table.Has(probe) != want[probe] {
			t.Fatalf("step %d: Has(%s) is %v", step, probe, !want[probe])
		}
	}
	if table.Len() != len(want) {
		t.Errorf("Len is %d, want %d", table.Len(), len(want))
	}
	for id := range want {
		if !table.Has(id) {
			t.Fatalf("%s was lost", id)
		}
	}
}
