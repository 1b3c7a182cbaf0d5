package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/geocast/geocast/broker"
	"github.com/geocast/geocast/mqtt"
	"github.com/geocast/geocast/store"
)

// TestMain lets the test binary be the broker that a test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("GEOCAST_TEST_SERVE"); dir != "" {
		debug.SetMemoryLimit(480 << 20) // as the program does
		percent := debug.SetGCPercent(-1)
		b, err := broker.New(broker.Config{Data: dir, Log: quiet, Hooks: []any{teller{}, boom{}}})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		debug.SetGCPercent(percent)
		debug.FreeOSMemory()
		addr, err := b.Listen("mqtt://" + os.Getenv("GEOCAST_TEST_LISTEN"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(addr)
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := b.Serve(ctx); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if listen := os.Getenv("GEOCAST_TEST_FAIL"); listen != "" {
		fmt.Println(serveOnAFailingDisk(listen))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveOnAFailingDisk serves until the first commit, whose fsync fails.
func serveOnAFailingDisk(listen string) error {
	st := store.NewMemory()
	st.FailNext(errors.New("fsync: input/output error"))
	b, err := broker.NewOver(broker.Config{Log: slog.New(slog.NewTextHandler(os.Stdout, nil))}, st)
	if err != nil {
		return err
	}
	if _, err := b.Listen("mqtt://" + listen); err != nil {
		return err
	}
	return b.Serve(context.Background())
}

// P13: a failed fsync acknowledges nothing and ends the process with a message
// that says what failed.
func TestAFailedSyncEndsTheProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() //nolint:errcheck // its port is free now
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GEOCAST_TEST_FAIL="+l.Addr().String())
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() }) //nolint:errcheck // it has ended
	p := peer{id: "p", addr: l.Addr(), v: mqtt.V311, rnd: rand.New(rand.NewPCG(1, 1)), clean: true}
	if err := p.dial(10); err != nil {
		t.Fatal(err)
	}
	if err := p.send(mqtt.AppendPublish(nil, &mqtt.Publish{Topic: []byte("kept"), Payload: []byte("x"), QoS: 1, ID: 1, Retain: true}, p.v)); err != nil {
		t.Fatal(err)
	}
	if first, _, err := p.read(); err == nil {
		t.Errorf("got %v, want nothing", mqtt.Type(first>>4))
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the process ended with %v", err)
	}
	if s := out.String(); !strings.Contains(s, "the store has failed") || !strings.Contains(s, "fsync: input/output error") {
		t.Errorf("it says:\n%s", s)
	}
}

// child starts a broker in a process of its own.
func child(t testing.TB, dir string) (*exec.Cmd, net.Addr) { return childAt(t, dir, "127.0.0.1:0") }

// serving is a process of a broker over dir, to be started.
func serving(dir, listen string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GEOCAST_TEST_SERVE="+dir, "GEOCAST_TEST_LISTEN="+listen)
	return cmd
}

func childAt(t testing.TB, dir, listen string) (*exec.Cmd, net.Addr) {
	t.Helper()
	cmd := serving(dir, listen)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) //nolint:errcheck // it may have been killed already
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr, err := net.ResolveTCPAddr("tcp", line[:len(line)-1])
	if err != nil {
		t.Fatalf("the child says %q", line)
	}
	return cmd, addr
}

// P1, P2, P14: kill -9 while a publisher has messages in flight; after a restart
// every acknowledged message reaches its offline subscriber, in order.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acked := 0 // messages acknowledged over all rounds; the next payload
	for round := range 5 {
		cmd, addr := child(t, dir)
		if round == 0 {
			sub := dial(t, addr, mqtt.V5)
			sub.connect("sub", lasting)
			sub.subscribe("k", 1)
			sub.nc.Close()
		}
		p := dial(t, addr, mqtt.V311)
		p.connect("pub")
		kill := time.AfterFunc(time.Duration(20+30*round)*time.Millisecond, func() { cmd.Process.Kill() }) //nolint:errcheck // it runs
		start, sent := acked, acked
		for {
			for sent < acked+16 {
				b := mqtt.AppendPublish(nil, &mqtt.Publish{Topic: []byte("k"), Payload: fmt.Append(nil, sent), QoS: 1, ID: uint16(sent-start)%60000 + 1}, mqtt.V311)
				if _, err := p.nc.Write(b); err != nil {
					break
				}
				sent++
			}
			if _, _, err := p.next(5 * time.Second); err != nil {
				break
			}
			acked++
		}
		kill.Stop()
		cmd.Wait() //nolint:errcheck // it was killed
		cmd, addr = child(t, dir)
		drain(t, addr, start, acked, sent)
		acked = sent
		cmd.Process.Kill() //nolint:errcheck // the next round starts another
		cmd.Wait()         //nolint:errcheck // it was killed
	}
}

// drain reads the queue: all of from..acked in order, then perhaps some of those
// that were sent and not acknowledged; a redelivery may only go back, with DUP.
func drain(t *testing.T, addr net.Addr, from, acked, sent int) {
	t.Helper()
	sub := dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting)
	next := from
	for {
		first, body, err := sub.next(300 * time.Millisecond)
		if err != nil {
			break
		}
		var p mqtt.Publish
		if err := p.Decode(first, body, mqtt.V5); err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(string(p.Payload))
		if err != nil || n > next || n >= sent {
			t.Fatalf("got message %d, want %d of %d acknowledged, %d sent", n, next, acked, sent)
		}
		if n == next {
			next++
		}
		sub.ack(mqtt.PUBACK, p.ID)
	}
	if next < acked {
		t.Fatalf("the queue ended at %d; %d were acknowledged", next, acked)
	}
	sub.quiet() // the last acknowledgements are taken
	t.Logf("%d acknowledged, %d found", acked-from, next-from)
}
