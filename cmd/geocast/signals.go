package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// errForced is what a second SIGINT or SIGTERM makes of a clean end.
var errForced = errors.New("ended by a second signal before all was done; what was acknowledged is kept")

// sameRequest is how soon after the first another signal is the same request still:
// timeout(1) and others send theirs to the process and to its group.
const sameRequest = 500 * time.Millisecond

// signals are what an operator says to a broker that runs. They are listened to
// from the start: a SIGHUP during a long recovery must not end the process.
type signals struct {
	ctx    context.Context // ends with the first SIGINT or SIGTERM
	forced chan struct{}   // closed at the second
	hup    chan os.Signal
	ends   chan os.Signal
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// listenToSignals begins to listen; close ends it.
func listenToSignals() *signals {
	s := newSignals()
	signal.Notify(s.hup, syscall.SIGHUP)
	signal.Notify(s.ends, os.Interrupt, syscall.SIGTERM)
	return s
}

// newSignals waits for the first signal in ends, and for one that is not the same
// request.
func newSignals() *signals {
	s := &signals{forced: make(chan struct{}), hup: make(chan os.Signal, 1), ends: make(chan os.Signal, 2)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(func() {
		<-s.ends
		s.cancel()
		first := time.Now()
		for range s.ends {
			if time.Since(first) > sameRequest {
				close(s.forced)
				return
			}
		}
	})
	return s
}

// onHangup calls reload for each SIGHUP, one after the other, until ctx ends.
func (s *signals) onHangup(reload func()) {
	s.wg.Go(func() {
		for {
			select {
			case <-s.hup:
				reload()
			case <-s.ctx.Done():
				return
			}
		}
	})
}

// close stops listening and waits for a reload that runs.
func (s *signals) close() {
	signal.Stop(s.hup)
	signal.Stop(s.ends)
	s.cancel()
	close(s.ends)
	s.wg.Wait()
}
