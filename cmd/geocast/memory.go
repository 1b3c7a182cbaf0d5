package main

import (
	"math"
	"runtime/debug"
)

// limitMemory makes Go's runtime keep to the budget, in bytes: nothing but it maps
// anonymous memory here. A sixteenth is left for what it does not count. A
// GOMEMLIMIT in the environment is somebody's decision and holds.
func limitMemory(budget int64) {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(budget - budget/16)
	}
}
