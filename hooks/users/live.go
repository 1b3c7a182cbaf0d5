package users

import (
	"context"
	"sync/atomic"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/rules"
)

// Live is a File that can be replaced while a broker runs. Each question is
// answered by the file of that moment; where several answers must go together, ask
// File for it once. It is safe for concurrent use.
type Live struct{ file atomic.Pointer[File] }

var (
	_ hooks.Authenticator = (*Live)(nil)
	_ rules.People        = (*Live)(nil)
)

// NewLive returns a Live that begins with f.
func NewLive(f *File) *Live {
	l := &Live{}
	l.Set(f)
	return l
}

// Set replaces the file. Clients that are connected stay so, until the broker is
// told to ask anew (Broker.Recheck).
func (l *Live) Set(f *File) { l.file.Store(f) }

// File is the file of now.
func (l *Live) File() *File { return l.file.Load() }

// Authenticate is File.Authenticate.
func (l *Live) Authenticate(ctx context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	return l.File().Authenticate(ctx, c)
}

// User implements rules.People.
func (l *Live) User(name string) (rules.Person, bool) { return l.File().people.User(name) }

// Group implements rules.People.
func (l *Live) Group(name string) []string { return l.File().people.Group(name) }

// Role implements rules.People.
func (l *Live) Role(name string) []string { return l.File().people.Role(name) }

// Tag implements rules.People.
func (l *Live) Tag(name string) []string { return l.File().people.Tag(name) }
