package broker

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/geocast/geocast/store"
)

// Whoever takes turns leaves what has come by the end of the last one to the core's own
// goroutine, which is told of it: no time passes.
func TestWhatComesInTheLastTurnOfARowIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := NewOver(Config{Log: slog.New(slog.DiscardHandler)}, store.NewMemory())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		const n = 2 * turnsInRow
		did := 0
		var one func()
		one = func() { // each finds its follower when it is done
			if did++; did < n {
				b.core.mail.add(command{kind: cmdCall, call: one})
			}
		}
		b.core.mail.add(command{kind: cmdCall, call: one})
		b.core.runs()
		synctest.Wait()
		if did != n {
			t.Errorf("%d of %d are applied", did, n)
		}
	})
}
