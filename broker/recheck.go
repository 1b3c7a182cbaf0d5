package broker

import (
	"log/slog"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// recheckStep is how many sessions are looked at in one command of the core.
const recheckStep = 512

// Recheck asks the hooks anew, after what they go by has changed. A client that is
// connected and for which stays is false is disconnected with 0x87, as is one whose
// subscription an Authorizer refuses now, so that it notices; the subscription ends,
// that of an offline session, too. stays runs inside the core and must not block;
// nil lets everybody stay. Recheck returns when all was asked, in steps that delay
// nobody else, or when the broker closes.
func (b *Broker) Recheck(stays func(*hooks.Identity) bool) {
	done := make(chan struct{})
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.rights.Add(1) // what was asked before and is applied later is asked again
	conns := make([]*conn, 0, len(b.open))
	for c := range b.open {
		conns = append(conns, c)
	}
	b.wg.Go(func() {
		defer close(done)
		b.recheck(conns, stays)
	})
	b.mu.Unlock()
	<-done
}

func (b *Broker) recheck(conns []*conn, stays func(*hooks.Identity) bool) {
	for len(conns) > 0 {
		part := conns[:min(recheckStep, len(conns))]
		conns = conns[len(part):]
		var asked []heldFilters
		if !b.inCore(func() { asked = b.core.connectedFilters(part, stays) }) || !b.endRefused(asked) {
			return
		}
	}
	b.recheckLasting()
}

// inCore runs f inside the core and waits for it; false means that the broker ends.
func (b *Broker) inCore(f func()) bool {
	done := make(chan struct{})
	b.core.mail.post(command{kind: cmdCall, call: func() { f(); close(done) }})
	select {
	case <-done:
		return true
	case <-b.ctx.Done():
	case <-b.coreDone:
	}
	return false
}

// heldFilters are what a session subscribes to, for an Authorizer.
type heldFilters struct {
	sess     *session
	identity hooks.Identity
	filters  []string
}

// connectedFilters drops the clients that may not stay, and returns what the others
// subscribe to.
func (c *core) connectedFilters(conns []*conn, stays func(*hooks.Identity) bool) (held []heldFilters) {
	for _, cn := range conns {
		s := cn.sess
		if s == nil || s.conn != cn {
			continue
		}
		if stays != nil && !stays(&cn.identity) {
			c.drop(cn, mqtt.NotAuthorized, "what you signed in with holds no longer")
			continue
		}
		held = append(held, s.held(cn.identity))
	}
	return held
}

func (s *session) held(id hooks.Identity) heldFilters {
	h := heldFilters{sess: s, identity: id}
	for _, o := range s.subs {
		h.filters = append(h.filters, o.filter)
	}
	return h
}

// recheckLasting goes through the sessions in the store, which all offline ones are
// in.
func (b *Broker) recheckLasting() {
	if len(b.hooks.authorizers) == 0 {
		return
	}
	for from := []byte(nil); ; {
		var keys []sessionKey
		err := b.store.Scan(tableSession, nil, from, func(key, v []byte) store.Next {
			if k, _, err := decodeSessionKey(v); err == nil {
				keys = append(keys, k)
			}
			from = append(append(from[:0], key...), 0)
			if len(keys) == recheckStep {
				return store.Stop
			}
			return store.Next{}
		})
		if err != nil {
			b.log.Error("the subscriptions of offline sessions could not be checked", "err", err)
		}
		var asked []heldFilters
		if len(keys) == 0 || !b.inCore(func() { asked = b.core.lastingFilters(keys) }) || !b.endRefused(asked) {
			return
		}
	}
}

func (c *core) lastingFilters(keys []sessionKey) (held []heldFilters) {
	for _, k := range keys {
		s := c.sessions.get(k)
		if s == nil || len(s.subs) == 0 {
			continue
		}
		id := hooks.Identity{User: k.user, Client: k.client, Verified: k.user != ""}
		if s.conn != nil { // it may have come since the connections were looked at
			id = s.conn.identity
		}
		held = append(held, s.held(id))
	}
	return held
}

// endRefused ends what the Authorizers refuse.
func (b *Broker) endRefused(asked []heldFilters) (goOn bool) {
	for i := range asked {
		h := &asked[i]
		var refused []string
		for _, f := range h.filters {
			if b.mayHold(&h.identity, f) != nil {
				refused = append(refused, f)
			}
		}
		if len(refused) > 0 && !b.inCore(func() { b.core.endSubscriptions(h.sess, refused) }) {
			return false
		}
	}
	return true
}

// mayHold asks about a filter that was granted before.
func (b *Broker) mayHold(id *hooks.Identity, filter string) error {
	_, rest, shared, err := mqtt.ParseShared(filter)
	if err != nil || !shared {
		rest = filter
	}
	return b.authorize(&hooks.Request{Identity: id, Action: hooks.Read, Topic: rest, Shared: shared})
}

// askAgain asks about a SUBSCRIBE that was granted before the hooks were to be asked
// anew.
func (c *core) askAgain(cn *conn, p *subscription) {
	for _, f := range p.Filters {
		if p.refused[f.Filter] == nil && c.b.mayHold(&cn.identity, f.Filter) != nil {
			p.refused[f.Filter] = &hooks.Refusal{}
		}
	}
}

// endSubscriptions takes filters away from a session, whose client is disconnected:
// it would go on to wait for what can't come.
func (c *core) endSubscriptions(s *session, filters []string) {
	if s.gone {
		return
	}
	for _, f := range filters {
		if s.subs.has(f) {
			c.dropFilter(s, f)
			c.b.often.some(slog.LevelWarn, "a subscription has ended: it is not allowed any more", "filter", f, "client", s.key.client, "user", s.key.user)
		}
	}
	if s.lasting {
		c.keep(nil)
	}
	s.rest(c.released)
	if s.conn != nil {
		c.drop(s.conn, mqtt.NotAuthorized, "you may not read any more what you subscribed to; subscribe anew")
	}
}
