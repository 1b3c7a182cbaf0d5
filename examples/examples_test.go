// Package examples_test builds and runs every example, against the broker's own
// program where it needs one, and looks at what it prints.
package examples_test

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var rows = []struct {
	name   string
	broker bool
	want   []string // in this order
}{
	{"phone", true, []string{`ann is online, session present: false`, `ann got #1 msg from bob: hello`, `ann is offline`,
		`ann is online, session present: true`, `ann got #2 msg from bob: are you there\?`, `bob got #\d+ msg from ann: yes`}},
	{"phone", true, []string{`bob sees users/ann/location: \{.*"lat":48.2082,`}},
	{"tracker", true, []string{`van-7 sent 7 fixes in one message`, `the follower got \{.*"lat":48.25,`, `the follower got \{.*"lat":48.421875,`}},
	{"embed", false, []string{`thief: .*\(no such token\)`, `hot: .*a temperature is a number`, `display got sensors/attic/celsius: 21.5`,
		`the journal:`, `display came`, `thermometer published 21.5 to sensors/attic/celsius`}},
	{"mochi", false, []string{`mum got users/mum/inbox: \{.*"rule":"school-out","event":"exit","zone":"school","who":"tim".*"lat":48.212,`}},
}

func TestExamples(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "../cmd/geocast", "./phone", "./tracker", "./embed", "./mochi")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var args []string
			if row.broker {
				args = []string{"-url", serve(t, filepath.Join(dir, "geocast"))}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, filepath.Join(dir, row.name), args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			rest := string(out)
			for _, want := range row.want {
				at := regexp.MustCompile(want).FindStringIndex(rest)
				if at == nil {
					t.Fatalf("no %s, or not in its place, in:\n%s", want, out)
				}
				rest = rest[at[1]:]
			}
			t.Logf("%s\n%s", row.name, out)
		})
	}
}

var listening = regexp.MustCompile(`url=(mqtt://\S+)`)

// serve starts the program on a free port and returns its URL.
func serve(t *testing.T, program string) string {
	t.Helper()
	cmd := exec.Command(program, "serve", "--data", t.TempDir(), "--listen", "mqtt://127.0.0.1:0")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(log); s.Scan(); {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait says how it ended
		var last []string
		for l := range lines {
			last = append(last, l)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the broker ended with %v:\n%s", err, strings.Join(last, "\n"))
		}
	})
	for l := range lines {
		if m := listening.FindStringSubmatch(l); m != nil {
			return m[1]
		}
	}
	t.Fatal("the broker does not start")
	return ""
}
