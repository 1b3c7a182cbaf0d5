package main

import (
	"context"
	"math"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// leastMemory is the smallest budget, in bytes, that is kept to: the store's compactions
// take most of it when messages are large. See `geocast bench memory`.
const leastMemory = 192 << 20

// limitMemory makes Go's runtime keep to the budget, in bytes: nothing but it maps
// anonymous memory here. A sixteenth is left for what it does not count. A
// GOMEMLIMIT in the environment is somebody's decision and holds.
func limitMemory(budget int64) {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(budget - budget/16)
	}
}

// giveBackEvery is how often giveBack looks.
const giveBackEvery = 10 * time.Second

// giveBack returns to the system what a burst has left, once little goes on: count
// is of what costs memory, and rises. It ends with ctx.
func giveBack(ctx context.Context, count func() uint64) {
	tick := time.NewTicker(giveBackEvery)
	defer tick.Stop()
	for last := count(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := count()
		if live, held := heap(); now-last < 1000 && held-live > max(live/4, 16<<20) {
			debug.FreeOSMemory()
		}
		last = now
	}
}

// heap is what was live at the last collection, and what is held for the heap.
func heap() (live, held uint64) {
	s := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	runtimemetrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64() + s[2].Value.Uint64() + s[3].Value.Uint64()
}
