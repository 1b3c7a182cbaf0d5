package broker

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/retained"
	"github.com/geocast/geocast/store"
)

// core is the only writer of the subscription index and of all session state.
// Its methods run on the goroutine whose turn it is, but those of mailbox and what is
// marked as readable by others.
type core struct {
	b     *Broker
	cfg   Config
	log   *slog.Logger
	store store.Store
	mail  mailbox
	turn  turn

	clock    clock
	sessions sessionTable
	index    mqtt.Index[*session, subOptions] // read by QoS 0 publishers
	groups   mqtt.Index[string, *group]       // read by QoS 0 publishers
	sweep    sweep
	pages    pageTurns
	topics   retained.Topics
	bodies   map[uint64]int32 // references to shared bodies
	fans     map[fanKey][]*fan
	waiting  int // recipients that wait in fans
	timers   schedule[func()]
	looks    schedule[*session] // offline sessions
	silences schedule[*conn]    // connections with a keep alive
	keeping  schedule[*user]    // inboxes
	users    map[string]*user
	appliers []*applier
	inboxes  bool                    // there is an Applier that may write to inboxes
	trees    map[string][]hooks.Tree // by the first levels that the hooks own
	ages     ages
	forgot   int64 // when the appliers last forgot old writes

	nextID uint64
	stamps
	targets   []target
	cur       *batch
	syncing   *batch
	released  uint64
	releasing bool          // the effects of batch released are leaving
	left      atomic.Uint64 // the last batch whose effects have left; read by QoS 0 publishers
	openBytes int
	backlog   backlog
	relieved  int64       // when relieve last looked
	applied   int64       // of Broker.weight, since the last flush
	outputs   [][]*conn   // by flusher: those that have output since the last flush
	commits   chan *batch // to the committer; closed by loop
	parked    []*conn
	deferred  []command // calls that wait for room in a batch
	stopping  bool
	online    int // sessions that have a connection
	sys       sys
	failed    bool // the store has
}

// commandKind says what a command asks for.
type commandKind byte

const (
	cmdPublish commandKind = iota + 1
	cmdAck
	cmdRefuse // a publish that was refused before the core: any is a refused
	cmdConnect
	cmdSubscribe
	cmdUnsubscribe
	cmdDisconnect
	cmdGone      // the connection has ended
	cmdRoom      // its output has room again
	cmdCall      // call runs on the core
	cmdCommitted // any is the batch
	cmdFailed    // the store failed: nothing can be kept any more
)

// command is one thing that the core is asked to do, at its place in the order.
type command struct {
	kind commandKind
	conn *conn
	qos  byte
	id   uint16
	dup  bool
	more int32 // what it weighs beside 1; see inFlight
	room int32 // what it has of Broker.packets, in bytes
	ack  mqtt.Ack
	msg  *mqtt.Message
	from *hooks.Publish // set if a hook prepared something for the Appliers
	any  any            // *connectRequest, *subscription, *mqtt.Unsubscribe, *mqtt.Disconnect
	call func()
	// passing means that call writes nothing, or sees to it by itself.
	passing bool
	counted bool // it counts in Broker.weight
}

// take gives a command its place: now, or behind what its connection already
// has waiting for room in a batch.
func (c *core) take(cmd command) {
	if c.full() && c.syncing == nil {
		c.seal()
	}
	if cmd.kind == cmdCall && !cmd.passing && c.full() {
		c.deferred = append(c.deferred, cmd)
		return
	}
	if cn := cmd.conn; cn != nil {
		if len(cn.parked) > 0 {
			cn.parked = append(cn.parked, cmd)
			return
		}
		if !c.apply(cmd) {
			cn.parked = append(cn.parked, cmd)
			c.parked = append(c.parked, cn)
			return
		}
		c.doneWith(cn, &cmd)
		return
	}
	c.apply(cmd)
}

// resumeParked applies what waited for room in a batch.
func (c *core) resumeParked() {
	calls := c.deferred
	c.deferred = nil
	for _, cmd := range calls {
		c.take(cmd)
	}
	waiting := c.parked
	c.parked = nil
	for _, cn := range waiting {
		for len(cn.parked) > 0 && c.apply(cn.parked[0]) {
			c.doneWith(cn, &cn.parked[0])
			cn.parked = cn.parked[1:]
		}
		if len(cn.parked) > 0 {
			c.parked = append(c.parked, cn)
		} else {
			cn.parked = nil
		}
	}
}

// apply performs a command, or returns false if it has to wait for room.
func (c *core) apply(cmd command) bool {
	if cmd.kind == cmdCall {
		cmd.call()
		return true
	}
	if cmd.kind == cmdCommitted {
		c.committed(cmd.any.(*batch))
		return true
	}
	if cmd.kind == cmdFailed {
		c.failed = true
		return true
	}
	if cmd.kind == cmdConnect {
		return c.connect(cmd.conn, cmd.any.(*connectRequest))
	}
	s := cmd.conn.sess
	if s == nil || s.conn != cmd.conn {
		if cmd.kind == cmdGone {
			c.emit(cmd.conn, false, effect{do: cmd.conn.close})
		}
		return true // an older epoch, or one that never came to be
	}
	switch cmd.kind {
	case cmdPublish:
		return c.publish(s, &cmd)
	case cmdAck:
		return c.ack(s, cmd.ack)
	case cmdRoom:
		c.pump(s)
	case cmdRefuse:
		c.refuseEarly(cmd.conn, cmd.any.(refused))
	case cmdSubscribe:
		return c.subscribe(s, cmd.any.(*subscription))
	case cmdUnsubscribe:
		return c.unsubscribe(s, cmd.any.(*mqtt.Unsubscribe))
	case cmdDisconnect, cmdGone:
		if c.full() && s.writes() {
			return false
		}
		if cmd.kind == cmdGone {
			c.gone(s, cmd.any)
			return true
		}
		c.disconnect(s, cmd.any.(*mqtt.Disconnect))
	}
	return true
}

// committer makes batches durable, one after the other.
func (c *core) committer(done chan<- struct{}) {
	defer close(done)
	for b := range c.commits {
		began := time.Now()
		err := c.store.Commit(&b.w)
		c.b.stats.commits.observe(time.Since(began))
		if err != nil {
			c.b.fail(fmt.Errorf("store: commit %d: %w", b.n, err))
			c.mail.post(command{kind: cmdFailed})
			return
		}
		c.mail.post(command{kind: cmdCommitted, any: b})
	}
}
