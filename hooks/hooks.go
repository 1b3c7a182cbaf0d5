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
// A hook that owns topics of its own, beside, is a [Tree]; an Authorizer that waits for
// nothing is a [Prompt] one.
//
// The broker itself knows no rules and no chat; both come in through here, and
// a broker without hooks is a complete plain MQTT broker.
package hooks

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/geocast/geocast/mqtt"
)

// ErrNotMine is returned by an Authenticator that has no opinion about these
// credentials: the next one is asked.
var ErrNotMine = errors.New("hooks: credentials are for another authenticator")

// Refusal is the error by which a hook refuses: the peer is told Reason, and
// Text as the reason string where its protocol has one. Any other error is
// told as mqtt.UnspecifiedError and logged. In 3.x, which has no reasons for it, a
// refused publish is acknowledged, and who listens to users/{me}/reply is told there
// if the topic is in a [Tree].
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

// Authenticator says who a client is. Those of a broker are asked in the order of
// its Config.Hooks until one knows the credentials; with none configured, every
// client is who it says it is. ErrNotMine passes on to the next, and after the last
// one refuses with BadUserNameOrPassword. A *Refusal refuses with its reason; any
// other error, and a panic, with UnspecifiedError, and it is logged. It runs on a
// goroutine of the client's connection and may block, which delays this client only;
// it must be safe for concurrent use. ctx ends after Limits.Connect, and when the
// broker closes. The Identity that it returns is kept, with the client identifier
// filled in, and must not be changed any more.
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
// *Refusal) is no. Any no is final, whatever others say, at every protocol level and
// QoS, for wills and after topic aliases. A panic is a no, too; it is logged, as is
// an error that is no *Refusal. It runs on a worker or, for a will that is sent and after
// Broker.Recheck, inside the core; it must be safe for concurrent use and not block. One
// that is slow holds up its publisher, and others only when it has all workers. A subscription is asked about when it is made, and
// after Broker.Recheck; not again when its session goes on.
type Authorizer interface {
	Authorize(r *Request) error
}

// Prompt is an Authorizer that answers from memory, within about a microsecond, and takes
// no lock that another goroutine holds for long. If all of a broker's are, whoever reads a
// connection asks about its publishes, at less cost than a worker; it reads others, too,
// which wait meanwhile.
type Prompt interface {
	Authorizer
	// Prompt says so; it is not called.
	Prompt()
}

// Publish is one publish on its way through the hooks.
type Publish struct {
	// From is the sender; for a publish from inside it is the zero Identity.
	From Identity
	// Message is what was published. A Gate may replace it, but not write to it.
	Message *mqtt.Message
	// Prepared is what a Gate left for the Applier of the same hook, by the
	// hook itself; see Prepare.
	Prepared map[any]any
	// At is the core's time at which it was received, in Unix milliseconds.
	At int64
	// Depth is 0 for a client's publish and for one by Broker.Publish, one more
	// for each publish that an Applier made in answer to it; MaxDepth bounds it.
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

// Reader reads a hook's committed records from the store, and no other hook's. It may
// block on the disk, and is safe for concurrent use.
type Reader interface {
	// Get returns the value of key, or nil, false.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan calls fn for every record whose key begins with prefix, in key
	// order, until it returns false. Key and value are valid during the call.
	Scan(prefix []byte, fn func(key, value []byte) bool) error
}

// Damage is the error of an Applier's Restore that has found records which are not
// readable, and goes on without them.
type Damage struct {
	// Keys are those of the records.
	Keys [][]byte
}

// Add notes the key of a record, which it copies.
func (d *Damage) Add(key []byte) { d.Keys = append(d.Keys, append([]byte(nil), key...)) }

// Err is d, or nil if it names nothing.
func (d *Damage) Err() error {
	if len(d.Keys) == 0 {
		return nil
	}
	return d
}

// Error says how many records there are.
func (d *Damage) Error() string { return fmt.Sprintf("%d records are not readable", len(d.Keys)) }

// Gate sees a publish before the core, a will when it is sent; what Appliers publish
// passes none.
// Those of a broker are asked in the order of its Config.Hooks, each if one of its
// filters matches the topic as those before have left it. It runs on a worker, one
// publish of a connection at a time and in order; there are few workers, so that it
// may read the store through r, but wait for nothing else. It may leave prepared
// values (decoded payloads, records read) for its Applier. It may replace p.Message,
// but not write to it; what then stands there is not authorised again. An error
// refuses the publish; a panic refuses it with UnspecifiedError and is logged. What a
// client sends again (DUP) passes it again.
type Gate interface {
	// Filters are the topic filters of the publishes that it wants to see;
	// they are read when the broker starts, and at Broker.Refilter.
	Filters() []string
	// Gate looks at one publish. ctx ends when the broker closes.
	Gate(ctx context.Context, p *Publish, r Reader) error
}

// Place is where an event stands in a user's inbox.
type Place struct {
	// Seq is dense per user, from 1.
	Seq uint64
	// Epoch is random, and changes when numbering starts anew.
	Epoch string
}

// Tx is what an Applier may do. All of it commits in the publish's own batch, before
// the acknowledgement and all else that follows from it leave; if the Applier returns
// an error, nothing of it is done. It is valid during the call only, and for that
// goroutine only.
type Tx interface {
	// Now is the core's time in Unix milliseconds. It never runs backwards.
	Now() int64
	// Get returns what this hook last put under key and is not yet known to be
	// readable from the store, nil and true if it deleted it. What is older must
	// be read in Gate. An acknowledgement that rests on what it returned waits
	// until that is committed.
	Get(key []byte) (value []byte, ok bool)
	// Put writes a record of this hook. It copies key and value.
	Put(key, value []byte)
	// Delete removes a record of this hook; it need not be there.
	Delete(key []byte)
	// Inbox appends an event to the user's inbox: encode is called at once, gets
	// the place and appends the payload to dst. expires is in core time (Unix ms),
	// 0 for never. It returns a *Refusal, and appends nothing, if the user cannot
	// have an inbox or the commit has no room for the event.
	Inbox(user string, expires int64, encode func(dst []byte, at Place) []byte) error
	// Inboxes appends an event to the inboxes of many users: a JSON object, to which
	// the fields seq and epoch of each one's place are added. It is durable with the
	// publish whatever their number; if they are many they get it in steps that
	// follow, once each, also over a restart. What the same client puts into Inboxes
	// later on the same topic comes after it. A user who cannot have an inbox is left
	// out, counted and logged. It returns a *Refusal, and does nothing, if the users
	// are more than one commit can name or too many wait already.
	Inboxes(users []string, expires int64, event []byte) error
	// Publish publishes m to plain subscribers, with no Gate or Authorizer
	// asked, after the Applier has returned. Appliers see it with one Depth more;
	// beyond MaxDepth it is dropped and logged.
	Publish(m *mqtt.Message)
	// Reply sends m to the sender's own connection only, at QoS 1, if it is
	// still there and listens to m's topic. It is passing: nothing is stored.
	Reply(m *mqtt.Message)
	// Read runs look on a worker, where it may read the hook's records, and then calls
	// then inside the core, as it calls Tick. Neither runs if the Applier returns an
	// error. A panic in one ends the process.
	Read(look func(r Reader), then func(tx Tx))
}

// Verdict is what an Applier decides about a publish.
type Verdict byte

// The verdicts: Route lets the publish go its plain way to subscribers (and to
// the retained table), Consume says that the hook has dealt with it.
const (
	Route Verdict = iota
	Consume
)

// Applier runs inside the core, one call after the other though not always on the same
// goroutine, in the place that the publish has in the one order. It must be deterministic, must not block,
// read no disk and take no lock that another goroutine holds for long, and
// return within about a millisecond. What it may keep: its own state, which
// only it writes, and which Restore rebuilds. Those of a broker are asked in the order
// of its Config.Hooks. An error refuses the publish: the Appliers after it are not
// asked, what those before it wrote stays, and its own state must be as it was. A
// panic ends the process, since its state can't be trusted any more.
type Applier interface {
	// Name keys the hook's records in the store; it must never change. Two hooks
	// of one name, or an empty one, are refused when the broker is made.
	Name() string
	// Filters are the topic filters of the publishes that it applies, read as
	// those of a Gate.
	Filters() []string
	// Restore is called once, before all else, with the committed records and the
	// core's time. A *Damage names records that it can't read and goes on without: they
	// are logged, counted and deleted. Any other error ends the start.
	Restore(r Reader, now int64) error
	// Apply is called for each publish that a filter matches, also for a will and
	// for one from inside.
	Apply(tx Tx, p *Publish) (Verdict, error)
	// Tick is called about once a second, and before that at the time it
	// returned last; it returns the core time at which it wants to be called
	// next, 0 for no wish.
	Tick(tx Tx) (next int64)
}

// Tree is implemented by a hook that owns topic trees, such as `users/…`. What is
// published in one reaches a subscriber only if the hook says so, all hooks that own
// it. A filter whose first level is a wildcard does not see it, unless the hook is a
// [WideTree] that says so. A publish does not go back to the connection that sent it.
// No will is retained there, and at most QoS 1 is granted.
type Tree interface {
	// Trees are the first topic levels that it owns; read once, at start.
	Trees() []string
	// MaySee reports whether user (empty for an anonymous one) may be sent what
	// is published on topic, a topic name in one of its trees. It is asked for
	// each recipient when the publish is applied, so that a consent that ends stops
	// what follows at its place in the order, and for each retained message when
	// it is sent. It runs inside the core and must not block. A panic ends the
	// process.
	MaySee(user, topic string) bool
}

// WideTree is a Tree that shows itself to some users by filters whose first level is a
// wildcard, too. If several hooks own a tree, all of them must be one and say so.
type WideTree interface {
	Tree
	// SeesWide reports whether such a filter, without $share and a group's name, shows
	// user the trees; which of their topics is for MaySee to say. It is asked when
	// MaySee is, and as it is.
	SeesWide(user, filter string) bool
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

// The kinds of events. Published is a client's publish that was taken, its will when
// that is sent, or a publish by Broker.Publish.
const (
	Connected EventKind = iota + 1
	Disconnected
	Published
)

// Observer hears of events after their commit, on a goroutine of its own, in the order
// in which they took effect. It delays nothing: its queue is bounded, and events that
// it is too slow for are dropped and counted. A panic is logged and the event skipped.
// Closing the broker waits until it has heard what is queued.
type Observer interface {
	// Observe is told of one event at a time.
	Observe(e Event)
}
