// Package users is the users file: who may connect, and what the rules know of
// them. A [File] is a hooks.Authenticator and gives the rules their people.
//
//	users:
//	  ann: {token: sha256:9f86d0…, role: driver, groups: [crew], contacts: [bob]}
package users

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/rules"
)

// User is one entry of the file.
type User struct {
	// Token is "sha256:" and the hash of the user's token in hex; empty means
	// that the user can't connect.
	Token    string         `yaml:"token"`
	Role     string         `yaml:"role"`
	Groups   []string       `yaml:"groups"`
	Tags     []string       `yaml:"tags"`
	Attrs    map[string]any `yaml:"attrs"`
	Contacts []string       `yaml:"contacts"`
}

// File is a users file as it was read. It is immutable and safe for concurrent
// use.
type File struct {
	users  map[string]User
	people *rules.Roster
}

var _ hooks.Authenticator = (*File)(nil)

// Load reads a users file. An error names the file, line and column.
func Load(name string) (*File, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	return Parse(name, text)
}

// Parse reads the text of a users file; name is for errors.
func Parse(name string, text []byte) (*File, error) {
	var doc struct {
		Users map[string]User `yaml:"users"`
	}
	if err := yaml.UnmarshalWithOptions(text, &doc, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s:%s", name, strings.TrimPrefix(yaml.FormatError(err, false, false), " "))
	}
	names := make([]string, 0, len(doc.Users))
	for n, u := range doc.Users {
		if err := check(n, u); err != nil {
			return nil, fmt.Errorf("%s: user %q: %w", name, n, err)
		}
		names = append(names, n)
	}
	sort.Strings(names)
	people := make([]rules.Person, 0, len(names))
	for _, n := range names {
		u := doc.Users[n]
		people = append(people, rules.Person{Name: n, Role: u.Role, Groups: u.Groups, Tags: u.Tags, Attrs: numbers(u.Attrs), Contacts: u.Contacts})
	}
	return &File{doc.Users, rules.NewRoster(people)}, nil
}

func check(name string, u User) error {
	if name == "" || len(name) > 128 || name[0] == '$' || strings.ContainsAny(name, "/+# \t\n") {
		return fmt.Errorf("a name has 1 to 128 bytes, without / + # and space, and does not begin with $")
	}
	h, ok := strings.CutPrefix(u.Token, "sha256:")
	if b, err := hex.DecodeString(h); u.Token != "" && (!ok || err != nil || len(b) != sha256.Size) {
		return fmt.Errorf("token must be sha256: and 64 hex digits; geocast users token makes one")
	}
	return nil
}

// numbers makes every number a float64, as conditions expect.
func numbers(attrs map[string]any) map[string]any {
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
	return attrs
}

// People is the file as the rules see it.
func (f *File) People() *rules.Roster { return f.people }

// Authenticate takes a user's name and token, the latter as the password.
func (f *File) Authenticate(_ context.Context, c *hooks.Credentials) (hooks.Identity, error) {
	u, ok := f.users[c.Username]
	sum := sha256.Sum256(c.Password)
	got := "sha256:" + hex.EncodeToString(sum[:])
	if !ok || u.Token == "" || subtle.ConstantTimeCompare([]byte(got), []byte(u.Token)) != 1 {
		return hooks.Identity{}, &hooks.Refusal{Reason: mqtt.BadUserNameOrPassword, Text: "user name or token is wrong"}
	}
	return hooks.Identity{User: c.Username, Verified: true, Role: u.Role, Groups: u.Groups, Tags: u.Tags}, nil
}

// NewToken makes a token of 130 random bits, and what the file holds of it.
func NewToken() (token, stored string) {
	token = rand.Text()
	sum := sha256.Sum256([]byte(token))
	return token, "sha256:" + hex.EncodeToString(sum[:])
}
