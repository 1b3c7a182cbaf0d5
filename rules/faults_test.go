package rules_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/geocast/geocast/rules"
)

// TestFaults runs testdata/faults/*.txtar: a rules.yaml and the faults it must have, all of them, one a line.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			fsys, at := fstest.MapFS{}, -1
			for i, f := range archive.Files {
				fsys[f.Name] = &fstest.MapFile{Data: f.Data}
				if f.Name == "faults" {
					at = i
				}
			}
			set, err := rules.Parse("rules.yaml", fsys["rules.yaml"].Data, fsys)
			if err == nil {
				t.Fatal("no faults")
			}
			if set != nil {
				t.Error("a set came with the faults")
			}
			var faults rules.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("the error is %T", err)
			}
			got := err.Error() + "\n"
			if *rewrite {
				archive.Files[at].Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(archive.Files[at].Data); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}
