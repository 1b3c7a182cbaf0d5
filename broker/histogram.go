package broker

import (
	"sync/atomic"
	"time"
)

// Durations is how long something took, each time: for every bound, rising, how often it
// was at most that long. Count includes what was longer than the last one.
type Durations struct {
	Bounds []time.Duration
	AtMost []uint64
	Count  uint64
	Sum    time.Duration
}

// bounds are those of all histograms: from a fast disk's flush to one that hangs.
var bounds = []time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 10 * time.Second,
}

// histogram counts durations. It is observed once a batch, by one goroutine, and read by
// any.
type histogram struct {
	counts [16]atomic.Uint64 // up to each bound, and above
	sum    atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

func (h *histogram) durations() Durations {
	d := Durations{Bounds: bounds, AtMost: make([]uint64, len(bounds)), Sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		if d.Count += h.counts[i].Load(); i < len(bounds) {
			d.AtMost[i] = d.Count
		}
	}
	return d
}
