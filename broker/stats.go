package broker

import (
	"sync/atomic"
	"time"
)

// Stats is what a broker counts. Totals begin at its start; the others are as of
// the last tenth of a second.
type Stats struct {
	// Connections are open now, of whatever state; Online are sessions that have
	// one, Sessions include those that are offline.
	Connections, Online, Sessions, Subscriptions, Groups, RetainedTopics, Inboxes int64
	// RetainedBytes is what retained messages take on disk, about; FreeBytes is
	// what is free on the data folder's volume, 0 without one.
	RetainedBytes, FreeBytes int64
	// Commits is the number of the last batch that is on stable storage.
	Commits uint64
	// Published are messages that were routed, Delivered those that were sent.
	Published, Delivered uint64
	// BytesIn and BytesOut are the MQTT packets that were read and written, without
	// what TLS and WebSocket put around them.
	BytesIn, BytesOut uint64
	// CommitTimes are how long the store took for each batch, mostly for its fsync.
	// AnswerTimes are, for each batch that was kept, from its first command that had to
	// be until its acknowledgements left: the longest that one of its publishes waited
	// in the core and for the disk.
	CommitTimes, AnswerTimes Durations
	// Dropped are QoS 0 messages that a slow reader did not get, Overflow what
	// queues lost to their bounds, InboxCut what inboxes did, Expired what came
	// too late, TooLarge what was above a client's maximum, Unobserved events
	// that an Observer was too slow for.
	Dropped, Overflow, InboxCut, Expired, TooLarge, Unobserved uint64
	// RetainedEnded are retained messages that went at their expiry, or by the age to
	// which they are kept; Damaged are records of the store that could not be read.
	RetainedEnded, Damaged uint64
	// Connects are clients that were let in, ConnectsRefused those that were not.
	Connects, ConnectsRefused uint64
	// Malformed are connections that broke the protocol, Refused publishes that
	// were not taken, wills among them, RefusedFilters filters of a SUBSCRIBE.
	Malformed, Refused, RefusedFilters uint64
	// Busy is how long the core has been applying commands: beside the time that
	// has passed it says how near to its bound the one ordered core is.
	Busy time.Duration
	// HeldBytes is what the process holds in memory, garbage left out; Crowded is
	// true while that is so much that nothing new is taken.
	HeldBytes int64
	Crowded   bool
	// PacketsWaiting are connections that wait for room for a large packet.
	// OutputBytes is output that is large, or that clients do not read; BacklogBytes
	// are messages that wait in memory behind it, and BacklogSessions the sessions that
	// wait for room there.
	PacketsWaiting, OutputBytes, BacklogBytes, BacklogSessions int64
	// JobsWaiting wait for one of Workers.
	JobsWaiting, Workers int64
	// NoSpace is true while the disk is so full that publishes are refused.
	NoSpace bool
}

// Stats returns the counters. It may be called at any time.
func (b *Broker) Stats() Stats {
	s, g := &b.stats, &b.gauges
	b.mu.Lock()
	open := len(b.open)
	b.mu.Unlock()
	jobs, workers := b.jobs.count()
	return Stats{
		PacketsWaiting: int64(b.packets.waiting() + b.connects.waiting()), OutputBytes: b.output.Load(), BacklogBytes: g.backlog.Load(), BacklogSessions: g.line.Load(),
		JobsWaiting: int64(jobs), Workers: int64(workers),
		Connections: int64(open), Online: g.online.Load(), Sessions: g.sessions.Load(), Subscriptions: g.subscriptions.Load(), Groups: g.groups.Load(),
		RetainedTopics: g.retained.Load(), RetainedBytes: g.retainedBytes.Load(), Inboxes: g.inboxes.Load(), RetainedEnded: s.retainedEnded.Load(),
		FreeBytes: s.free.Load(), Commits: g.commits.Load(), Published: s.published.Load(), Delivered: s.delivered.Load(),
		BytesIn: s.bytesIn.Load(), BytesOut: s.bytesOut.Load(), CommitTimes: s.commits.durations(), AnswerTimes: s.answers.durations(),
		Dropped: s.dropped0.Load(), Overflow: s.overflow.Load(), InboxCut: s.inboxCut.Load(), Expired: s.expired.Load(),
		TooLarge: s.tooLarge.Load(), Damaged: s.damaged.Load(), Unobserved: s.unobserved.Load(), Malformed: s.malformed.Load(), Refused: s.refused.Load(), RefusedFilters: s.refusedFilters.Load(),
		Connects: s.connects.Load(), ConnectsRefused: s.refusedConnects.Load(), NoSpace: b.noSpace.Load(),
		HeldBytes: s.held.Load(), Crowded: b.crowded.Load(),
		Busy: time.Duration(s.busy.Load()),
	}
}

// stats counts what an operator wants to see. Every drop and refusal has a
// counter.
type stats struct {
	published, delivered, dropped0   atomic.Uint64
	overflow, expired, tooLarge      atomic.Uint64
	malformed, refused, unobserved   atomic.Uint64
	refusedFilters                   atomic.Uint64
	inboxCut, retainedEnded, damaged atomic.Uint64
	connects, refusedConnects        atomic.Uint64
	bytesIn, bytesOut                atomic.Uint64
	commits, answers                 histogram
	free                             atomic.Int64 // bytes on the data folder's volume
	busy                             atomic.Int64 // ns
	held                             atomic.Int64 // bytes in memory
}

func (s *stats) routed(int) { s.published.Add(1) }

// gauges are the sizes of what the core holds, as of its last tick.
type gauges struct {
	sessions, online, subscriptions, groups, retained, retainedBytes, inboxes atomic.Int64
	backlog, line                                                             atomic.Int64
	commits                                                                   atomic.Uint64
}

// gauge notes the sizes; the core calls it.
func (c *core) gauge() {
	g := &c.b.gauges
	g.sessions.Store(int64(c.sessions.len()))
	g.online.Store(int64(c.online))
	g.subscriptions.Store(int64(c.index.Len()))
	g.groups.Store(int64(c.groups.Len()))
	g.retained.Store(int64(c.topics.Len()))
	g.retainedBytes.Store(c.topics.Bytes())
	g.inboxes.Store(int64(len(c.users)))
	g.backlog.Store(c.backlog.bytes)
	g.line.Store(int64(len(c.backlog.line)))
	g.commits.Store(c.released)
}
