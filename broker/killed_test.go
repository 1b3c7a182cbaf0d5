package broker_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/geocast/geocast/mqtt"
)

// P14: kill -9 at random points of starts and of stops; every message that was
// acknowledged is there at the end, in order.
func TestKillsDuringStartsAndStopsLoseNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	dir := t.TempDir()
	cmd, addr := child(t, dir)
	sub := dial(t, addr, mqtt.V5)
	sub.connect("sub", lasting)
	sub.subscribe("k", 1)
	sub.nc.Close()
	acked := 0
	say := func(n int) {
		t.Helper()
		p := dial(t, addr, mqtt.V5)
		p.connect("pub")
		for range n {
			p.publish("k", fmt.Sprint(acked), 1, 1)
			p.wantAck(mqtt.PUBACK, 1)
			acked++
		}
		p.nc.Close()
	}
	kill := func(cmd *exec.Cmd, within time.Duration) {
		time.Sleep(time.Duration(rnd.Int64N(int64(within))))
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it was killed
	}
	for range 20 { // of a folder that begins
		dir := t.TempDir()
		cmd := serving(dir, "127.0.0.1:0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill(cmd, 100*time.Millisecond)
		cmd, _ = child(t, dir)
		kill(cmd, time.Millisecond)
	}
	say(100)
	kill(cmd, time.Millisecond)
	for range 20 {
		cmd := serving(dir, "127.0.0.1:0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill(cmd, 150*time.Millisecond)
	}
	for range 20 {
		cmd, addr = child(t, dir)
		say(2)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		kill(cmd, 60*time.Millisecond)
	}
	_, addr = child(t, dir)
	drain(t, addr, 0, acked, acked)
}
