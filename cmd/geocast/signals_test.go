package main

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// The first SIGTERM asks for a clean end; SIGHUP is kept for who comes to listen
// later, and ends nothing.
func TestSignals(t *testing.T) {
	s := listenToSignals()
	defer s.close()
	send := func(sig syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	came := func(what string, c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(5 * time.Second):
			t.Fatalf("nothing came of the %s", what)
		}
	}
	send(syscall.SIGHUP)
	reloaded := make(chan struct{}, 9)
	s.onHangup(func() { reloaded <- struct{}{} })
	came("SIGHUP", reloaded)
	if s.ctx.Err() != nil {
		t.Fatal("SIGHUP ends it")
	}
	send(syscall.SIGTERM)
	came("SIGTERM", s.ctx.Done())
	select {
	case <-s.forced:
		t.Fatal("one SIGTERM ends it at once")
	default:
	}
}

// A second signal wants the end at once, but not one that comes with the first:
// timeout(1) and others send two.
func TestASecondSignalForcesTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSignals()
		defer s.close()
		for range 2 {
			s.ends <- syscall.SIGTERM
		}
		synctest.Wait()
		select {
		case <-s.forced:
			t.Fatal("two at once end it at once")
		case <-time.After(time.Second):
		}
		s.ends <- os.Interrupt
		<-s.forced
	})
}
