package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// Broker is an MQTT broker. Make one with New; its methods may be called
// concurrently.
type Broker struct {
	cfg      Config
	log      *slog.Logger
	began    time.Time // for the monotonic clock
	store    store.Store
	core     *core
	flushers []*flusher
	jobs     jobs
	// handshakes has an element for each TLS handshake that goes on.
	handshakes chan struct{}
	hooks      hookSet
	noSpace    atomic.Bool  // the disk is nearly full
	memory     atomic.Int64 // Config.Memory
	crowded    atomic.Bool  // memory is nearly used up
	partials   atomic.Int64 // bytes of incomplete packets that have no room yet; see holdPartial
	packets    room         // for large packets
	connects   room         // for those of clients that are not signed in
	weight     atomic.Int64 // what the commands in the core weigh that have no room in packets
	mostWeight int64
	output     atomic.Int64 // bytes of output that is large, or that clients do not read
	mostOutput int64
	short      atomic.Bool     // sessions stand in line for room
	ctx        context.Context // of what hooks do; ends with Close
	stop       context.CancelFunc
	stats      stats
	gauges     gauges
	often      oftenLog
	clockMs    atomic.Int64 // the core's time, for others
	conns      atomic.Uint64
	ids        atomic.Uint64
	rights     atomic.Uint64  // rises when hooks have to be asked anew; see Recheck
	wg         sync.WaitGroup // everything but the core, committer and flushers
	coreDone   chan struct{}
	comDone    chan struct{}
	flushWG    sync.WaitGroup
	opened     sync.WaitGroup // the connections in open
	reading    sync.WaitGroup // those of them whose input has not ended
	hangUps    sync.WaitGroup // the transports that are being closed
	failed     chan error

	mu        sync.Mutex // guards the following
	listeners []net.Listener
	pollers   []*poller // for plain TCP
	open      map[*conn]struct{}
	closed    bool
	silent    bool // nothing is added to hangUps any more
}

// New opens the store and restores the sessions in it. The broker takes
// connections from Listen and ServeConn on, and publishes from Publish; Close
// ends it. It returns an error if the configuration is wrong, the store can't
// be opened, or holds a newer format.
func New(cfg Config) (*Broker, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Limits.Validate(); err != nil {
		return nil, err
	}
	st, err := openStore(cfg)
	if err != nil {
		return nil, err
	}
	return newBroker(cfg, st)
}

func openStore(cfg Config) (store.Store, error) {
	if cfg.Data == "" {
		cfg.Log.Warn("no data folder: the store is in memory and ends with the process")
		return store.NewMemory(), nil
	}
	st, rec, err := store.Open(cfg.Data, store.Options{Memory: cfg.Memory, Log: cfg.Log})
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", cfg.Data, err)
	}
	cfg.Log.Info("store opened", "dir", cfg.Data, "recovery", rec)
	return st, nil
}

// newBroker starts a broker over an open store, which it then owns.
func newBroker(cfg Config, st store.Store) (*Broker, error) {
	b := &Broker{
		cfg: cfg, log: cfg.Log, began: time.Now(), store: st,
		handshakes: make(chan struct{}, mostHandshakes), coreDone: make(chan struct{}), comDone: make(chan struct{}),
		failed: make(chan error, 1), open: make(map[*conn]struct{}), often: oftenLog{log: cfg.Log},
	}
	b.memory.Store(cfg.Memory)
	b.ctx, b.stop = context.WithCancel(context.Background())
	b.hooks = sortHooks(cfg.Hooks)
	b.core = &core{
		b: b, cfg: cfg, log: cfg.Log, store: st, mail: mailbox{wake: make(chan struct{}, 1)},
		bodies: make(map[uint64]int32), users: make(map[string]*user),
		cur: &batch{n: 1}, commits: make(chan *batch, 1), inboxes: slices.ContainsFunc(cfg.Hooks, isApplier),
		pages: pageTurns{most: max(runtime.GOMAXPROCS(0)/2, 1)},
	}
	b.divide(cfg)
	b.core.turn.linger = time.NewTimer(time.Hour)
	if err := b.core.restore(time.Now()); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if err := b.startSpace(); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	b.start()
	return b, nil
}

func (b *Broker) start() {
	for range runtime.GOMAXPROCS(0) {
		f := newFlusher()
		b.flushers = append(b.flushers, f)
		b.flushWG.Go(f.loop)
	}
	b.core.outputs = make([][]*conn, len(b.flushers))
	b.jobs.start(4 * runtime.GOMAXPROCS(0))
	for _, o := range b.hooks.observers {
		b.wg.Go(func() { o.loop(b.log) })
	}
	b.wg.Go(b.watchMemory)
	go b.core.committer(b.comDone)
	go b.core.loop(b.coreDone)
}

// startSpace begins to watch the disk, if there is one.
func (b *Broker) startSpace() error {
	if b.cfg.Data == "" {
		return nil
	}
	_, total, err := store.Space(b.cfg.Data)
	if err != nil {
		return err
	}
	s := space{dir: b.cfg.Data, reserve: b.cfg.Reserve, stop: b.ctx.Done()}
	if s.reserve == 0 {
		s.reserve = store.Reserve(b.cfg.Memory, total)
	}
	b.lookAtSpace(s)
	b.wg.Go(func() { b.watchSpace(s) })
	return nil
}

// work gives a job that may block to the workers: authentication, control packets,
// disk reads.
func (b *Broker) work(job func()) { b.jobs.give(job) }

// after runs f once d has passed, unless it is stopped.
func (b *Broker) after(d time.Duration, f func()) *time.Timer { return time.AfterFunc(d, f) }

// now is the core's time in Unix ms, as of its last round.
func (b *Broker) now() int64 { return b.clockMs.Load() }

func (b *Broker) assignID() string {
	return assignedID(uint64(time.Now().UnixMicro())<<10 | b.ids.Add(1)&1023)
}

// fail notes that the store can't be trusted any more: nothing further is
// acknowledged, and Serve returns err.
func (b *Broker) fail(err error) {
	b.log.Error("the store has failed: stopping", "err", err)
	select {
	case b.failed <- err:
	default:
	}
}

// ServeConn serves one connection until it ends or ctx does. It takes
// ownership of nc.
func (b *Broker) ServeConn(ctx context.Context, nc net.Conn) {
	if nc, ok := nc.(*net.TCPConn); ok {
		closed := make(chan struct{})
		if c := b.poll(nc, closed); c != nil {
			defer context.AfterFunc(ctx, c.shut)()
			<-closed
			return
		}
	}
	c := newConn(b, nc)
	if !b.track(c) {
		nc.Close() //nolint:errcheck // closed before it was used
		return
	}
	defer b.untrack(c)
	defer b.reading.Done()
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, c.shut)
		defer stop()
	}
	c.serve()
}

func (b *Broker) track(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.open[c] = struct{}{}
	b.opened.Add(1)
	b.reading.Add(1)
	return true
}

func (b *Broker) untrack(c *conn) {
	b.mu.Lock()
	delete(b.open, c)
	b.mu.Unlock()
	b.opened.Done()
}

// hangUp closes a transport in a goroutine that Close waits for: closing waits for
// those who are reading or writing, and the caller may be one of them. A client that
// is read on for lingerFor while the broker closes may hang up later than that.
func (b *Broker) hangUp(nc net.Conn) {
	end := func() { nc.Close() } //nolint:errcheck // nothing can be done about it
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.silent {
		go end()
		return
	}
	b.hangUps.Go(end)
}

// Publish publishes m as the server itself: no Authorizer is asked, while Gates and
// Appliers see it, without a sender. A nil error means that what m obliges the broker
// to keep is durable; a *hooks.Refusal is a hook's or a bound's.
func (b *Broker) Publish(ctx context.Context, m *mqtt.Message) error {
	if !mqtt.ValidTopicName([]byte(m.Topic)) {
		return fmt.Errorf("broker: publish: topic %q is not a topic name", m.Topic)
	}
	if n := m.Size(); n > b.cfg.Limits.Packet {
		return fmt.Errorf("broker: publish to %s: %d bytes; at most %d", m.Topic, n, b.cfg.Limits.Packet)
	}
	p := &hooks.Publish{Message: m, At: b.now()}
	if err := b.gate(p); err != nil {
		return err
	}
	done := make(chan struct{})
	var failed error // read after done is closed
	b.core.mail.post(command{kind: cmdCall, passing: true, call: func() { b.core.publishInside(p, func(err error) { failed = err; close(done) }) }})
	select {
	case <-done:
		return failed
	case <-ctx.Done():
		return ctx.Err()
	case <-b.coreDone:
		return ErrClosed
	}
}

// publishInside routes a message of the server's own and calls done when it is
// durable, or with an error.
func (c *core) publishInside(p *hooks.Publish, done func(error)) {
	if noSpace := c.b.noSpace.Load(); (noSpace || c.full()) && c.keeps(p.Message, nil) {
		if noSpace {
			done(errNoSpace)
			return
		}
		c.deferred = append(c.deferred, command{kind: cmdCall, call: func() { c.publishInside(p, done) }})
		return
	}
	consumed, kept, err := c.applyHooks(p, nil)
	c.targets = c.targets[:0]
	if err == nil && !consumed {
		var k bool
		k, err = c.route(p.Message, nil)
		kept = k || kept
	}
	if err != nil {
		done(err)
		return
	}
	if kept {
		c.keep(nil)
	}
	c.release(nil, kept)
	e := hooks.Event{Kind: hooks.Published, Message: p.Message, At: c.clock.now}
	c.emit(nil, kept, effect{do: func() { c.b.observe(e); done(nil) }})
}

// Serve waits until ctx ends or the store fails, then closes the broker. It
// returns the store's error, or nil.
func (b *Broker) Serve(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case err = <-b.failed:
	}
	return errors.Join(err, b.Close())
}

// Close stops listening, closes every connection as if it were lost (wills are
// kept for the next start), commits what is open and closes the store.
func (b *Broker) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.stop()
	ls, open := b.listeners, b.open
	b.listeners = nil
	conns := make([]*conn, 0, len(open))
	for c := range open {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	for _, l := range ls {
		l.Close() //nolint:errcheck // it ends either way
	}
	for _, c := range conns {
		if c.isConnected.Load() { // what CONNECT said may be read
			c.closeWith(mqtt.ServerShuttingDown, "")
		} else {
			c.close()
		}
	}
	b.reading.Wait()
	b.core.mail.post(command{kind: cmdCall, call: func() { b.core.stopping = true }})
	<-b.coreDone
	<-b.comDone
	for _, f := range b.flushers {
		f.stop()
	}
	b.flushWG.Wait()
	for _, o := range b.hooks.observers {
		close(o.events)
	}
	b.jobs.close()
	b.wg.Wait()
	b.mu.Lock()
	b.silent = true
	b.mu.Unlock()
	b.hangUps.Wait()
	b.opened.Wait()
	for _, p := range b.pollers {
		p.stop()
	}
	return b.store.Close()
}
