package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
)

// hookSet holds the hooks by what they can do, in the order of Config.Hooks.
type hookSet struct {
	authenticators []hooks.Authenticator
	authorizers    []hooks.Authorizer
	prompt         bool // all of them are
	observers      []*observer
	gates          []*gate
}

func sortHooks(all []any) (h hookSet) {
	h.prompt = true
	for _, x := range all {
		if a, ok := x.(hooks.Authenticator); ok {
			h.authenticators = append(h.authenticators, a)
		}
		if a, ok := x.(hooks.Authorizer); ok {
			h.authorizers = append(h.authorizers, a)
			_, prompt := x.(hooks.Prompt)
			h.prompt = h.prompt && prompt
		}
		if g, ok := x.(hooks.Gate); ok {
			h.gates = append(h.gates, newGate(g, hookName(x)))
		}
		if o, ok := x.(hooks.Observer); ok {
			h.observers = append(h.observers, newObserver(o))
		}
	}
	return h
}

// gated reports whether a Gate wants to see what is published on topic.
func (h *hookSet) gated(topic string) bool {
	return slices.ContainsFunc(h.gates, func(g *gate) bool { return g.wants(topic) })
}

// gate is a hooks.Gate as the broker runs it.
type gate struct {
	hooks.Gate
	filters filters
	name    string
}

func newGate(h hooks.Gate, name string) *gate {
	g := &gate{Gate: h, name: name}
	g.filters.set(h.Filters())
	return g
}

func (g *gate) wants(topic string) bool { return g.filters.match(topic) }

// filters are what a hook wants to see, for any goroutine.
type filters struct{ list atomic.Pointer[[]hookFilter] }

// hookFilter is a topic filter and what every topic that it matches begins with,
// which most publishes are told apart by.
type hookFilter struct{ filter, head string }

func (f *filters) set(list []string) {
	hf := make([]hookFilter, 0, len(list))
	for _, filter := range list {
		head := filter
		if i := strings.IndexAny(filter, "+#"); i >= 0 {
			head = filter[:i]
		}
		if strings.HasSuffix(filter, "/#") { // it matches the level above, too
			head = strings.TrimSuffix(head, "/")
		}
		hf = append(hf, hookFilter{filter, head})
	}
	f.list.Store(&hf)
}

func (f *filters) match(topic string) bool {
	for _, hf := range *f.list.Load() {
		if strings.HasPrefix(topic, hf.head) && mqtt.Match(hf.filter, topic) {
			return true
		}
	}
	return false
}

// Refilter reads the filters of Gates and Appliers anew, for hooks whose filters
// follow a configuration that has changed.
func (b *Broker) Refilter() {
	for _, g := range b.hooks.gates {
		g.filters.set(g.Filters())
	}
	for _, a := range b.core.appliers {
		a.filters.set(a.Filters())
	}
}

// reader reads the records of the Applier that the gate is, too.
func (g *gate) reader(b *Broker) hooks.Reader { return hookReader{b.store, g.name} }

func hookName(x any) string {
	if a, ok := x.(hooks.Applier); ok {
		return a.Name()
	}
	return ""
}

// openIdentity is who a client is when nobody signs in: who it says it is, by its
// user name, else by the client id, if that is its own and not too long for a name.
func openIdentity(p *mqtt.Connect, assigned bool) hooks.Identity {
	id := hooks.Identity{User: p.Username, Client: p.ClientID}
	if id.User == "" && !assigned && len(p.ClientID) <= 128 {
		id.User = p.ClientID
	}
	return id
}

// authenticate asks each Authenticator until one knows the credentials. With
// none configured every client is who it says it is (open mode). assigned says
// that the client id is the server's.
func (b *Broker) authenticate(c *conn, p *mqtt.Connect, assigned bool) (hooks.Identity, error) {
	if len(b.hooks.authenticators) == 0 {
		return openIdentity(p, assigned), nil
	}
	ctx, stop := context.WithTimeout(b.ctx, b.cfg.Limits.Connect)
	defer stop()
	cred := &hooks.Credentials{
		ClientID: p.ClientID, Username: p.Username, HasUsername: p.HasUsername,
		Password: p.Password, HasPassword: p.HasPassword, Remote: c.remote(), Certificate: c.certificate(),
	}
	if tc, ok := c.nc.(*tls.Conn); ok {
		if chains := tc.ConnectionState().VerifiedChains; len(chains) > 0 {
			cred.Certificate = chains[0][0]
		}
	}
	for _, a := range b.hooks.authenticators {
		id, err := askAuthenticator(ctx, a, cred)
		if err == nil {
			id.Client, id.Verified = p.ClientID, id.User != ""
			return id, nil
		}
		if !errors.Is(err, hooks.ErrNotMine) {
			b.unexpected(err, "a sign-in failed", p.ClientID)
			return hooks.Identity{}, err
		}
	}
	return hooks.Identity{}, &hooks.Refusal{Reason: mqtt.BadUserNameOrPassword, Text: "nobody knows these credentials"}
}

// askAuthenticator calls one; a panic refuses the client.
func askAuthenticator(ctx context.Context, a hooks.Authenticator, cred *hooks.Credentials) (id hooks.Identity, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("broker: authenticator panicked: %v", r)
		}
	}()
	return a.Authenticate(ctx, cred)
}

// unexpected logs an error of a hook that is no refusal.
func (b *Broker) unexpected(err error, text, client string) {
	if _, refused := errors.AsType[*hooks.Refusal](err); !refused {
		b.often.warn(text, "client", client, "err", err)
	}
}

// authorize asks every Authorizer; any no is final, and a panic is a no.
func (b *Broker) authorize(r *hooks.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("broker: authorizer panicked: %v", p)
		}
	}()
	for _, a := range b.hooks.authorizers {
		if err := a.Authorize(r); err != nil {
			return err
		}
	}
	return nil
}
