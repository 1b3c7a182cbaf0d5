// Package users is the users file: who may connect, and what the rules know of
// them. A [File] is a hooks.Authenticator and gives the rules their people.
//
//	users:
//	  ann: {token: "sha256:9f86d0…", role: driver, groups: [crew], contacts: [bob]}
//	  bob: {password: "$argon2id$v=19$m=19456,t=2,p=1$…"}
//	groups:
//	  crew: {share: location}
package users

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/regular"
	"github.com/geocast/geocast/rules"
	"github.com/geocast/geocast/strictyaml"
)

// User is one entry of the file.
type User struct {
	// Token is "sha256:" and the hash of the user's token in hex. Password is
	// the argon2id hash of a password as a PHC string. A user has at most one
	// of them; without, the user is known but can't connect.
	Token    string `yaml:"token"`
	Password string `yaml:"password"`
	// Role is one word that rules and access control ask for, such as admin.
	Role   string   `yaml:"role"`
	Groups []string `yaml:"groups"`
	Tags   []string `yaml:"tags"`
	// Attrs are texts, numbers and booleans for conditions of rules.
	Attrs    map[string]any `yaml:"attrs"`
	Contacts []string       `yaml:"contacts"`
}

// Group is what the file says of a group, beside who is in it.
type Group struct {
	// Share is "location" if the members see each other's positions.
	Share string `yaml:"share"`
}

// File is a users file as it was read. It is immutable and safe for concurrent
// use.
type File struct {
	users  map[string]User
	groups map[string]Group
	people *rules.Roster
	tokens map[string][sha256.Size]byte
	hashes map[string]hash
	decoy  hash // what a password of nobody is compared with
	pool   *pool
}

var _ hooks.Authenticator = (*File)(nil)

// contents is the file as YAML.
type contents struct {
	Version int              `yaml:"version"`
	Users   map[string]User  `yaml:"users"`
	Groups  map[string]Group `yaml:"groups"`
}

// Load reads a users file. Its errors are *strictyaml.Fault and name file, line
// and column, or what the system says.
func Load(name string) (*File, error) {
	text, err := regular.Read(name)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	return Parse(name, text)
}

// Parse reads the text of a users file; name is for errors.
func Parse(name string, text []byte) (*File, error) {
	doc, err := strictyaml.Parse(name, text)
	if err != nil {
		return nil, err
	}
	var c contents
	if err := doc.Decode(&c); err != nil {
		return nil, err
	}
	f := &File{users: c.Users, groups: c.Groups, tokens: map[string][sha256.Size]byte{}, hashes: map[string]hash{}, pool: passwords}
	if err := f.check(&c); err != nil {
		return nil, doc.Fault(err.path, "%s", err.text)
	}
	f.people = roster(c.Users)
	return f, nil
}

// wrong is what is wrong in an entry, and where.
type wrong struct {
	path []any
	text string
}

// check looks at every value and fills what Authenticate compares with.
func (f *File) check(c *contents) *wrong {
	if c.Version > 1 {
		return &wrong{[]any{"version", ""}, "this geocast reads version 1"}
	}
	for _, n := range slices.Sorted(maps.Keys(c.Users)) {
		u := c.Users[n]
		if w := f.checkUser(n, &u); w != nil {
			w.path = append([]any{"users", n}, w.path...)
			return w
		}
		numbers(u.Attrs)
	}
	for _, n := range slices.Sorted(maps.Keys(c.Groups)) {
		switch s := c.Groups[n].Share; {
		case hooks.ValidName(n) != nil:
			return &wrong{[]any{"groups", n}, "group: " + hooks.ErrName.Error()}
		case s != "" && s != "location":
			return &wrong{[]any{"groups", n, "share", ""}, fmt.Sprintf("share: %q; only location can be shared", s)}
		}
	}
	return nil
}

func (f *File) checkUser(name string, u *User) *wrong {
	if err := hooks.ValidName(name); err != nil {
		return &wrong{nil, fmt.Sprintf("user %q: %v", name, err)}
	}
	if u.Token != "" && u.Password != "" {
		return &wrong{[]any{"password"}, "a user has a token or a password, not both"}
	}
	if w := f.checkSecret(name, u); w != nil {
		return w
	}
	if w := checkNames("groups", u.Groups); w != nil {
		return w
	}
	if w := checkNames("tags", u.Tags); w != nil {
		return w
	}
	if w := checkNames("contacts", u.Contacts); w != nil {
		return w
	}
	for _, key := range slices.Sorted(maps.Keys(u.Attrs)) {
		switch u.Attrs[key].(type) {
		case string, bool, int64, uint64, int, float64:
		default:
			return &wrong{[]any{"attrs", key}, "an attribute is a text, a number, true or false"}
		}
	}
	return nil
}

func checkNames(key string, names []string) *wrong {
	for i, n := range names {
		if err := hooks.ValidName(n); err != nil {
			return &wrong{[]any{key, i}, fmt.Sprintf("%q: %v", n, err)}
		}
	}
	return nil
}

func (f *File) checkSecret(name string, u *User) *wrong {
	if u.Token != "" {
		sum, err := parseToken(u.Token)
		if err != nil {
			return &wrong{[]any{"token", ""}, err.Error()}
		}
		f.tokens[name] = sum
	}
	if u.Password != "" {
		h, err := parseHash(u.Password)
		if err != nil {
			return &wrong{[]any{"password", ""}, err.Error()}
		}
		f.hashes[name] = h
		if h.cost() > f.decoy.cost() {
			f.decoy = h
		}
	}
	return nil
}

// numbers makes every number a float64, as conditions expect.
func numbers(attrs map[string]any) {
	for k, v := range attrs {
		switch n := v.(type) {
		case int64:
			attrs[k] = float64(n)
		case uint64:
			attrs[k] = float64(n)
		case int:
			attrs[k] = float64(n)
		}
	}
}

func roster(users map[string]User) *rules.Roster {
	people := make([]rules.Person, 0, len(users))
	for _, n := range slices.Sorted(maps.Keys(users)) {
		u := users[n]
		people = append(people, rules.Person{Name: n, Role: u.Role, Groups: u.Groups, Tags: u.Tags, Attrs: u.Attrs, Contacts: u.Contacts})
	}
	return rules.NewRoster(people)
}

// People is the file as the rules see it.
func (f *File) People() *rules.Roster { return f.people }

// Shares reports whether the members of a group see each other's positions.
func (f *File) Shares(group string) bool { return f.groups[group].Share == "location" }

// Names are the users, sorted.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.users)) }

// User returns an entry; its lists and map must not be written to.
func (f *File) User(name string) (u User, ok bool) {
	u, ok = f.users[name]
	return u, ok
}

// SignsInAs reports whether a user signs in by the same token or password as in
// another file; false if he is in one of them only.
func (f *File) SignsInAs(other *File, name string) bool {
	a, here := f.users[name]
	b, there := other.users[name]
	return here && there && a.Token == b.Token && a.Password == b.Password
}

// errWrong is the one answer to an unknown user, a wrong token and a wrong password.
var errWrong = &hooks.Refusal{Reason: mqtt.BadUserNameOrPassword, Text: "the user name, or the token or password, is wrong"}

// Authenticate takes a user's name, and the token or password as the password. A
// token costs one hash. Everything that is not a right token costs one argon2id,
// whether the user exists or not, if any user of the file has a password: neither
// answer nor time tells who is known. Clients with neither name nor password are
// left to the next authenticator.
func (f *File) Authenticate(ctx context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	if !c.HasUsername && !c.HasPassword {
		return hooks.Identity{}, hooks.ErrNotMine
	}
	sum := sha256.Sum256(c.Password)
	want, ok := f.tokens[c.Username]
	if subtle.ConstantTimeCompare(sum[:], want[:]) == 1 && ok {
		return f.identity(c.Username), nil
	}
	if len(f.hashes) == 0 {
		return hooks.Identity{}, errWrong
	}
	h, ok := f.hashes[c.Username]
	if !ok {
		h = f.decoy
	}
	right, err := f.pool.verify(ctx, &h, c.Password)
	switch {
	case errors.Is(err, errBusy), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return hooks.Identity{}, &hooks.Refusal{Reason: mqtt.ServerBusy, Text: "too many clients sign in with passwords at once; try again, or use tokens", Later: true}
	case err != nil:
		return hooks.Identity{}, err
	case !right || !ok:
		return hooks.Identity{}, errWrong
	}
	return f.identity(c.Username), nil
}

func (f *File) identity(name string) hooks.Identity {
	u := f.users[name]
	return hooks.Identity{User: name, Verified: true, Role: u.Role, Groups: u.Groups, Tags: u.Tags}
}

// Anonymous is an Authenticator that lets clients in which give neither a user
// name nor a password, as nobody: they have no user, and so no access to the
// trees. Put it behind the others.
type Anonymous struct{}

var _ hooks.Authenticator = Anonymous{}

// Authenticate takes clients without credentials.
func (Anonymous) Authenticate(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	if c.HasUsername || c.HasPassword {
		return hooks.Identity{}, hooks.ErrNotMine
	}
	return hooks.Identity{}, nil
}
