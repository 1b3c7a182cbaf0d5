package broker

import "sync/atomic"

// stats counts what an operator wants to see. Every drop and refusal has a
// counter.
type stats struct {
	published, delivered, dropped0 atomic.Uint64
	overflow, expired, tooLarge    atomic.Uint64
	malformed, refused, unobserved atomic.Uint64
	inboxCut                       atomic.Uint64
	free                           atomic.Int64 // bytes on the data folder's volume
}

func (s *stats) routed(int) { s.published.Add(1) }
