package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Every command says what it is for, and has an example that its own flags take.
func TestEveryCommandHasAnExample(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"geocast.yaml", "users.yaml", "acl.yaml", "rules.yaml", "track.csv", "walk.gpx", "photo.jpg", "data/x", "my/geocast.yaml"} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(root, "examples"), filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, node := range parser(t).Model.Leaves(true) {
		name := strings.TrimPrefix(node.FullPath(), "geocast ")
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			if node.Help == "" {
				t.Error("no help")
			}
			lines := regexp.MustCompile(`(?m)geocast `+name+`\b[^\n|>&]*`).FindAllString(node.Detail, -1)
			if len(lines) == 0 {
				t.Fatalf("no example in\n%s", node.Detail)
			}
			for _, line := range lines {
				if args := words(t, line); args[0] == "geocast" {
					if _, err := parser(t).Parse(args[1:]); err != nil {
						t.Errorf("%s: %v", line, err)
					}
				}
			}
		})
	}
}

func parser(t *testing.T) *kong.Kong {
	t.Helper()
	p, err := newParser(new(cli))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// words are those of a line as a shell has them; what another command prints there is
// a number.
func words(t *testing.T, line string) []string {
	t.Helper()
	line = regexp.MustCompile(`\$\([^)]*\)`).ReplaceAllString(line, "1")
	out, err := exec.Command("sh", "-c", `printf '%s\n' `+line).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}
