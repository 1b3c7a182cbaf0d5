package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/geocast/geocast/store"
)

// Config says how a Broker is set up. Its zero value is a broker with an
// in-memory store (it says so when it starts), no listener and no hooks.
type Config struct {
	// Data is the folder of the durable store, made if it is not there. Empty
	// means a store in memory: nothing survives the process.
	Data string
	// Memory is the budget in bytes for the process, default 512 MB. When most of
	// it is held, new sessions, filters, retained topics and inboxes are refused.
	Memory int64
	// Reserve is the free space in bytes of the data folder's volume below which
	// publishes that have to be stored are refused. Default: the smaller of
	// 512 MB and a tenth of the volume, at least six of the store's memtables.
	Reserve int64
	// Hooks are values that implement interfaces of package hooks.
	Hooks []any
	// Log gets what an operator can act on; nil means slog.Default().
	Log *slog.Logger
	// TLS is what mqtts:// and wss:// listeners use.
	TLS *tls.Config
	// Origins are the host patterns from which a browser may open a WebSocket;
	// empty means any, since MQTT authenticates for itself.
	Origins []string
	// Limits bound what one client can make the broker hold.
	Limits Limits
	// ResetClock lets a store start whose saved time is more than a day ahead of
	// the wall clock: time goes on from the wall clock, and what has a time in
	// the store (expiries, wills that wait) may come later than it should.
	ResetClock bool
	// Linger is how long a commit may wait for more publishers, at most; it is
	// not waited for a lone one. Default 1 ms, negative for none.
	Linger time.Duration
	// SysInterval is how often the topics below $SYS are told anew, default
	// 10 s, negative for never; see sys.go for what they are.
	SysInterval time.Duration
	// Version is what $SYS/broker/version says of the program.
	Version string
}

// Limits are bounds with defaults; a zero field takes its default.
type Limits struct {
	// Packet is the largest packet in bytes that a client may send, default
	// 256 KB; it is announced as Maximum Packet Size.
	Packet int
	// Connect is how long a connection may take to send its CONNECT, default
	// 10 s.
	Connect time.Duration
	// ReceiveMaximum is how many QoS 1 and 2 publishes a client may have
	// unacknowledged, default 256.
	ReceiveMaximum int
	// Window is how many QoS 1 and 2 messages a client is sent before it
	// acknowledges, at most; its own Receive Maximum may be lower. Default 64.
	Window int
	// TopicAliases is how many topic aliases a client may use, default 16.
	TopicAliases int
	// SessionExpiry caps what a client may ask for, default 30 days.
	SessionExpiry time.Duration
	// QueueMessages and QueueBytes bound what waits for a lasting session,
	// default 1,000,000 messages and 1 GB; the oldest goes first.
	QueueMessages int
	QueueBytes    int64
	// QueueKeep is how long a message waits for a lasting session or a shared
	// group, default 30 days as SessionExpiry, so that no session loses one before
	// it ends; negative for as long as the session lasts. It goes up to two hours
	// later, and is counted and announced as one that QueueMessages cut.
	QueueKeep time.Duration
	// PendingMessages and PendingBytes bound what waits in memory for a
	// session that is not lasting, default 1,000 and 1 MB; it is closed with
	// 0x97 beyond that.
	PendingMessages int
	PendingBytes    int
	// InboxKeep is how long an event stays in a person's inbox, default 30
	// days; InboxEvents and InboxBytes bound one inbox, default 100,000 events
	// and 256 MB. The oldest go first, and a device that had not read them gets
	// a gap event.
	InboxKeep   time.Duration
	InboxEvents int
	InboxBytes  int64
	// Inboxes bounds how many people have one, default 1,000,000.
	Inboxes int
	// Retained bounds the number of retained topics, default 5,000,000; each takes
	// about 35 bytes of memory. RetainedBytes bounds what their messages take on disk,
	// about, default 10 GB. One that would go beyond is refused; each is bounded by
	// Packet, and goes at its expiry or with an empty one.
	Retained      int
	RetainedBytes int64
	// RetainedKeep is how long one stays whose publisher gave it no shorter expiry.
	// Default 0, for ever: MQTT has no other end for it, and who publishes a setting
	// once expects it there after a year. Clients are told of no expiry by it.
	RetainedKeep time.Duration
	// ServerKeepAlive, if not 0, is the longest keep alive in seconds: an MQTT 5
	// client that asks for a longer one, or for none, is told to use this.
	ServerKeepAlive uint16
	// Sessions bounds how many there are, online and offline, default 2,000,000.
	Sessions int
	// Subscriptions bounds the filters of one session and of one packet, default
	// 1,000.
	Subscriptions int
	// Topic is how many bytes a topic name or filter may have, default 4,096;
	// TopicLevels how many levels, default 128: each level of a filter that
	// others share takes memory of its own.
	Topic       int
	TopicLevels int
}

// WithDefaults returns c with its zero fields filled in, as New uses it.
func (c Config) WithDefaults() Config {
	def(&c.Memory, 512<<20)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Linger == 0 {
		c.Linger = time.Millisecond
	}
	def(&c.SysInterval, 10*time.Second)
	l := &c.Limits
	def(&l.Packet, 256<<10)
	def(&l.Connect, 10*time.Second)
	def(&l.ReceiveMaximum, 256)
	def(&l.Window, 64)
	def(&l.TopicAliases, 16)
	def(&l.SessionExpiry, 30*24*time.Hour)
	def(&l.QueueMessages, 1_000_000)
	def(&l.QueueBytes, 1<<30)
	def(&l.QueueKeep, 30*24*time.Hour)
	def(&l.PendingMessages, 1000)
	def(&l.PendingBytes, 1<<20)
	def(&l.Retained, 5_000_000)
	def(&l.RetainedBytes, 10<<30)
	def(&l.InboxKeep, 30*24*time.Hour)
	def(&l.InboxEvents, 100_000)
	def(&l.InboxBytes, 256<<20)
	def(&l.Inboxes, 1_000_000)
	def(&l.Sessions, 2_000_000)
	def(&l.Subscriptions, 1000)
	def(&l.Topic, 4096)
	def(&l.TopicLevels, 128)
	return c
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate reports the first bound that is out of its range; zero fields stand
// for their defaults.
func (l Limits) Validate() error {
	c := Config{Limits: l}.WithDefaults()
	l = c.Limits
	if l.ReceiveMaximum < 1 || l.ReceiveMaximum > 65535 {
		return fmt.Errorf("broker: ReceiveMaximum %d is not in 1..65535", l.ReceiveMaximum)
	}
	if l.Window < 1 || l.Window > 65535 {
		return fmt.Errorf("broker: Window %d is not in 1..65535", l.Window)
	}
	if l.TopicAliases < 0 || l.TopicAliases > 65535 {
		return fmt.Errorf("broker: TopicAliases %d is not in 0..65535", l.TopicAliases)
	}
	if l.Subscriptions < 1 || l.Subscriptions > 1000 {
		return fmt.Errorf("broker: Subscriptions %d is not in 1..1000: what one command writes must fit into one commit", l.Subscriptions)
	}
	if l.Topic < 1 || l.Topic > store.MaxKey-8 {
		return fmt.Errorf("broker: Topic %d is not in 1..%d", l.Topic, store.MaxKey-8)
	}
	if l.RetainedKeep < 0 {
		return fmt.Errorf("broker: RetainedKeep %v is below 0", l.RetainedKeep)
	}
	if l.TopicLevels < 1 || l.TopicLevels > 65535 {
		return fmt.Errorf("broker: TopicLevels %d is not in 1..65535", l.TopicLevels)
	}
	if l.Packet < 256 || l.Packet > 256<<10 {
		return fmt.Errorf("broker: Packet %d is not in 256..262144", l.Packet)
	}
	return nil
}

// ErrClosed is returned by calls on a broker that was closed.
var ErrClosed = errors.New("broker: closed")
