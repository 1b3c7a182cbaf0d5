// Package examples_test builds and runs every example, against the broker's own
// program where it needs one, and looks at what it prints.
package examples_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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
	{"geocast demo --once --pause 1ms --listen 127.0.0.1:0", false, []string{`carol  #1 .*bus-4836 is at Petherick Road`, `dave's phone goes off`, `kill -9 \d+`,
		`The broker ended \(signal: killed\)`, `msg=restored sessions=6 `, `dave's phone comes on`, `chat .*carol writes: "Can you take the 16:40\?"`,
		`carol +27 +27 +0 +0 +0\n`, `dave +31 +31 +0`, `ann +11 +11 +0`, `ben +6 +6 +0`, `zed +0 +0 +0`, `eve +0 +0 +0`, `Nothing that was acknowledged is missing`}},
	{"phone", true, []string{`ann is online, session present: false`, `ann got #1 msg from bob: hello`, `ann is offline`,
		`ann is online, session present: true`, `ann got #2 msg from bob: are you there\?`, `bob got #\d+ msg from ann: yes`}},
	{"phone", true, []string{`bob sees users/ann/location: \{.*"lat":48.2082,`}},
	{"tracker", true, []string{`van-7 sent 7 fixes in one message`, `the follower got \{.*"lat":48.25,`, `the follower got \{.*"lat":48.421875,`}},
	{"embed", false, []string{`thief: .*\(no such token\)`, `hot: .*a temperature is a number`, `display got sensors/attic/celsius: 21.5`,
		`the journal:`, `display came`, `thermometer published 21.5 to sensors/attic/celsius`}},
	{"mochi", false, []string{`mum got users/mum/inbox: \{.*"rule":"school-out","event":"exit","zone":"school","who":"tim".*"lat":48.212,`}},
}

// build builds the program and the examples, and returns their folder.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "../cmd/geocast", "./phone", "./tracker", "./embed", "./mochi")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func TestExamples(t *testing.T) {
	dir := build(t)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			args := strings.Fields(row.name)
			if row.broker {
				args = append(args, "-url", serve(t, filepath.Join(dir, "geocast")))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, filepath.Join(dir, args[0]), args[1:]...).CombinedOutput()
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

// A Ctrl-C in the middle ends the demo and its broker, with 1: nothing was checked.
func TestDemoEndsAtOnce(t *testing.T) {
	program := filepath.Join(build(t), "geocast")
	cmd := exec.Command(program, "demo", "--listen", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	broker := ""
	for s := bufio.NewScanner(out); s.Scan(); {
		if pid, ok := strings.CutPrefix(s.Text(), "  broker| process "); ok {
			broker = pid
		}
		if strings.HasPrefix(s.Text(), "  carol  #") {
			cmd.Process.Signal(os.Interrupt) //nolint:errcheck // Wait says how it ended
		}
	}
	if exit := new(exec.ExitError); !errors.As(cmd.Wait(), &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
	if pid, err := strconv.Atoi(broker); err != nil || syscall.Kill(pid, 0) == nil {
		t.Errorf("the broker %q goes on", broker)
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
