package broker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// However many jobs block, the workers are bounded, every job is done, and those that
// came for a crowd go with it.
func TestWorkersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j jobs
		var did atomic.Int64
		j.start(8)
		gate := make(chan struct{})
		const n = 5000
		for range n {
			j.give(func() { <-gate; did.Add(1) })
		}
		synctest.Wait()
		if waiting, workers := j.count(); workers != workersMost || waiting != n-workersMost {
			t.Errorf("%d workers, %d jobs wait", workers, waiting)
		}
		close(gate)
		synctest.Wait()
		if waiting, workers := j.count(); workers != 8 || waiting != 0 || did.Load() != n {
			t.Errorf("%d workers, %d jobs wait, %d are done", workers, waiting, did.Load())
		}
		j.give(func() { did.Add(1) })
		j.close()
		if did.Load() != n+1 {
			t.Error("close did not wait for the last job")
		}
	})
}
