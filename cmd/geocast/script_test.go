package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test's binary be the program, too: for the scripts, and where the
// program starts itself (demo, bench), which would else run the tests again, and again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") && filepath.Base(os.Args[0]) != "geocast" {
		os.Exit(run(os.Args[1:]))
	}
	testscript.Main(m, map[string]func(){"geocast": func() { os.Exit(run(os.Args[1:])) }})
}

// Sessions of an operator: testdata/script holds what is typed, and what must come
// of it.
func TestSessions(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"port": setPorts, "retry": retry, "cert": cert, "save": save, "await": await, "exits": exits, "signal": send,
	}})
}

// setPorts sets variables to ports that are free: port NAME...
func setPorts(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close()
		ts.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
}

// save sets a variable to what the last command printed: save NAME
func save(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// await asks until the answer is the expected one: await URL STATUS, or
// await NETWORK:ADDRESS until it takes a connection.
func await(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, err := ask(args[0])
		if err == nil && (len(args) < 2 || got == args[1]) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s: %s, %v", args[0], got, err)
		}
	}
}

func ask(url string) (status string, err error) {
	if address, ok := strings.CutPrefix(url, "tcp:"); ok {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			err = c.Close()
		}
		return "", err
	}
	r, err := http.Get(url)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(io.Discard, r.Body)
	return strconv.Itoa(r.StatusCode), errors.Join(err, r.Body.Close())
}

// exits runs a command that must end with a code: exits CODE COMMAND...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// send sends a signal to the commands in the background, or those with an argument:
// signal HUP|TERM|KILL [ARGUMENT]
func send(ts *testscript.TestScript, _ bool, args []string) {
	s := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[args[0]]
	for _, c := range ts.BackgroundCmds() {
		if len(args) < 2 || slices.Contains(c.Args, args[1]) {
			ts.Check(c.Process.Signal(s))
		}
	}
}

// cert makes a certificate of localhost that signs itself: cert CERT KEY
func cert(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(makePair(ts.MkAbs(args[0]), ts.MkAbs(args[1]), "localhost"))
}

// retry runs a command until it succeeds: retry COMMAND...
func retry(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%v", err)
		}
	}
}
