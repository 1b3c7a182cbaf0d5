package users_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/mqtt"
)

func parse(t *testing.T, text string) *users.File {
	t.Helper()
	f, err := users.Parse("users.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func signIn(f hooks.Authenticator, name, secret string) (hooks.Identity, error) {
	return f.Authenticate(context.Background(), &hooks.Credentials{Username: name, HasUsername: true, Password: []byte(secret), HasPassword: true})
}

func TestSignIn(t *testing.T) {
	token, stored := users.NewToken()
	f := parse(t, fmt.Sprintf("users:\n  ann: {token: %q, role: driver, groups: [crew], tags: [night]}\n  bob: {password: %q}\n  cat: {}\n",
		stored, users.HashPassword([]byte("tr0ub4dor"))))
	for _, row := range []struct {
		name, secret string
		ok           bool
	}{
		{"ann", token, true}, {"bob", "tr0ub4dor", true}, {"ann", stored, false}, {"ann", strings.ToLower(token), false}, {"bob", "troubador", false},
		{"bob", token, false}, {"ann", "tr0ub4dor", false}, {"cat", "", false}, {"eve", "", false}, {"eve", token, false}, {"", "", false}, {"ANN", token, false},
	} {
		id, err := signIn(f, row.name, row.secret)
		var r *hooks.Refusal
		switch {
		case row.ok && (err != nil || id.User != row.name || !id.Verified):
			t.Errorf("%s with %s: %+v, %v", row.name, row.secret, id, err)
		case !row.ok && (!errors.As(err, &r) || r.Reason != mqtt.BadUserNameOrPassword || r.Text != "the user name, or the token or password, is wrong"):
			t.Errorf("%s with %s: %+v, %v", row.name, row.secret, id, err)
		}
	}
	id, _ := signIn(f, "ann", token)
	if id.Role != "driver" || !slices.Equal(id.Groups, []string{"crew"}) || !slices.Equal(id.Tags, []string{"night"}) {
		t.Errorf("ann is %+v", id)
	}
}

// A password hash that another tool made, with and without the leading $.
func TestForeignPasswordHash(t *testing.T) {
	// printf password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 24, RFC 9106 reference tool
	const phc = "argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for _, stored := range []string{phc, "$" + phc} {
		if _, err := signIn(parse(t, "users: {bob: {password: \""+stored+"\"}}"), "bob", "password"); err != nil {
			t.Error(err)
		}
	}
}

func TestAnonymousClientsAreForTheNextAuthenticator(t *testing.T) {
	f := parse(t, "users: {ann: {}}")
	if _, err := f.Authenticate(t.Context(), &hooks.Credentials{ClientID: "x"}); !errors.Is(err, hooks.ErrNotMine) {
		t.Errorf("the file says %v", err)
	}
	if id, err := (users.Anonymous{}).Authenticate(t.Context(), &hooks.Credentials{ClientID: "x"}); err != nil || id.User != "" || id.Verified {
		t.Errorf("anonymous is %+v, %v", id, err)
	}
	if _, err := signIn(users.Anonymous{}, "ann", ""); !errors.Is(err, hooks.ErrNotMine) {
		t.Errorf("somebody who gives a name is not anonymous: %v", err)
	}
}

// What a sign-in costs: a token one SHA-256, and every failure one argon2id.
func BenchmarkSignIn(b *testing.B) {
	token, stored := users.NewToken()
	f, err := users.Parse("users.yaml", fmt.Appendf(nil, "users: {ann: {token: %q}, bob: {password: %q}}", stored, users.HashPassword([]byte("right"))))
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct {
		name, user, secret string
		ok                 bool
	}{
		{"token", "ann", token, true}, {"password", "bob", "right", true}, {"wrong token", "ann", "wrong", false},
		{"wrong password", "bob", "wrong", false}, {"unknown user", "eve", "wrong", false},
	} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := signIn(f, row.user, row.secret); (err == nil) != row.ok {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestFaultsNameTheirPlace(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"unknown key", "users:\n  ann: {rol: driver}", `users.yaml:2:9: unknown key "rol" in ann; did you mean "role"?`},
		{"unknown key that is like none", "users:\n  ann: {zzz: 1}", `users.yaml:2:9: unknown key "zzz" in ann; known are token, password, role, groups, tags, attrs or contacts`},
		{"unknown key at the top", "user:\n  ann: {}", `users.yaml:1:1: unknown key "user" in this file; did you mean "users"?`},
		{"a list of users", "users: [ann]", `users.yaml:1:8: users is a list; a mapping (key: value) is wanted here`},
		{"a text for a user", "users:\n  ann: secret", `users.yaml:2:8: ann is a text; wanted is a mapping with the keys token, password, role, groups, tags, attrs or contacts`},
		{"a list for a text", "users:\n  ann: {role: [a]}", `users.yaml:2:15: role is a list; a text is wanted here`},
		{"a text for a list", "users:\n  ann: {groups: a}", `users.yaml:2:17: groups is a text; a list is wanted here`},
		{"an alias", "users:\n  ann: &a {role: x}\n  bob: *a", `users.yaml:2:8: this is an anchor (&), which is not supported; write the value out`},
		{"the same name twice", "users:\n  ann: {}\n  ann: {}", `users.yaml:3:3: "ann" stands here already, on line 2`},
		{"a name with a slash", "users:\n  a/b: {}", `users.yaml:2:3: user "a/b": a name has 1 to 128 bytes of UTF-8, without / + # and space, and does not begin with $`},
		{"a name that is empty", "users:\n  '': {}", `users.yaml:2:3: user "": a name has`},
		{"a name with $ before", "users:\n  $SYS: {}", `users.yaml:2:3: user "$SYS": a name has`},
		{"a group with a space", "users:\n  ann: {groups: [a, b c]}", `users.yaml:2:21: "b c": a name has`},
		{"a plain token", "users:\n  ann: {token: hello}", `users.yaml:2:16: token must be "sha256:" and 64 hex digits`},
		{"a plain password", "users:\n  ann:\n    role: x\n    password: hello", `users.yaml:4:15: password must be an argon2id hash`},
		{"a password hash of 4 GiB", "users:\n  ann:\n    password: $argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", `users.yaml:3:15: password must be an argon2id hash`},
		{"both", "users:\n  ann: {token: a, password: b}", `users.yaml:2:19: a user has a token or a password, not both`},
		{"an attribute that is a list", "users:\n  ann: {attrs: {x: [1]}}", `users.yaml:2:17: an attribute is a text, a number, true or false`},
		{"sharing of what can't be shared", "users: {}\ngroups:\n  crew: {share: inbox}", `users.yaml:3:17: share: "inbox"; only location can be shared`},
		{"a newer version", "version: 2\nusers: {}", `users.yaml:1:10: this geocast reads version 1`},
		{"no YAML", "users: [", `users.yaml:1:8: sequence end token ']' not found`},
		{"two documents", "users: {}\n---\nusers: {}", `users.yaml:3:1: a file holds one document`},
		{"very deep", strings.Repeat("[", 5000), `users.yaml:1:1: nested too deep`},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := users.Parse("users.yaml", []byte(row.text))
			if err == nil || !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
		})
	}
}

func TestGoodFiles(t *testing.T) {
	for _, row := range []struct {
		text  string
		names string
	}{
		{"", ""}, {"# nobody yet\n", ""}, {"users:\n", ""}, {"users: {}\n", ""}, {"version: 1\nusers:\n  ann:\n  bob: {}\n", "ann bob"},
		{"users:\n  123: {role: 5}\n  yes: {}\n  ann@example.org: {}\n", "123 ann@example.org yes"},
	} {
		if got := strings.Join(parse(t, row.text).Names(), " "); got != row.names {
			t.Errorf("%q holds %q, want %q", row.text, got, row.names)
		}
	}
	f := parse(t, "users: {ann: {groups: [climb]}}\ngroups: {climb: {share: location}, work: {}}")
	if !f.Shares("climb") || f.Shares("work") || f.Shares("none") {
		t.Error("climb shares positions, work does not")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("users:\n  ann: {token: x, attrs: {a: 1}}\ngroups: {g: {share: location}}\n"))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = users.Parse("users.yaml", text) })
}

// What a users file names and has not is told, with what may have been meant.
func TestStrangers(t *testing.T) {
	f, err := users.Parse("users.yaml", []byte("users:\n  ann: {contacts: [bob, bbo, zoe], groups: [climb]}\n  bob: {}\ngroups:\n  climb: {share: location}\n  clmib: {share: location}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`ann has the contact "bbo", who is no user; did you mean "bob"?`, `ann has the contact "zoe", who is no user`, `nobody is in the group "clmib"; did you mean "climb"?`}
	if got := f.Strangers(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
