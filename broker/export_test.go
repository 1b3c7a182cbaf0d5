package broker

import "github.com/geocast/geocast/store"

// NewOver is New over a store that the test holds.
func NewOver(cfg Config, st store.Store) (*Broker, error) { return newBroker(cfg.WithDefaults(), st) }

// SetMemory lets b find that its budget is n bytes, as of now.
func SetMemory(b *Broker, n int64) { b.memory.Store(n); b.lookAtMemory() }

// Held is what b counts of what waits in memory: in the core, of packets, of output, of
// the backlog, and how many stand in line for it.
func Held(b *Broker) (all [5]int64) {
	done := make(chan struct{})
	b.core.mail.post(command{kind: cmdCall, passing: true, call: func() {
		all[3], all[4] = b.core.backlog.bytes, int64(len(b.core.backlog.line)+len(b.core.backlog.large))
		close(done)
	}})
	<-done
	b.packets.mu.Lock()
	defer b.packets.mu.Unlock()
	all[0], all[1], all[2] = b.weight.Load(), b.packets.used+b.partials.Load(), b.output.Load()
	return all
}

// Weight is what the commands weigh that wait in b's core.
func Weight(b *Broker) int64 { return b.weight.Load() }
