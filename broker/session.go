package broker

import (
	"hash/fnv"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// sessionKey is what makes a session unique: users can't take each other over.
type sessionKey struct{ user, client string }

// session is one MQTT session. Everything in it is owned by the core, but live,
// which QoS 0 publishers read. A million of them may be offline, with nothing but
// a filter: what only others need stands in active.
type session struct {
	id  uint64
	key sessionKey
	// conn is nil while the session is offline.
	conn *conn
	// live is conn, for readers outside the core.
	live atomic.Pointer[conn]
	subs filterSet
	*active
	// endsAt is when an offline session ends, in core time (ms); 0 if it does
	// not.
	endsAt int64
	// look is when a timer next looks at the offline session, 0 for none.
	look int64
	// expiry is Session Expiry in seconds, mqtt.NeverExpires for ever.
	expiry uint32
	// matchAt is scratch of the publish that is being applied: the place of this
	// session among the recipients.
	matchAt int32
	// lasting is true while what is queued for the session must survive a
	// crash: Session Expiry > 0, or a resumed session that had it.
	lasting bool
	// stored means that its record is in the store: it lasts, or has a will.
	stored bool
	// gone is true once the session has ended; nothing may be sent or written.
	gone bool
	// unsaved means that endsAt was found at a start, and is not in the store yet.
	unsaved bool
	// told means that it has been logged that a filter of it does not see the trees.
	told bool
}

// active is what a session has while it is connected, or something of it waits;
// nil otherwise. wake makes it, rest lets it go.
type active struct {
	// in2 holds the QoS 2 identifiers received and not yet released.
	in2 map[uint16]struct{}
	// out is the outbound window and what waits for it; nil when idle.
	out *outbox
	// window is how many messages may be unacknowledged on this connection.
	window uint16
	// queue is the session's own log of undelivered messages.
	queue queue
	will  *will
	inbox *feed // nil if it is not subscribed to its user's inbox
	// dropped is how many messages its queue lost to its bounds since the
	// client was last told.
	dropped uint64
	// replays are retained messages still to be sent, in order of SUBSCRIBE.
	replays replays
	// turn means that it waits for a page of a replay.
	turn bool
	// groups are the shared subscriptions that it is a member of.
	groups map[*group]subOptions
	// waiting means that it stands in backlog.line.
	waiting bool
}

// wake returns the session's active part, which it makes if there is none.
func (s *session) wake() *active {
	if s.active == nil {
		s.active = &active{queue: queue{log: s.log(), owner: s}}
	}
	return s.active
}

// rest lets the active part of an offline session go if nothing of it waits.
// Whatever its queue has on disk is read when it is connected again. released is
// the last batch whose effects have left: those of later ones refer to the queue.
func (s *session) rest(released uint64) {
	a := s.active
	if a == nil || s.conn != nil || a.will != nil || a.inbox != nil || a.out != nil || a.dropped > 0 || a.turn ||
		len(a.in2)+a.replays.len()+len(a.groups)+a.queue.messages > 0 ||
		max(uint64(a.queue.put), a.queue.cutIn) > released {
		return
	}
	s.active = nil
}

// waits is the will of an offline session that is still to be sent, or nil.
func (s *session) waits() *will {
	if s.active == nil {
		return nil
	}
	return s.will
}

// source stands for the session's client in retained messages, also after a restart: 0
// for no session. Nothing but No Local looks at it.
func (s *session) source() uint64 {
	if s == nil {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(s.key.user + "\x00" + s.key.client)) //nolint:errcheck // a hash does not fail
	return max(h.Sum64(), 1)
}

// log is where the session's undelivered messages are.
func (s *session) log() store.Log { return store.Log{Kind: logQueue, ID: s.id} }

// writes reports whether what the session does may have to be written.
func (s *session) writes() bool { return s.stored || s.lasting || s.inbox != nil || len(s.groups) > 0 }

// ready reports whether the session has a connection that its CONNACK was sent
// to: nothing else may be sent before [MQTT-3.2.0-1].
func (s *session) ready() bool { return s.conn != nil && !s.gone && s.live.Load() == s.conn }

// subOptions are the options of one subscription [MQTT-3.8.3].
type subOptions struct {
	id        uint32 // subscription identifier, 0 for none
	qos       byte
	retainHow byte
	noLocal   bool
	asRetain  bool
}

// filterSet is what one session subscribes to, by filter, in order.
type filterSet []ownFilter

type ownFilter struct {
	filter string
	subOptions
}

// find returns where a filter stands, or would stand.
func (f filterSet) find(filter string) (at int, ok bool) {
	return slices.BinarySearchFunc(f, filter, func(o ownFilter, filter string) int { return strings.Compare(o.filter, filter) })
}

func (f filterSet) get(filter string) (o subOptions, ok bool) {
	if at, ok := f.find(filter); ok {
		return f[at].subOptions, true
	}
	return o, false
}

func (f filterSet) has(filter string) bool {
	_, ok := f.find(filter)
	return ok
}

func (f *filterSet) set(filter string, o subOptions) {
	at, ok := f.find(filter)
	if ok {
		(*f)[at].subOptions = o
		return
	}
	grown := make(filterSet, 0, len(*f)+1) // most sessions have one or two
	*f = append(append(append(grown, (*f)[:at]...), ownFilter{filter, o}), (*f)[at:]...)
}

func (f *filterSet) remove(filter string) {
	if at, ok := f.find(filter); ok {
		*f = slices.Delete(*f, at, at+1)
	}
}

// item is one message for one session, in a queue or on its way.
type item struct {
	msg    *mqtt.Message
	subIDs []uint32
	qos    byte
	retain bool
	dup    bool
	idx    uint16    // its place within the entry at `at`
	at     store.Pos // the entry of from's log that holds it, or its number in its replay; 0: in memory only
	from   *queue    // the queue that is told of the acknowledgement; nil: none
	body   uint64    // the shared body that its entry refers to, 0 for none
	entry  *entry    // the entry as it was written; nil if it was read
	// bodySize is the item's size if its body was not read.
	bodySize int
	replay   *replay // set if it is a retained message of a replay
	grp      *group  // set if it is of a group's queue
	id       uint16  // the identifier that it had on an earlier connection, or 0
}

// size is what an item counts against bounds, in bytes.
func (it *item) size() int {
	if it.msg == nil {
		return it.bodySize
	}
	m := it.msg
	return len(m.Topic) + len(m.Payload) + len(m.User) + len(m.Correlation) + len(m.ContentType) + len(m.ResponseTopic) + 64
}

// flight is what the window keeps of an item until it is acknowledged.
type flight struct {
	from *queue
	at   store.Pos
	idx  uint16
	qos  byte
	size int32
	// it is kept for claims of a group, which may have to go to another member.
	it *item
	// replay is the replay whose at-th message it is, or nil.
	replay *replay
}

// outbox is the sending side of a session.
type outbox struct {
	window mqtt.Outbound[flight]
	// pend are items that wait for the window or for room in the output
	// buffer, in order, what had been sent before in front; bytes is their size.
	pend  []item
	bytes int
	// loose are those of pend that are nowhere else, looseBytes their size.
	loose, looseBytes int
	backlog           *backlog
	moved             int64 // when something of it was last sent, core time (ms)
}

// isLoose reports whether the item is in memory only.
func (it *item) isLoose() bool { return it.at == 0 && it.replay == nil }

// add puts an item at the end of what waits.
func (o *outbox) add(it *item) {
	o.pend = append(o.pend, *it)
	o.count(it, 1)
}

// addAgain puts an item that had been sent behind the others of that kind.
func (o *outbox) addAgain(it *item) {
	n := slices.IndexFunc(o.pend, func(p item) bool { return p.id == 0 })
	if n < 0 {
		n = len(o.pend)
	}
	o.pend = slices.Insert(o.pend, n, *it)
	o.count(it, 1)
}

func (o *outbox) count(it *item, by int) {
	o.backlog.count(it, by)
	o.bytes += by * it.size()
	if it.isLoose() {
		o.loose += by
		o.looseBytes += by * it.size()
	}
}

// flight is what the window keeps of it, but the item itself.
func (it *item) flight() flight {
	return flight{from: it.from, at: it.at, idx: it.idx, qos: it.qos, size: int32(it.size()), replay: it.replay}
}

func (s *session) box() *outbox {
	if s.out == nil {
		c := s.conn.b.core
		s.out = &outbox{backlog: &c.backlog, moved: c.clock.now}
		s.out.window.SetCapacity(int(s.window))
	}
	return s.out
}

// unbox drops the outbox with what is in it.
func (s *session) unbox() {
	if s.out == nil {
		return
	}
	for i := range s.out.pend {
		s.out.count(&s.out.pend[i], -1)
	}
	b := s.out.backlog
	s.out.window.All(func(_ uint16, _ mqtt.OutState, f *flight) {
		if f.it != nil {
			b.count(f.it, -1)
		}
	})
	s.out = nil
}

// idle drops the outbox of a session that has nothing in it.
func (s *session) idle() {
	if s.out != nil && len(s.out.pend) == 0 && s.out.window.Len() == 0 {
		s.out = nil
	}
}
