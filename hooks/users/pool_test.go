package users

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// One runs, one waits, the third is refused at once; who waits gives up when its
// time or its context ends.
func TestPoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 1, time.Second)
		if err := p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := make(chan error, 1)
		go func() { first <- p.enter(t.Context()) }()
		synctest.Wait()
		if err := p.enter(t.Context()); !errors.Is(err, errBusy) {
			t.Errorf("the third gets %v", err)
		}
		start := time.Now()
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("who waits gets %v after %v", err, time.Since(start))
		}
		ctx, stop := context.WithCancel(t.Context())
		go func() { first <- p.enter(ctx) }()
		synctest.Wait()
		stop()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("who has left gets %v", err)
		}
		<-p.running
		if err := p.enter(t.Context()); err != nil {
			t.Errorf("the next gets %v", err)
		}
	})
}
