// Package mochi is the bridge to mochi-mqtt, both ways. New plugs the rules engine
// into a mochi server that already runs; Adopt lets an existing hook of mochi run in
// a geocast broker.
//
//	server := mqtt.New(&mqtt.Options{InlineClient: true})
//	err := server.AddHook(mochi.New(server, set, people), nil)
//
// Fixes are read from the location topics and from the rules' sources; an event is
// published to users/{user}/inbox of each recipient, and to its rule's topic.
//
// Such a server has the rules, not the promises of a geocast broker: mochi acknowledges a
// fix before the rules have seen it, an event to a user without a session is
// gone, inboxes are not numbered, and the state of the rules ends with the
// process.
package mochi

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/mochi-mqtt/server/v2/system"

	"github.com/geocast/geocast/geo"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// Hook is the rules engine as a hook of mochi. Make one with New.
type Hook struct {
	server.HookBase
	// Rejected counts fixes that could not be read, or were not the sender's own.
	Rejected atomic.Uint64

	server  *server.Server
	sources []*rules.Source
	log     *slog.Logger // mochi sets it before the first event

	mu     sync.Mutex // guards engine: mochi calls from each client's goroutine
	engine *rules.Engine
}

var _ server.Hook = (*Hook)(nil)

// New returns a hook that runs set over people and publishes through s, whose
// Options.InlineClient must be true.
func New(s *server.Server, set *rules.Set, people rules.People) *Hook {
	return &Hook{server: s, sources: set.Sources(), engine: rules.New(set, people), log: slog.Default()}
}

// ID names the hook in mochi's log.
func (h *Hook) ID() string { return "geocast-rules" }

// SetOpts gets the server's log.
func (h *Hook) SetOpts(l *slog.Logger, _ *server.HookOptions) { h.log = l }

// Provides says which of mochi's events the hook wants.
func (h *Hook) Provides(b byte) bool { return b == server.OnPublished || b == server.OnSysInfoTick }

// OnPublished steps the rules over the fixes of a publish. mochi calls it after it
// has acknowledged and routed it, on the publisher's goroutine.
func (h *Hook) OnPublished(cl *server.Client, pk packets.Packet) {
	if cl.Net.Inline {
		return // an event of our own
	}
	now := time.Now().UnixMilli()
	for _, f := range h.decode(string(cl.Properties.Username), cl.ID, &pk, now) {
		f.Recv = now
		h.mu.Lock()
		events, _ := h.engine.Step(f)
		h.mu.Unlock()
		h.publish(events, now)
	}
}

// OnSysInfoTick tells the rules the time; mochi calls it about once a second.
func (h *Hook) OnSysInfoTick(*system.Info) {
	now := time.Now().UnixMilli()
	h.mu.Lock()
	events, _ := h.engine.Tick(now)
	h.mu.Unlock()
	h.publish(events, now)
}

// decode reads the fixes of a publish, if its topic is one for them.
func (h *Hook) decode(user, device string, pk *packets.Packet, now int64) []geo.Fix {
	for _, s := range h.sources {
		if mqtt.Match(s.Filter, pk.TopicName) {
			fixes, bad, err := s.Decode(pk.TopicName, pk.Payload, now)
			h.reject(pk.TopicName, len(bad), err)
			return fixes
		}
	}
	who, tracker, ok := whose(pk.TopicName, device)
	if !ok {
		return nil
	}
	if who != user || !geo.ValidName(tracker) {
		h.reject(pk.TopicName, 1, nil)
		return nil
	}
	fixes, bad, err := geo.DecodeFixes(pk.Payload, now)
	h.reject(pk.TopicName, len(bad), err)
	for i := range fixes {
		fixes[i].Who, fixes[i].Tracker = who, tracker
	}
	return fixes
}

// whose reads users/{who}/location[/{tracker}] and owntracks/{who}/{tracker}[/event].
func whose(topic, device string) (who, tracker string, ok bool) {
	l := strings.Split(topic, "/")
	switch {
	case len(l) == 3 && l[0] == "users" && l[2] == "location":
		return l[1], device, true
	case len(l) == 4 && l[0] == "users" && l[2] == "location":
		return l[1], l[3], true
	case len(l) == 3 && l[0] == "owntracks", len(l) == 4 && l[0] == "owntracks" && l[3] == "event":
		return l[1], l[2], true
	}
	return "", "", false
}

func (h *Hook) reject(topic string, n int, err error) {
	if err != nil {
		n++
	}
	if n > 0 {
		h.Rejected.Add(uint64(n))
		h.log.Debug("fixes rejected", "topic", topic, "n", n, "err", err)
	}
}

// publish sends events to whom they are for, at QoS 1.
func (h *Hook) publish(events []rules.Event, now int64) {
	for i := range events {
		e := &events[i]
		body := e.AppendJSON(nil, 0, "", now)
		for _, user := range e.Recipients {
			h.send("users/"+user+"/inbox", body, 1)
		}
		if e.Topic != "" {
			h.send(e.Topic, body, e.QoS)
		}
	}
}

func (h *Hook) send(topic string, body []byte, qos byte) {
	if err := h.server.Publish(topic, body, false, qos); err != nil {
		h.log.Error("event not published", "topic", topic, "err", err)
	}
}
