// Package hooks is the contract by which code joins a geocast broker.
//
// A hook is any value that implements one or more of five small interfaces. The
// broker finds out which by type assertion, so implement what you need and
// pass the value in broker.Config.Hooks:
//
//   - [Authenticator] says who a connecting client is.
//   - [Authorizer] says what it may publish and read; any no is final.
//   - [Gate] sees a publish before the core does and may change or refuse it.
//   - [Applier] runs inside the core: what it writes commits with the publish.
//   - [Observer] hears of what has been committed, and delays nothing.
//
// A hook that owns topics of its own, beside, is a [Tree].
//
// The broker itself knows no rules and no chat; both come in through here, and
// a broker without hooks is a complete plain MQTT broker.
package hooks

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/geocast/geocast/mqtt"
)

// ErrNotMine is returned by an Authenticator that has no opinion about these
// credentials: the next one is asked.
var ErrNotMine = errors.New("hooks: credentials are for another authenticator")

// Refusal is the error by which a hook refuses: the peer is told Reason, and
// Text as the reason string where its protocol has one. Any other error is
// told as mqtt.UnspecifiedError and logged.
type Refusal struct {
	// Reason is a reason code ≥ 0x80. The zero value is sent as
	// mqtt.NotAuthorized.
	Reason mqtt.Reason
	// Text is for the developer of the client: what is wrong and what would
	// be right. It must hold no secret.
	Text string
	// Later says that the refusal is for now (quota, disk), not for good: a
	// 3.x client then gets no acknowledgement and the connection closes.
	Later bool
}

// Error returns Text.
func (r *Refusal) Error() string { return r.Text }

// Identity is who a connection speaks for. It is immutable after
// authentication and may be read from any goroutine.
type Identity struct {
	// User is the user's name, empty for an anonymous client.
	User string
	// Client is the MQTT client identifier; (User, Client) keys the session.
	Client string
	// Verified is true if an Authenticator vouched for User.
	Verified bool
	// Role, Groups and Tags are what the identity source says of the user.
	Role   string
	Groups []string
	Tags   []string
}

// Credentials are what a client presented in CONNECT. They are valid during the
// call only.
type Credentials struct {
	ClientID    string
	Username    string
	HasUsername bool
	Password    []byte
	HasPassword bool
	// Remote is the peer's address as text; for the log only.
	Remote string
	// Certificate is the verified client certificate, or nil.
	Certificate *x509.Certificate
}

// Authenticator says who a client is. It runs on a worker, may block (within
// ctx) and must be safe for concurrent use. ErrNotMine passes on to the next;
// a *Refusal refuses with its reason; a panic refuses that client.
type Authenticator interface {
	Authenticate(ctx context.Context, c *Credentials) (Identity, error)
}

// Action is what an Authorizer is asked about.
type Action byte

// The actions. Read is asked at SUBSCRIBE with a topic filter, for a shared
// subscription with the part after the group's name; Write is asked with a
// topic name for each publish and will, after topic aliases were resolved.
const (
	Write Action = iota
	Read
)

// Request is one question to an Authorizer. It is valid during the call only.
type Request struct {
	Identity *Identity
	Action   Action
	// Topic is a topic name (Write) or a topic filter (Read).
	Topic  string
	QoS    byte
	Retain bool
	// Shared is true for a Read by a shared subscription.
	Shared bool
	// Payload is what a Write would publish. It is valid during the call only
	// and must not be written to.
	Payload []byte
	// Will is true if the publish is a will: it is asked at CONNECT and again
	// when the will is sent.
	Will bool
}

// Authorizer says whether a request is allowed: nil is yes, an error (best a
// *Refusal) is no. Any no is final, whatever others say. It runs on a worker or
// on a connection's reader, just after broker.Recheck also inside the core, must be safe for concurrent use and should not
// block. A panic is a no.
type Authorizer interface {
	Authorize(r *Request) error
}

// Publish is one publish on its way through the hooks.
type Publish struct {
	// From is the sender; for a publish from inside it is the zero Identity.
	From Identity
	// Message is what was published. A Gate may replace it, but not write to it.
	Message *mqtt.Message
	// Prepared is what a Gate left for the Applier of the same hook, by the
	// hook's index; see Prepare.
	Prepared map[any]any
	// At is the core's time at which it was received, in Unix milliseconds.
	At int64
	// Depth is 0 for a client's publish, one more for each publish that an
	// Applier made in answer to it. Beyond MaxDepth it is refused.
	Depth int
}

// MaxDepth bounds how often a publish may cause another from inside.
const MaxDepth = 8

// Prepare leaves v for the Applier of hook.
func (p *Publish) Prepare(hook, v any) {
	if p.Prepared == nil {
		p.Prepared = make(map[any]any, 1)
	}
	p.Prepared[hook] = v
}

// Reader reads a hook's committed records from the store. It may block on the
// disk, and is safe for concurrent use.
type Reader interface {
	// Get returns the value of key, or nil, false.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan calls fn for every record whose key begins with prefix, in key
	// order, until it returns false. Key and value are valid during the call.
	Scan(prefix []byte, fn func(key, value []byte) bool) error
}

// Gate sees a publish before the core. It runs on a worker, one publish of a
// connection at a time and in order; it may read the store through r, replace
// p.Message, and leave prepared values (decoded payloads, records read). An
// error refuses the publish. A panic refuses it with UnspecifiedError.
type Gate interface {
	// Filters are the topic filters of the publishes that it wants to see;
	// they are read when the broker starts, and at broker.Refilter.
	Filters() []string
	Gate(ctx context.Context, p *Publish, r Reader) error
}

// Place is where an event stands in a user's inbox.
type Place struct {
	// Seq is dense per user, from 1.
	Seq uint64
	// Epoch is random, and changes when numbering starts anew.
	Epoch string
}

// Tx is what an Applier may do. All of it commits with the publish, or not at
// all. It is valid during the call only, and for that goroutine only.
type Tx interface {
	// Now is the core's time in Unix milliseconds. It never runs backwards.
	Now() int64
	// Get returns what this hook last put under key and is not yet known to be
	// readable from the store. What is older must be read in Gate.
	Get(key []byte) (value []byte, ok bool)
	// Put and Delete write records of this hook.
	Put(key, value []byte)
	Delete(key []byte)
	// Inbox appends an event to the user's inbox: encode gets the place and
	// returns the payload. expires is in core time (Unix ms), 0 for never. It
	// returns a *Refusal if the user cannot have an inbox.
	Inbox(user string, expires int64, encode func(dst []byte, at Place) []byte) error
	// Publish publishes m to plain subscribers, with no Gate or Authorizer
	// asked, after the event that caused it.
	Publish(m *mqtt.Message)
	// Reply sends m to the sender's own connection only, at QoS 1, if it is
	// still there and listens to m's topic. It is passing: nothing is stored.
	Reply(m *mqtt.Message)
}

// Verdict is what an Applier decides about a publish.
type Verdict byte

// The verdicts: Route lets the publish go its plain way to subscribers (and to
// the retained table), Consume says that the hook has dealt with it.
const (
	Route Verdict = iota
	Consume
)

// Applier runs inside the core, on its goroutine, in the place that the
// publish has in the one order. It must be deterministic, must not block,
// read no disk and take no lock that another goroutine holds for long, and
// return within about a millisecond. What it may keep: its own state, which
// only it writes, and which Restore rebuilds. An error refuses the publish; a
// panic ends the process, since its state can't be trusted any more.
type Applier interface {
	// Name keys the hook's records in the store; it must never change.
	Name() string
	// Filters are the topic filters of the publishes that it applies.
	Filters() []string
	// Restore is called once at start with the committed records.
	Restore(r Reader, now int64) error
	// Apply is called for each publish that a filter matches.
	Apply(tx Tx, p *Publish) (Verdict, error)
	// Tick is called about once a second, and before that at the time it
	// returned last; it returns the core time at which it wants to be called
	// next, 0 for no wish.
	Tick(tx Tx) (next int64)
}

// Tree is implemented by a hook that owns topic trees, such as `users/…`. What is
// published in one reaches a subscriber only if the hook says so; a filter whose
// first level is a wildcard does not see it; and a report does not go back to
// the connection that sent it.
type Tree interface {
	// Trees are the first topic levels that it owns; read once, at start.
	Trees() []string
	// MaySee reports whether user (empty for an anonymous one) may be sent what
	// is published on topic, a topic name in one of its trees. It is asked for
	// each recipient at each delivery, so that a consent that ends stops what
	// follows at its place in the order. It runs inside the core and in workers,
	// must be safe for concurrent use and not block. A panic ends the process.
	MaySee(user, topic string) bool
}

// Event is something that has been committed, as an Observer hears of it.
type Event struct {
	Kind EventKind
	// Identity is whom it concerns.
	Identity Identity
	// Message is set for Published; it must not be written to.
	Message *mqtt.Message
	// Reason is set for Disconnected.
	Reason mqtt.Reason
	// At is core time in Unix milliseconds.
	At int64
}

// EventKind says what happened.
type EventKind byte

// The kinds of events.
const (
	Connected EventKind = iota + 1
	Disconnected
	Published
)

// Observer hears of events after their commit, on a goroutine of its own, in
// order. Its queue is bounded: events that it is too slow for are dropped and
// counted. A panic is logged and the event skipped.
type Observer interface {
	Observe(e Event)
}
