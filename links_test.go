package geocast_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The program is built on what it says it is built on.
func TestLinks(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/geocast").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, want := range []string{"github.com/mochi-mqtt/server/v2/packets", "github.com/eclipse/paho.golang/paho",
		"github.com/dgraph-io/badger/v4", "github.com/tidwall/rtree", "github.com/geocast/geocast/rules"} {
		if !slices.Contains(deps, want) {
			t.Errorf("the program does not link %s", want)
		}
	}
}

// foreign is what belongs to the machine on which a file was written: its folders,
// and where its modules came from. (Written so that it does not match itself.)
var foreign = regexp.MustCompile(`(^|[\s"'=(:` + "`" + `])/(work|root|home/[a-z]+)/|proxy[.]golang|sum[.]golang|registry[.]npmjs|pypi[.]org|deb[.]debian|GOPROXY[=]`)

// No file tells of the machine on which it was written.
func TestFilesKnowNoMachine(t *testing.T) {
	out, err := exec.Command("git", "ls-files", "-z").Output()
	if err != nil {
		t.Skip("not in a git work tree: ", err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // deleted, and not committed yet
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := foreign.FindString(line); m != "" {
				t.Errorf("%s:%d: %q belongs to a machine", name, i+1, m)
			}
		}
	}
}
