package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/geocast/geocast/hooks/users"
)

// starter are the files of a new installation; {{…}} is filled in.
//
//go:embed starter
var starter embed.FS

// starterNames are the files in the order in which they are written.
var starterNames = []string{"geocast.yaml", "users.yaml", "acl.yaml", "rules.yaml"}

type initCmd struct {
	Dir string `arg:"" help:"Folder to write into; it is made if it is not there." type:"path"`
}

// Help shows an example.
func (initCmd) Help() string {
	return `Example:
  geocast init ./my && geocast serve -c ./my/geocast.yaml

Writes geocast.yaml, users.yaml, acl.yaml and rules.yaml with comments, and prints the token of the first user, admin, once.
No file that is there is touched.`
}

// next says what to do after init, with the program as it was called: it need not be
// in PATH. The last line raises the event came-home of the rules.
const next = `
The token of user admin, shown this once: %[1]s

Next, in three terminals: the broker, who listens, and who comes home:
  %[3]s serve -c %[2]s
  %[3]s sub -u admin -P %[1]s -i laptop -q 1 -t users/admin/inbox
  %[3]s pub -u admin -P %[1]s -i phone -q 1 -t users/admin/location -m '{"lat":48.2082,"lon":16.3738}'
`

// Run writes the files.
func (c *initCmd) Run() error {
	token, stored := users.NewToken()
	files, err := starterFiles(stored)
	if err != nil {
		return err
	}
	for _, name := range starterNames {
		if _, err := os.Lstat(filepath.Join(c.Dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return usageError{fmt.Errorf("%s is there already; nothing was written", filepath.Join(c.Dir, name))}
		}
	}
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return err
	}
	for _, name := range starterNames {
		if err := writeNew(filepath.Join(c.Dir, name), files[name]); err != nil {
			return err
		}
		fmt.Println("wrote", filepath.Join(c.Dir, name))
	}
	fmt.Printf(next, token, filepath.Join(c.Dir, "geocast.yaml"), os.Args[0])
	return nil
}

func starterFiles(token string) (map[string]string, error) {
	files := make(map[string]string)
	entries, err := starter.ReadDir("starter")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		text, err := starter.ReadFile("starter/" + e.Name())
		if err != nil {
			return nil, err
		}
		files[e.Name()] = strings.ReplaceAll(string(text), "{{token}}", token)
	}
	return files, nil
}

// writeNew writes a file that must not be there, readable to its owner only.
func writeNew(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}
