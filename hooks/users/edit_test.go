package users_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/geocast/geocast/hooks/users"
)

const (
	hashA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	phc   = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
)

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What A and B stand for in the rows.
var hashes = strings.NewReplacer("<A>", `"`+hashA+`"`, "<B>", `"`+hashB+`"`, "<P>", `"`+phc+`"`)

func TestEditKeepsTheRest(t *testing.T) {
	add := func(f string) error {
		return users.Add(f, "zoe", users.User{Token: hashB, Role: "driver", Groups: []string{"crew", "yes"}})
	}
	const zoe = "zoe: {token: <B>, role: driver, groups: [crew, \"yes\"]}"
	token := func(f string) error { return users.SetSecret(f, "ann", users.User{Token: hashB}) }
	password := func(f string) error { return users.SetSecret(f, "ann", users.User{Password: phc}) }
	remove := func(f string) error { return users.Remove(f, "ann") }
	for _, row := range []struct {
		name, before string
		change       func(string) error
		after        string
	}{
		{"add to nothing", "", add, "users:\n  " + zoe + "\n"},
		{"add to a comment", "# who\n", add, "# who\nusers:\n  " + zoe + "\n"},
		{"add to empty", "users:   # who\n", add, "users:   # who\n  " + zoe + "\n"},
		{"add to braces", "version: 1\nusers: {}\ngroups: {}\n", add, "version: 1\nusers:\n  " + zoe + "\ngroups: {}\n"},
		{"add behind the last", "users:\n    # the first\n    ann: {role: x}  # ann\n\n# groups\ngroups: {}\n", add, "users:\n    # the first\n    ann: {role: x}  # ann\n    " + zoe + "\n\n# groups\ngroups: {}\n"},
		{"add behind a block, no end of line", "users:\n  ann:\n    role: x\n    tags:\n      - a", add, "users:\n  ann:\n    role: x\n    tags:\n      - a\n  " + zoe + "\n"},
		{"add without users", "groups: {crew: {share: location}}\n", add, "groups: {crew: {share: location}}\nusers:\n  " + zoe + "\n"},
		{"token in braces", "users:\n  ann: {role: x, token: <A>, tags: [a]} # ann\n", token, "users:\n  ann: {role: x, token: <B>, tags: [a]} # ann\n"},
		{"token for a password in a block", "users:\n  ann:\n    # since May\n    password: " + phc + "  # old\n    role: x\n", token, "users:\n  ann:\n    # since May\n    token: <B>  # old\n    role: x\n"},
		{"password for a plain token", "users:\n  ann: {token: " + hashA + "}\n", password, "users:\n  ann: {password: <P>}\n"},
		{"password for nothing", "users:\n  ann:  # new\n  bob: {}\n", password, "users:\n  ann: {password: <P>}  # new\n  bob: {}\n"},
		{"password in empty braces", "users:\n  ann: {}\n", password, "users:\n  ann: {password: <P>}\n"},
		{"password in braces", "users:\n  ann: {role: x}\n", password, "users:\n  ann: {password: <P>, role: x}\n"},
		{"password in a block", "users:\n  ann:\n    role: x\n", password, "users:\n  ann:\n    password: <P>\n    role: x\n"},
		{"password behind other letters", "users:\n  ann: {role: Zürich, token: '" + hashA + "'}\n", password, "users:\n  ann: {role: Zürich, password: <P>}\n"},
		{"remove the first", "users:\n  ann:\n    role: x\n  # bob is new\n  bob: {}\n", remove, "users:\n  # bob is new\n  bob: {}\n"},
		{"remove the last", "users:\n  bob: {}\n  ann: {role: x,\n    tags: [a]}\n\n# groups\ngroups: {}\n", remove, "users:\n  bob: {}\n\n# groups\ngroups: {}\n"},
		{"remove the only one", "users:\n  ann: {}\n", remove, "users:\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := write(t, hashes.Replace(row.before))
			if err := row.change(f); err != nil {
				t.Fatal(err)
			}
			if got, want := read(t, f), hashes.Replace(row.after); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
		})
	}
}

func TestEditRefuses(t *testing.T) {
	for _, row := range []struct {
		name, text string
		change     func(string) error
		want       error
	}{
		{"who is there", "users: \n  ann: {}", func(f string) error { return users.Add(f, "ann", users.User{}) }, users.ErrExists},
		{"a secret of nobody", "users: \n  ann: {}", func(f string) error { return users.SetSecret(f, "eve", users.User{Token: hashA}) }, users.ErrUnknown},
		{"removal of nobody", "users: \n  ann: {}", func(f string) error { return users.Remove(f, "eve") }, users.ErrUnknown},
		{"users in braces", "users: {ann: {}}", func(f string) error { return users.Add(f, "bob", users.User{}) }, users.ErrByHand},
		{"a secret over two lines", "users:\n  ann:\n    token:\n      " + hashA, func(f string) error { return users.SetSecret(f, "ann", users.User{Token: hashB}) }, users.ErrByHand},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := write(t, row.text)
			if err := row.change(f); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
			if got := read(t, f); got != row.text {
				t.Errorf("the file has become\n%s", got)
			}
			if left, _ := os.ReadDir(filepath.Dir(f)); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Any valid names and words come back as they went in.
func TestEditQuotes(t *testing.T) {
	dir := t.TempDir()
	file := 0
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringOfN(rapid.RuneFrom([]rune("aZ09_.@-:,'\"\\{}[]!&*%|>?~=ë中$")), 1, 12, -1).
			Filter(func(s string) bool { return s[0] != '$' })
		file++
		f := filepath.Join(dir, fmt.Sprint(file))
		names := rapid.SliceOfNDistinct(word, 1, 5, rapid.ID).Draw(t, "names")
		role := word.Draw(t, "role")
		for _, n := range names {
			if err := users.Add(f, n, users.User{Token: hashA, Role: role, Tags: names}); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range names {
			if err := users.SetSecret(f, n, users.User{Password: phc}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := users.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if u, _ := got.User(n); u.Role != role || u.Password != phc || u.Token != "" || !slices.Equal(u.Tags, names) {
				t.Fatalf("%q is %+v", n, u)
			}
		}
		for _, n := range names {
			if err := users.Remove(f, n); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// No addition is lost when several programs add at once.
func TestEditorsTakeTurns(t *testing.T) {
	f := filepath.Join(t.TempDir(), "users.yaml")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := users.Add(f, fmt.Sprintf("u%d", i), users.User{Token: hashA}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := users.Load(f); err != nil || len(got.Names()) != 20 {
		t.Errorf("%v, %v", got.Names(), err)
	}
}
