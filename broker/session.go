package broker

import (
	"slices"
	"sync/atomic"

	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// sessionKey is what makes a session unique: users can't take each other over.
type sessionKey struct{ user, client string }

// session is one MQTT session. Everything in it is owned by the core, but live,
// which QoS 0 publishers read.
type session struct {
	id  uint64
	key sessionKey
	// expiry is Session Expiry in seconds, mqtt.NeverExpires for ever.
	expiry uint32
	// lasting is true while what is queued for the session must survive a
	// crash: Session Expiry > 0, or a resumed session that had it.
	lasting bool
	// conn is nil while the session is offline.
	conn *conn
	// live is conn, for readers outside the core.
	live atomic.Pointer[conn]
	subs map[string]subOptions
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
	// endsAt is when an offline session ends, in core time (ms); 0 if it does
	// not.
	endsAt int64
	// look is when a timer next looks at the offline session, 0 for none.
	look int64
	// stored means that its record is in the store: it lasts, or has a will.
	stored bool
	// gone is true once the session has ended; nothing may be sent or written.
	gone bool
	// dropped is how many messages its queue lost to its bounds since the
	// client was last told.
	dropped uint64
	// replays are retained messages still to be sent, in order of SUBSCRIBE.
	replays []*replay
	// groups are the shared subscriptions that it is a member of.
	groups map[*group]subOptions
	// match is scratch of the publish that is being applied: its number and
	// the place of this session among the recipients.
	match   uint64
	matchAt int
}

// writes reports whether what the session does may have to be written.
func (s *session) writes() bool { return s.stored || s.lasting || s.inbox != nil || len(s.groups) > 0 }

// ready reports whether the session has a connection that its CONNACK was sent
// to: nothing else may be sent before [MQTT-3.2.0-1].
func (s *session) ready() bool { return s.conn != nil && !s.gone && s.live.Load() == s.conn }

// subOptions are the options of one subscription [MQTT-3.8.3].
type subOptions struct {
	qos       byte
	noLocal   bool
	asRetain  bool
	id        uint32 // subscription identifier, 0 for none
	retainHow byte
}

// item is one message for one session, in a queue or on its way.
type item struct {
	msg    *mqtt.Message
	subIDs []uint32
	qos    byte
	retain bool
	dup    bool
	idx    uint16    // its place within the entry at `at`
	at     store.Pos // the entry of from's log that holds it; 0: in memory only
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
	return len(it.msg.Topic) + len(it.msg.Payload) + 64
}

// flight is what the window keeps of an item until it is acknowledged.
type flight struct {
	from *queue
	at   store.Pos
	idx  uint16
	qos  byte
	size int32
	// it is kept for messages that no log holds, and for claims of a group,
	// which may have to go to another member.
	it *item
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
	o.bytes += by * it.size()
	if it.isLoose() {
		o.loose += by
		o.looseBytes += by * it.size()
	}
}

// flight is what the window keeps of it, but the item itself.
func (it *item) flight() flight {
	return flight{from: it.from, at: it.at, idx: it.idx, qos: it.qos, size: int32(it.size())}
}

func (s *session) box() *outbox {
	if s.out == nil {
		s.out = &outbox{}
		s.out.window.SetCapacity(int(s.window))
	}
	return s.out
}

// idle drops the outbox of a session that has nothing in it.
func (s *session) idle() {
	if s.out != nil && len(s.out.pend) == 0 && s.out.window.Len() == 0 {
		s.out = nil
	}
}
