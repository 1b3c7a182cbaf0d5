package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/geocast/geocast/hooks"
	"github.com/geocast/geocast/hooks/users"
)

// runIn runs the program with a standard input, and returns its standard output.
func runIn(t *testing.T, input string, args ...string) (out string, code int) {
	t.Helper()
	in, err := os.CreateTemp(t.TempDir(), "in")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.WriteString(input); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	result, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	oldIn, oldOut := os.Stdin, os.Stdout
	os.Stdin, os.Stdout = in, result
	defer func() { os.Stdin, os.Stdout = oldIn, oldOut }()
	code = run(args)
	text, err := os.ReadFile(result.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), code
}

func TestUsersCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users.yaml")
	must := func(input string, args ...string) string {
		t.Helper()
		out, code := runIn(t, input, append([]string{"users"}, append(args, "--users", file)...)...)
		if code != 0 {
			t.Fatalf("%v exits with %d", args, code)
		}
		return strings.TrimSpace(out)
	}
	signsIn := func(name, secret string) bool {
		t.Helper()
		f, err := users.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Authenticate(t.Context(), &hooks.Credentials{Username: name, HasUsername: true, Password: []byte(secret), HasPassword: true})
		return err == nil
	}
	token := must("", "add", "ann", "--role", "driver", "--group", "crew", "--group", "night")
	must("s3cret\n", "add", "bob", "--password")
	if len(token) < 26 || !signsIn("ann", token) || !signsIn("bob", "s3cret") {
		t.Fatalf("ann's token is %q", token)
	}
	must("other\n", "passwd", "bob")
	second := must("", "passwd", "ann", "--token")
	if signsIn("ann", token) || !signsIn("ann", second) || signsIn("bob", "s3cret") || !signsIn("bob", "other") {
		t.Fatal("the old secrets still hold, or the new ones don't")
	}
	want := `{"name":"ann","signs_in":"token","role":"driver","groups":["crew","night"]}` + "\n" + `{"name":"bob","signs_in":"password"}`
	if got := must("", "list", "--json"); got != want {
		t.Errorf("list says %s, want %s", got, want)
	}
	if got := must("", "list"); !strings.Contains(got, "driver") || strings.Contains(got, "sha256") {
		t.Errorf("list says %s", got)
	}
	must("", "rm", "ann")
	if signsIn("ann", second) {
		t.Error("ann is still there")
	}
	for _, args := range [][]string{{"add", "bob"}, {"add", "a/b"}, {"rm", "ann"}, {"passwd", "ann", "--token"}, {"add", "eve", "--password"}, {"add", "x", "--token", "--password"}} {
		if _, code := runIn(t, "", append([]string{"users"}, append(args, "--users", file)...)...); code != 2 {
			t.Errorf("%v exits with %d", args, code)
		}
	}
}
