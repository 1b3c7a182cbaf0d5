package main

import (
	"context"
	"math"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

// What a burst has left goes back to the system when it is quiet, and not before.
func TestMemoryIsGivenBackWhenItIsQuiet(t *testing.T) {
	for name, step := range map[string]uint64{"quiet": 10, "busy": 100_000} {
		t.Run(name, func(t *testing.T) {
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			debug.FreeOSMemory()
			for range 64 {
				burst = make([]byte, 1<<20)
			}
			burst = nil
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				n := uint64(0)
				go giveBack(ctx, func() uint64 { n += step; return n })
				time.Sleep(3 * giveBackEvery)
				stop()
				synctest.Wait()
			})
			if live, held := heap(); (held-live < 32<<20) != (name == "quiet") {
				t.Errorf("%d MB are held, %d live", held>>20, live>>20)
			}
		})
	}
}

var burst []byte

func TestMemoryLimitFollowsTheBudget(t *testing.T) {
	was := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(was)
	limitMemory(256 << 20)
	if n := debug.SetMemoryLimit(-1); n > 256<<20 || n < 230<<20 {
		t.Errorf("the limit is %d for a budget of 256 MB", n)
	}
	limitMemory(512 << 20)
	if n := debug.SetMemoryLimit(-1); n > 256<<20 {
		t.Errorf("a limit that was set is now %d", n)
	}
}
