package broker_test

import (
	"context"
	"strings"

	"github.com/geocast/geocast/hooks"
)

// The hooks of these tests are functions.

type authenticator func(ctx context.Context, c *hooks.Credentials) (hooks.Identity, error)

func (f authenticator) Authenticate(ctx context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	return f(ctx, c)
}

type authorizer func(r *hooks.Request) error

func (f authorizer) Authorize(r *hooks.Request) error { return f(r) }

// prompt is one that waits for nothing.
type prompt struct{ authorizer }

func (prompt) Prompt() { panic("it is called") }

type gate struct {
	filters string
	look    func(ctx context.Context, p *hooks.Publish, r hooks.Reader) error
}

func (g *gate) Filters() []string { return strings.Fields(g.filters) }
func (g *gate) Gate(ctx context.Context, p *hooks.Publish, r hooks.Reader) error {
	return g.look(ctx, p, r)
}

type applier struct {
	name, filters string
	apply         func(tx hooks.Tx, p *hooks.Publish) error
	verdict       hooks.Verdict
	restore       func(r hooks.Reader, now int64) error
	tick          func(tx hooks.Tx) int64
}

func (a *applier) Name() string      { return a.name }
func (a *applier) Filters() []string { return strings.Fields(a.filters) }
func (a *applier) Restore(r hooks.Reader, now int64) error {
	if a.restore == nil {
		return nil
	}
	return a.restore(r, now)
}
func (a *applier) Apply(tx hooks.Tx, p *hooks.Publish) (hooks.Verdict, error) {
	return a.verdict, a.apply(tx, p)
}
func (a *applier) Tick(tx hooks.Tx) int64 {
	if a.tick == nil {
		return 0
	}
	return a.tick(tx)
}

type tree struct {
	levels string
	sees   func(user, topic string) bool
}

func (t *tree) Trees() []string                { return strings.Fields(t.levels) }
func (t *tree) MaySee(user, topic string) bool { return t.sees(user, topic) }

// wideTree is a tree that says who sees it by a filter that begins with a wildcard.
type wideTree struct {
	*tree
	wide func(user, filter string) bool
}

func (t wideTree) SeesWide(user, filter string) bool { return t.wide(user, filter) }

type observer func(e hooks.Event)

func (f observer) Observe(e hooks.Event) { f(e) }
