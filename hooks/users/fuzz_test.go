package users_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/geocast/geocast/hooks/users"
	"github.com/geocast/geocast/strictyaml"
)

// Whatever stands in a users file: it is read, or refused at a place of it; and an
// edit that can't keep the rest leaves the file as it was.
func FuzzEdit(f *testing.F) {
	f.Add([]byte("users:\n  ann: {role: x} # ann\n"), "zoe")
	f.Add([]byte("users: {ann: {}, bob: }\ngroups: {g: {share: location}}"), "ann")
	f.Add([]byte("# who\nusers:\n    ann:\n      tags: [a,\n b]\n\n  # c\n"), "é")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		before, err := users.Parse("users.yaml", text)
		if _, ok := errors.AsType[*strictyaml.Fault](err); err != nil && !ok {
			t.Fatalf("%T: %v", err, err)
		}
		if err != nil {
			return
		}
		file := filepath.Join(t.TempDir(), "users.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		failed := users.Add(file, name, users.User{Token: hashA})
		now, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if failed != nil {
			if string(now) != string(text) {
				t.Errorf("%v, and the file is changed to\n%s", failed, now)
			}
			return
		}
		after, err := users.Parse("users.yaml", now)
		if err != nil || len(after.Names()) != len(before.Names())+1 {
			t.Fatalf("%d users became %v: %v\n%s", len(before.Names()), after, err, now)
		}
		if err := users.Remove(file, name); err != nil && !errors.Is(err, users.ErrByHand) {
			t.Errorf("what was added can't be removed: %v\n%s", err, now)
		}
	})
}
