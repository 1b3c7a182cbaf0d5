package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

// stuck takes nothing until it is let go.
type stuck struct {
	bytes.Buffer
	let chan struct{}
}

func (s *stuck) Write(b []byte) (int, error) {
	<-s.let
	return s.Buffer.Write(b)
}

// A log that nobody reads delays nobody; what did not fit is counted, all else comes
// in order.
func TestLogNobodyReadsDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stuck{let: make(chan struct{})}
		w := newLogWriter(out, slog.New(slog.NewTextHandler(out, nil)))
		for i := range 2 * logLines {
			fmt.Fprintf(w, "line %d\n", i)
		}
		close(out.let)
		synctest.Wait()
		fmt.Fprintf(w, "the last\n")
		w.close()
		fmt.Fprintf(w, "after the end\n")
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		kept, lost := 0, 0
		for _, line := range got {
			if strings.HasPrefix(line, "line ") {
				kept++
			}
			if _, count, ok := strings.Cut(line, "log lines were dropped: the log is not read fast enough\" lines="); ok {
				n, err := strconv.Atoi(count)
				if err != nil {
					t.Error(err)
				}
				lost += n
			}
		}
		if got[len(got)-2] != "the last" || got[len(got)-1] != "after the end" || kept < logLines || kept+lost != 2*logLines {
			t.Errorf("%d lines and %d dropped of %d; %s … %s", kept, lost, 2*logLines, got[0], got[len(got)-1])
		}
	})
}

// The service manager is told, if there is one.
func TestServiceManagerIsTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify("READY=1"); err != nil {
		t.Error(err)
	}
	name := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	if err := notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 99)
	if n, err := l.Read(b); err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("told %q, %v", b[:n], err)
	}
}
