package broker

import "sync"

// jobs are done by workers, in order: what may block. Giving one never waits and none is
// refused; there are as many as who gives them waits for. That is one for each
// connection, and one for each page, erasure or will that the core is waiting for. When
// more than jobsMost wait, because what workers do blocks, there are more workers for a
// while, up to workersMost.
type jobs struct {
	mu      sync.Mutex
	wake    sync.Cond
	waiting []func()
	workers int
	idle    int
	closed  bool
	ended   sync.WaitGroup // the workers
}

const (
	jobsMost    = 1024
	workersMost = 1024
)

// start begins n workers that stay until close.
func (j *jobs) start(n int) {
	j.wake.L = &j.mu
	j.workers = n
	for range n {
		j.ended.Go(func() { j.worker(true) })
	}
}

// give hands a job over.
func (j *jobs) give(job func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(j.waiting, job)
	if j.idle > 0 {
		j.wake.Signal()
	}
	if len(j.waiting)-j.idle > jobsMost && j.workers < workersMost { // the idle may have been woken, and have not come yet
		j.workers++
		j.ended.Go(func() { j.worker(false) })
	}
}

// worker does jobs until there are none and it may end.
func (j *jobs) worker(stays bool) {
	for job := j.next(stays); job != nil; job = j.next(stays) {
		job()
	}
}

// next takes the first job; nil ends a worker.
func (j *jobs) next(stays bool) func() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.waiting) == 0 {
		if !stays || j.closed {
			j.workers--
			return nil
		}
		j.idle++
		j.wake.Wait()
		j.idle--
	}
	job := j.waiting[0]
	j.waiting[0] = nil
	if j.waiting = j.waiting[1:]; len(j.waiting) == 0 {
		j.waiting = nil
	}
	return job
}

// close waits until all jobs are done and the workers have ended.
func (j *jobs) close() {
	j.mu.Lock()
	j.closed = true
	j.wake.Broadcast()
	j.mu.Unlock()
	j.ended.Wait()
}

// count is how many jobs wait, and how many workers there are.
func (j *jobs) count() (waiting, workers int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.waiting), j.workers
}
