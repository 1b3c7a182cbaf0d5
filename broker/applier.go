package broker

import (
	"errors"
	"fmt"
	"slices"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// applier is a hooks.Applier as the core runs it.
type applier struct {
	hooks.Applier
	filters filters
	recent  map[string]recent // what is not yet readable from the store
	due     int64
}

// recent is a record that an unreleased batch wrote; nil means deleted.
type recent struct {
	batch uint64
	value []byte
	at    int64 // core time
}

// preparedFor is how long, in ms, what a Gate read may take to reach its Applier;
// what the Applier wrote is remembered for twice as long, so that it sees every
// write that the Gate did not.
const preparedFor = 20_000

func (a *applier) wants(topic string) bool { return a.filters.match(topic) }

// wanted reports whether an Applier wants publishes on topic. It is safe for
// concurrent use.
func (c *core) wanted(topic string) bool {
	for _, a := range c.appliers {
		if a.wants(topic) {
			return true
		}
	}
	return false
}

// applyHooks runs the Appliers that want the publish. consumed means that it
// goes no further.
func (c *core) applyHooks(p *hooks.Publish, cn *conn) (consumed, kept bool, err error) {
	for _, a := range c.appliers {
		if !a.wants(p.Message.Topic) {
			continue
		}
		if p.Prepared != nil && c.clock.now-p.At > preparedFor {
			return true, kept, &hooks.Refusal{Reason: mqtt.ServerBusy, Text: "the server was too busy; send it again", Later: true}
		}
		t := &tx{c: c, a: a, conn: cn, depth: p.Depth, topic: p.Message.Topic}
		v, e := a.Apply(t, p)
		if e != nil {
			return true, t.drop() || kept, e
		}
		kept = c.finish(t) || kept
		consumed = consumed || v == hooks.Consume
	}
	return consumed, kept, nil
}

// finish does what an Applier asked for besides its records.
func (c *core) finish(t *tx) (kept bool) {
	kept = t.write()
	for _, r := range t.reads {
		c.read(t.a, r)
	}
	for _, m := range t.more {
		if t.depth+1 > hooks.MaxDepth {
			t.refused(m, errTooDeep)
			continue
		}
		p := &hooks.Publish{Message: m, Depth: t.depth + 1}
		consumed, k, err := c.applyHooks(p, nil)
		kept = k || kept
		if err != nil {
			t.refused(m, err)
		}
		if err != nil || consumed {
			continue
		}
		var from *session
		if t.conn != nil {
			from = t.conn.sess
		}
		k, err = c.route(m, from)
		if err != nil {
			t.refused(m, err)
			continue
		}
		if k {
			kept = true
			c.keep(t.conn)
		}
		c.release(t.conn, kept)
	}
	for _, m := range t.reply {
		if t.conn != nil && t.conn.sess != nil && t.conn.sess.listens(m.Topic) {
			c.emit(t.conn, kept, effect{sess: t.conn.sess, it: item{msg: m, qos: m.QoS}})
		}
	}
	return kept
}

var errTooDeep = errors.New("too deep: hooks publish in answer to each other")

// refused notes that a message which an Applier wants published is not taken.
func (t *tx) refused(m *mqtt.Message, err error) {
	t.c.b.stats.refused.Add(1)
	t.c.b.often.warn("a hook's publish was refused", "hook", t.a.Name(), "topic", m.Topic, "err", err)
}

// tickHooks gives the Appliers their share of time passing.
func (c *core) tickHooks() {
	if c.full() {
		return
	}
	for _, a := range c.appliers {
		if a.due > c.clock.now {
			continue
		}
		t := &tx{c: c, a: a}
		next := a.Tick(t)
		c.finish(t)
		a.due = c.clock.now + 1000
		if next != 0 {
			a.due = min(a.due, max(next, c.clock.now))
		}
	}
}

// forget drops what the store can be read for now.
func (a *applier) forget(released uint64, now int64) {
	for k, r := range a.recent {
		if r.batch <= released && now-r.at > 2*preparedFor {
			delete(a.recent, k)
		}
	}
}

func isApplier(hook any) bool { _, ok := hook.(hooks.Applier); return ok }

func (c *core) restoreHooks() error {
	for _, x := range c.cfg.Hooks {
		a, ok := x.(hooks.Applier)
		if !ok {
			continue
		}
		name := a.Name()
		if name == "" || slices.ContainsFunc(c.appliers, func(o *applier) bool { return o.Name() == name }) {
			return fmt.Errorf("broker: hook %T: its name %q is empty or another hook's", x, name)
		}
		ap := &applier{Applier: a, recent: make(map[string]recent)}
		ap.filters.set(a.Filters())
		r := hookReader{c.store, a.Name()}
		err := a.Restore(r, c.clock.now)
		if d, ok := errors.AsType[*hooks.Damage](err); ok {
			err = c.discardOf(r, d)
		}
		if errors.Is(err, mqtt.ErrNewer) {
			err = fmt.Errorf("%w: start that one, or restore a backup that this one made", err)
		}
		if err != nil {
			return fmt.Errorf("broker: hook %s: %w", a.Name(), err)
		}
		c.appliers = append(c.appliers, ap)
	}
	return nil
}

// discardOf discards the records that a hook can't read.
func (c *core) discardOf(r hookReader, d *hooks.Damage) error {
	for _, key := range d.Keys {
		v, _, err := r.Get(key)
		if err != nil {
			return err
		}
		c.discard("hook "+r.name, tableHook, r.key(key), v, errRecord)
	}
	return nil
}

// HookRecords reads the records of the hook of that name from a store that no
// broker has open, for commands that look into a stopped broker's data.
func HookRecords(s store.Store, hook string) hooks.Reader { return hookReader{s, hook} }

// hookReader reads a hook's committed records.
type hookReader struct {
	s    store.Store
	name string
}

func (r hookReader) key(key []byte) []byte { return append(append([]byte(r.name), 0), key...) }

func (r hookReader) Get(key []byte) ([]byte, bool, error) {
	v, err := r.s.Get(tableHook, r.key(key))
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	return v, err == nil, err
}

func (r hookReader) Scan(prefix []byte, fn func(key, value []byte) bool) error {
	head := len(r.name) + 1
	return r.s.Scan(tableHook, r.key(prefix), nil, func(key, v []byte) store.Next {
		if !fn(key[head:], v) {
			return store.Stop
		}
		return store.Next{}
	})
}

// gate asks the Gates of the hooks about a publish, on a worker.
func (b *Broker) gate(p *hooks.Publish) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("broker: gate panicked: %v", r)
		}
	}()
	for _, g := range b.hooks.gates {
		if !g.wants(p.Message.Topic) {
			continue
		}
		err := g.Gate.Gate(b.ctx, p, g.reader(b))
		if err != nil && b.ctx.Err() != nil {
			return &hooks.Refusal{Reason: mqtt.ServerShuttingDown, Text: "the server is shutting down", Later: true}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
