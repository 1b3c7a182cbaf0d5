package conformance_test

import (
	"bufio"
	"net"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// A process that has no descriptor left says so, waits, and takes connections again
// when it has; who is in stays.
func TestOutOfDescriptorsRecovers(t *testing.T) {
	name, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `ulimit -n 40; exec "$0" serve --listen mqtt://127.0.0.1:0`, name)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait says how it ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("the broker ended with %v", err)
		}
	})
	address, full := make(chan string, 1), make(chan struct{}, 1000)
	go func() {
		listens, fails := regexp.MustCompile(`url=mqtt://(\S+)`), regexp.MustCompile(`accept failed.*too many open files`)
		for s := bufio.NewScanner(log); s.Scan(); {
			if m := listens.FindStringSubmatch(s.Text()); m != nil {
				address <- m[1]
			}
			if fails.MatchString(s.Text()) {
				select {
				case full <- struct{}{}:
				default:
				}
			}
		}
	}()
	wait := func(what string) {
		t.Helper()
		select {
		case <-full:
		case <-time.After(10 * time.Second):
			t.Fatal(what)
		}
	}
	var addr string
	select {
	case addr = <-address:
	case <-time.After(20 * time.Second):
		t.Fatal("the broker does not start")
	}
	connect := []byte("\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03abc")
	open := func() net.Conn {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() }) //nolint:errcheck // may be closed
		return nc
	}
	answered := func(nc net.Conn, send []byte, n int) {
		t.Helper()
		nc.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // then Read fails
		if _, err := nc.Write(send); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Read(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	first := open()
	answered(first, connect, 4)
	var held []net.Conn
	for range 60 {
		held = append(held, open())
	}
	wait("the log does not say that there are no descriptors left")
	answered(first, []byte{0xC0, 0}, 2)
	for _, nc := range held {
		nc.Close() //nolint:errcheck // it is only to be gone
	}
	answered(open(), append([]byte("\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03"), "xyz"...), 4)
}
