package broker

import (
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// errNoSpace refuses what would have to be stored while the disk is nearly full.
var errNoSpace = &hooks.Refusal{Reason: mqtt.QuotaExceeded, Text: "the server's disk is nearly full; send it again later", Later: true}

// space watches the free space of the data folder: below the reserve, publishes
// that have to be stored are refused; reads and acknowledgements go on.
type space struct {
	dir     string
	reserve int64
	stop    <-chan struct{}
}

// watchSpace looks once a second until the broker ends.
func (b *Broker) watchSpace(s space) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		b.lookAtSpace(s)
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
	}
}

func (b *Broker) lookAtSpace(s space) {
	free, _, err := store.Space(s.dir)
	if err != nil {
		b.often.warn("the free space can't be read", "err", err)
		return
	}
	b.stats.free.Store(free)
	full := free < s.reserve
	if was := b.noSpace.Swap(full); was != full {
		if full {
			b.log.Error("the disk is nearly full: publishes that have to be stored are refused", "free", free, "reserve", s.reserve)
		} else {
			b.log.Warn("the disk has room again: publishes are taken", "free", free)
		}
	}
	if full {
		return
	}
	if err := store.Ballast(s.dir, s.reserve); err != nil {
		b.often.warn("no ballast could be made", "err", err)
	}
}
