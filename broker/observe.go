package broker

import (
	"log/slog"

	"github.com/geocast/geocast/hooks"
)

// observer is a hooks.Observer with its queue: what it is too slow for is
// dropped and counted, so that it delays nothing.
type observer struct {
	hooks.Observer
	events chan hooks.Event // closed when the broker ends
}

// observerQueue is how many events may wait for one observer.
const observerQueue = 4096

func newObserver(o hooks.Observer) *observer {
	return &observer{o, make(chan hooks.Event, observerQueue)}
}

// loop tells the observer of events, in order, until the broker ends.
func (o *observer) loop(log *slog.Logger) {
	for e := range o.events {
		o.tell(e, log)
	}
}

func (o *observer) tell(e hooks.Event, log *slog.Logger) {
	defer func() {
		if r := recover(); r != nil {
			log.Error("an observer panicked; the event is skipped", "panic", r)
		}
	}()
	o.Observe(e)
}

// observe queues an event for the observers. The core calls it for what is
// committed, or needs no commit.
func (b *Broker) observe(e hooks.Event) {
	for _, o := range b.hooks.observers {
		select {
		case o.events <- e:
		default:
			b.stats.unobserved.Add(1)
			b.often.warn("an observer is too slow: events were dropped")
		}
	}
}
