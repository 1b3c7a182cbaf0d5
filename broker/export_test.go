package broker

import "github.com/geocast/geocast/store"

// NewOver is New over a store that the test holds.
func NewOver(cfg Config, st store.Store) (*Broker, error) { return newBroker(cfg.WithDefaults(), st) }
