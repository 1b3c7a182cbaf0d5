package broker

import "github.com/geocast/geocast/store"

// NewOver is New over a store that the test holds.
func NewOver(cfg Config, st store.Store) (*Broker, error) { return newBroker(cfg.WithDefaults(), st) }

// SetMemory lets b find that its budget is n bytes, as of now.
func SetMemory(b *Broker, n int64) { b.memory.Store(n); b.lookAtMemory() }
