package main

import (
	"math"
	"runtime/debug"
	"testing"
)

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
