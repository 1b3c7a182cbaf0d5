package broker

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// errNoMemory refuses what would make the broker hold more while it holds as much
// as it may.
var errNoMemory = &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the server holds as much as its memory allows; try again later", Later: true}

// What the process holds beyond crowdedShare of Config.Memory makes it crowded: it
// then takes no new sessions, filters, retained topics and inboxes, and each
// connection gets crowdedPart of the room that it has otherwise. What is there goes
// on.
const (
	crowdedShare = 0.7
	crowdedPart  = 16
)

// held are the metrics that say what the process holds: what the last garbage
// collection found in use, and stacks.
var held = []string{"/gc/heap/live:bytes", "/memory/classes/heap/stacks:bytes"}

// What a collection found is stale after staleAfter while it makes the broker crowded: who
// is refused allocates nothing, so that the next one would not come. If that finds no
// less, it is good for twice as long, up to staleMost.
const (
	staleAfter = time.Second
	staleMost  = 30 * time.Second
)

// watchMemory looks ten times a second until the broker ends.
func (b *Broker) watchMemory() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	stale := staleAfter
	for {
		select {
		case <-tick.C:
			b.lookAtMemory()
			if !b.crowded.Load() {
				stale = staleAfter
			} else if sinceCollection() > stale {
				runtime.GC()
				stale = min(2*stale, staleMost)
			}
			b.hurry()
		case <-b.ctx.Done():
			return
		}
	}
}

// sinceCollection is how long ago the last garbage collection was.
func sinceCollection() time.Duration {
	var s debug.GCStats
	debug.ReadGCStats(&s)
	return time.Since(s.LastGC)
}

func (b *Broker) lookAtMemory() {
	samples := make([]metrics.Sample, len(held))
	for i := range samples {
		samples[i].Name = held[i]
	}
	metrics.Read(samples)
	n, budget := int64(0), b.memory.Load()
	for _, s := range samples {
		n += int64(s.Value.Uint64())
	}
	b.stats.held.Store(n)
	crowded := float64(n) > crowdedShare*float64(budget)
	if was := b.crowded.Swap(crowded); was == crowded {
		return
	}
	if crowded {
		b.log.Error("memory is nearly used up: new sessions, subscriptions and retained topics are refused", "held", n, "memory", budget)
	} else {
		b.log.Warn("there is memory again: new sessions and subscriptions are taken", "held", n, "memory", budget)
	}
}

// share is how much of a bound a connection has now: never less than least, unless
// that is above the bound.
func (b *Broker) share(bound, least int) int {
	if b.crowded.Load() {
		return min(bound, max(bound/crowdedPart, least))
	}
	return bound
}

// The parts of Config.Memory that what comes in may take: large packets of clients that
// are signed in, and of others; commands in the core; and the beginnings of packets
// that have no room yet.
const (
	packetsShare  = 8
	connectsShare = 16
	inCoreShare   = 8
	partialShare  = 16
	outputShare   = 16 // and as much again for those who have none
	backlogShare  = 16 // and as much again while each has little
)

// divide gives each its part of the memory.
func (b *Broker) divide(cfg Config) {
	least := int64(cfg.Limits.Packet)
	b.packets.most = max(cfg.Memory/packetsShare, least)
	b.connects.most = max(cfg.Memory/connectsShare, least)
	b.mostOutput = max(cfg.Memory/outputShare, least)
	b.core.backlog.most = max(cfg.Memory/backlogShare, least)
	b.mostWeight = cfg.Memory / inCoreShare >> 11 // see weigh
}

// smallPartial is how much of an incomplete packet every connection may have, in
// bytes; the rest is counted for all together.
const smallPartial = 1 << 10

// holdPartial notes how large the beginning of a packet is that has no room yet, and
// fails if all connections hold too much of such.
func (c *conn) holdPartial(size int) error {
	size = max(size-smallPartial, 0)
	if size == c.held {
		return nil
	}
	grown := size - c.held
	c.held = size
	if total := c.b.partials.Add(int64(grown)); grown > 0 && total > c.b.cfg.Memory/partialShare {
		c.b.often.warn("a connection was closed: all together have sent too much of packets that are not complete", "client", c.identity.Client, "remote", c.remote())
		return &mqtt.Error{Reason: mqtt.QuotaExceeded, Clause: "MQTT-4.13", Text: "the server holds as many incomplete packets as it may"}
	}
	return nil
}
